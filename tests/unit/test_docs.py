"""What the documents say exists: links, commands, addresses, settings, metrics, and the bodies of their examples."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
import typer.main
from pydantic import BaseModel

from gateway import telemetry
from gateway.carriers.receipts import ReceiptsIn, RepliesIn
from gateway.cli import app
from gateway.contract.codes import Code
from gateway.contract.complaint import ComplaintRequest
from gateway.contract.consent import ConsentRequest, RelationshipRequest, WithdrawRequest
from gateway.contract.form import FormDraft
from gateway.contract.message import BatchRequest, SendRequest
from gateway.edge.app import openapi_document

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("loadtests/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
OTHERS = {"evicted_keys", "used_memory", "sent_at_ms"}
"""Names of Redis that our code never spells, and an example."""
BODIES: dict[str, type[BaseModel]] = {
    r"/v1/messages(/check)?": SendRequest,
    r"/v1/messages/batch": BatchRequest,
    r"/v1/complaints": ComplaintRequest,
    r"/v1/consents": ConsentRequest,
    r"/v1/forms": FormDraft,
    r"/v1/relationships": RelationshipRequest,
    r"/v1/recipients/[^/]+/withdraw": WithdrawRequest,
    r"/v1/carriers/\w+/receipts": ReceiptsIn,
    r"/v1/carriers/\w+/replies": RepliesIn,
}


class Block(NamedTuple):
    """A fenced block: its language, text, and where it stands."""

    page: str
    line: int
    language: str
    text: str


def blocks(name: str) -> Iterator[Block]:
    found: list[str] | None = None
    language, began = "", 0
    for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
        if not line.startswith("```"):
            if found is not None:
                found.append(line)
        elif found is None:
            found, language, began = [], line[3:], number
        else:
            yield Block(name, began, language, "\n".join(found))
            found = None
    assert found is None, f"{name}:{began}: the block never ends"


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


def words(name: str) -> str:
    """What a page says as code: fenced blocks that are not output, and `spans`."""
    commands = [block.text for block in blocks(name) if block.language not in {"json", "http"}]
    return "\n".join([*commands, *re.findall(r"`([^`\n]+)`", prose(name))])


@cache
def source() -> str:
    """Everything the code says, in one text."""
    folders = ("gateway", "deploy", "loadtests", "schemas", "tests")
    kinds = {".py", ".lua", ".sql", ".toml", ".yaml", ".example"}
    paths = [path for folder in folders for path in ROOT.joinpath(folder).rglob("*") if path.suffix in kinds]
    return "\n".join(path.read_text() for path in [*paths, ROOT / "Makefile"] if path != Path(__file__))


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose(str(page.relative_to(ROOT))), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / unquote(path)).resolve() if path else page
        lost = there.suffix == ".md" and anchor and there.exists() and anchor not in anchors(there)
        if not there.exists() or lost:
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|[;&\s])make ([a-z][a-z-]*)\b", words(name), re.MULTILINE))
    assert named <= targets


def commands() -> dict[str, Any]:
    """Each command's path of words, and its options."""
    found: dict[str, Any] = {}

    def walk(command: Any, path: str) -> None:
        found[path] = {option for one in command.params for option in one.opts}
        for word, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {word}".strip())

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_named_exists(name: str) -> None:
    known = commands()
    for line in words(name).splitlines():
        for said in re.findall(r"(?:^|\s)assent ((?:[a-z][a-z-]*\s?)+)?((?:.*))$", line.split("#")[0]):
            path = said[0].split()
            while path and " ".join(path) not in known:
                path.pop()
            assert path or not said[0], f"{name}: assent {said[0]}"
            options = set(re.findall(r"(?:^|\s)(--[a-z-]+)", said[1]))
            assert options <= known[" ".join(path)] | {"--help"}, f"{name}: {line}"


@cache
def operations() -> list[tuple[str, re.Pattern[str]]]:
    """Method and path of every operation, as a pattern that a written address fits."""
    document = openapi_document()
    return [
        (method.upper(), re.compile(re.sub(r"\{[^}]+\}", r"[^/]+", path)))
        for path, item in document["paths"].items()
        for method in item
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_address_named_exists(name: str) -> None:
    known = operations()
    said = re.findall(
        r"(?:\b(GET|POST|PUT|DELETE) )?(?:http://[\w.:]+)?(/(?:v1/[^\s`'\"?,;)]*|healthz|readyz|metrics))", words(name)
    )
    unknown = [
        f"{method} {path}"
        for method, path in said
        if not path.endswith(("…", "*"))
        and not any((not method or method == verb) and pattern.fullmatch(path) for verb, pattern in known)
    ]
    assert not unknown


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_and_metric_named_exists(name: str) -> None:
    text = words(name)
    settings = set(re.findall(r"\bASSENT_[A-Z_]*[A-Z]\b", text))
    fields = set(re.findall(r"^    (\w+): ", (ROOT / "gateway/settings.py").read_text(), re.MULTILINE))
    assert {one for one in settings if one not in source() and one[7:].lower() not in fields} == set()
    metrics = {metric.name for metric in telemetry.metrics()}
    assert set(re.findall(r"\bassent_[a-z_]+\b", text)) <= metrics


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_text_are_names_in_the_code(name: str) -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", prose(name)))
    assert {one for one in named if one not in source()} - OTHERS == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_code_named_is_of_the_closed_set(name: str) -> None:
    said = re.findall(r"\b[45]\d\d `([a-z_]+(?:\.[a-z_]+)*)`", (ROOT / name).read_text())
    said += re.findall(r'"code":"([a-z_]+\.[a-z_.]+)"', (ROOT / name).read_text())
    assert set(said) <= {code.value for code in Code}


RUNNABLE = [block for name in NAMES for block in blocks(name) if block.language == "sh"]


@pytest.mark.parametrize("block", RUNNABLE, ids=[f"{block.page}:{block.line}" for block in RUNNABLE])
def test_shell_blocks_parse_and_their_bodies_fit(block: Block) -> None:
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True, timeout=10)
    if "curl " not in block.text:
        return
    assert not re.search(r"^\s*(?!ID=|curl |-|\{|\}|\"|\s)\S", block.text, re.MULTILINE), "only curl is run here"
    said = subprocess.run(
        ["sh", "-euc", "curl() { printf '%s\\0' \"$@\"; printf '\\n\\0'; }\n" + block.text],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout
    for call in said.split("\n\0"):
        words = call.split("\0")
        url = next((word for word in words if word.startswith("http://")), None)
        if url is None or "-d" not in words:
            continue
        model = next(one for path, one in BODIES.items() if re.fullmatch(path, urlsplit(url).path))
        model.model_validate_json(words[words.index("-d") + 1])


def test_what_compose_asks_for_the_example_gives() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy/compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (ROOT / "deploy/env.example").read_text(), re.MULTILINE))
    assert asked == given
