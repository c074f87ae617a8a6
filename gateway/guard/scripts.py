"""The Lua scripts, put together from their files: what each includes is declared here and nowhere else."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INCLUDES = {
    "admit": ("permission", "windows", "record", "writing"),
    "bind": ("writing",),
    "check": ("permission", "windows"),
    "claim": ("permission", "windows", "record", "refund", "writing"),
    "void": ("windows", "record", "refund"),
    "mark": ("record", "writing"),
    "restore": ("windows", "record"),
}


class Script(NamedTuple):
    """A script's text and the SHA-1 under which a server knows it."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """One script with what it includes in front of it."""
    folder = files("gateway.guard") / "lua"
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in (*_INCLUDES.get(name, ()), name)]
    text = "\n".join(parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
