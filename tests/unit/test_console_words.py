"""The console's words are the same in each language, its colours can be read, its figures are written for people."""

import re
from pathlib import Path

import pytest

from gateway.console import figures
from gateway.console.pages import PAGES
from gateway.console.wording import LANGUAGES, preferred, words
from gateway.contract.codes import Code
from gateway.contract.complaint import OUTCOMES, SOURCES, CaseAct, CaseState, Matching
from gateway.contract.consent import EventKind
from gateway.contract.console import May, Role
from gateway.contract.decision import Basis, Cause, Class, Reason, Status
from gateway.records import users
from gateway.rules import passwords
from gateway.rules.cleansing import Category, Choice

ROOM = Path(__file__).parents[2] / "gateway" / "console"


def test_every_key_is_said_in_every_language_with_the_same_values() -> None:
    said = {lang: words(lang) for lang in LANGUAGES}
    keys = said["zh"].keys()
    assert all(one.keys() == keys for one in said.values())
    for key in keys:
        assert len({frozenset(re.findall(r"\{(\w+)", one[key])) for one in said.values()}) == 1, key
        assert all(one[key].strip() for one in said.values()), key


def test_every_key_that_the_code_names_is_there_and_every_key_is_named() -> None:
    source = "\n".join(path.read_text("utf-8") for path in [*ROOM.rglob("*.py"), *ROOM.rglob("*.html")])
    keys = words("zh").keys()
    named = set(re.findall(r"""\bt(?:old)?(?:\[|\()["']([a-z0-9_]{2,}[a-z0-9])["']""", source))
    assert named <= keys, named - keys
    assert {page.title for page in PAGES} <= keys
    for key in keys:
        whole = f'"{key}"' in source
        starts = [key[: n + 1] for n, letter in enumerate(key) if letter == "_"]
        made = any(f'"{start}"' in source or f'f"{start}{{' in source for start in starts)
        assert whole or made, f"nobody says {key}"
    assert {f"role_{role}" for role in Role} <= keys
    assert {f"act_{act}" for act in re.findall(r"'(\w+)'", _acts())} <= keys


def test_everything_that_the_gateway_names_has_words() -> None:
    """A kind, a status or a code of another room that has none would stand in a page as it is written in the code."""
    kinds = set(re.findall(r'kind="([a-z_.]+)"|= "((?:case|complaints)\.[a-z_]+)"', _raised()))
    named = {
        "status": [one.value for one in Status], "cause": [one.value for one in Cause],
        "class": [one.value for one in Class], "basis": [one.value for one in Basis],
        "reason": [one.name.lower() for one in Reason], "event": [one.value for one in EventKind],
        "code": [one.value for one in Code], "case": [one.value for one in CaseState],
        "act_case": [one.value for one in CaseAct], "match": [one.value for one in Matching],
        "outcome": list(OUTCOMES), "source": list(SOURCES), "group": [one.word for one in Category],
        "choice": [one.value for one in Choice], "alert": ["".join(one) for one in kinds],
    }  # fmt: skip
    assert {"breaker.open", "breaker.warn", "case.overdue", "complaints.file_missing"} <= set(named["alert"])
    keys = words("zh").keys()
    wanted = {f"{kind}_{value.replace('.', '_')}" for kind, values in named.items() for value in values}
    assert wanted <= keys, wanted - keys


def _raised() -> str:
    """Where alerts are raised."""
    rooms = (ROOM.parent / "settle", ROOM.parent / "assemble")
    return "\n".join(path.read_text("utf-8") for room in rooms for path in room.glob("*.py"))


def _acts() -> str:
    sql = (ROOM.parent / "records/migrations/0021_console.sql").read_text("utf-8")
    return sql[sql.index("act IN") : sql.index("by   text")]


@pytest.mark.parametrize(
    ("accept", "lang"),
    [
        ("", "zh"),
        ("en", "en"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr, zh-TW;q=0.8, en;q=0.5", "zh"),
        ("de", "zh"),
        ("en;q=0", "zh"),
        ("en;q=x, *", "zh"),
    ],
)
def test_the_language_is_the_one_liked_best(accept: str, lang: str) -> None:
    assert preferred(accept) == lang


# --- colours -----------------------------------------------------------------------------------------------------

TEXT = [
    ("ink", "ground"), ("ink", "surface"), ("quiet", "ground"), ("quiet", "surface"), ("accent", "surface"),
    ("accent", "ground"), ("on-accent", "accent"), ("surface", "bad"), ("bad", "bad-ground"), ("ink", "bad-ground"),
    ("warn", "warn-ground"), ("ink", "warn-ground"), ("good", "good-ground"), ("good", "surface"), ("bad", "surface"),
    ("surface", "good"),
]  # fmt: skip
SHAPES = [
    ("edge", "surface"), ("edge", "ground"), ("focus", "ground"), ("focus", "surface"), ("series-1", "surface"),
    ("series-2", "surface"), ("series-3", "surface"), ("accent", "ground"),
]  # fmt: skip


def palette(selector: str) -> dict[str, tuple[float, ...]]:
    css = (ROOM / "static/console.css").read_text("utf-8")
    block = css[css.index(selector) :].split("}")[0]
    found = re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
    return {name: tuple(int(value[n : n + 2], 16) / 255 for n in (0, 2, 4)) for name, value in found}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2.2's ratio."""

    def light(colour: tuple[float, ...]) -> float:
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root {", "body.body--dark {"])
def test_text_and_shapes_can_be_told_from_their_ground(theme: str) -> None:
    colours = palette(theme)
    poor = [(*pair, round(contrast(*(colours[one] for one in pair)), 2)) for pair in TEXT
            if contrast(*(colours[one] for one in pair)) < 4.5]  # fmt: skip
    poor += [(*pair, round(contrast(*(colours[one] for one in pair)), 2)) for pair in SHAPES
             if contrast(*(colours[one] for one in pair)) < 3]  # fmt: skip
    assert poor == []


def test_the_plain_pages_are_dark_in_the_same_colours() -> None:
    dark, plain = palette("body.body--dark {"), palette("body.plain {")
    assert plain
    assert all(dark[name] == value for name, value in plain.items())


# --- figures, roles, passwords -----------------------------------------------------------------------------------


def test_figures() -> None:
    assert figures.ppm_text(figures.ppm(3, 1000)) == "3,000\u00a0ppm"
    assert figures.ppm_text(figures.ppm(0, 0)) == "–"
    shares = ((1, 3), (0, 7), (7, 7), (2_000, 2_001), (1, 100_000))
    told = [figures.percent(*share).replace("\u00a0", " ") for share in shares]
    assert told == ["33.3 %", "0.0 %", "100.0 %", "> 99.9 %", "< 0.1 %"], "who was refused is not everybody"
    assert figures.count(None) == "–"
    assert [figures.ceiling(value) for value in (0, 0.9, 1250, 3412, 8000)] == [4, 1, 1600, 4000, 8000]


def test_a_viewer_sees_nobody_and_an_operator_only_moves() -> None:
    session = users.Session(b"", "n", Role.VIEWER, None, None, None)
    assert [may for may in May if session.may(may)] == [May.BOARD]
    operator = session._replace(role=Role.OPERATOR)
    assert not any(operator.may(may) for may in (May.PEOPLE, May.CASES, May.EXPORT, May.AUDIT))
    assert operator.may(May.MOVE)


def test_a_password_is_kept_by_its_digest_and_wrong_ones_wait_longer() -> None:
    kept = passwords.hashed("正确的密码 ok", b"s" * 16)
    assert kept.startswith("scrypt$32768$8$3$")
    assert "ok" not in kept
    assert passwords.matches("正确的密码 ok", kept)
    assert not passwords.matches("正确的密码 OK", kept)
    assert passwords.hashed("x" * 12, b"s" * 16) != passwords.hashed("x" * 12, b"t" * 16)
    waits = [passwords.wait_s(n) for n in range(20)]
    assert waits[:5] == [0.0] * 5
    assert waits == sorted(waits)
    assert waits[5] == 2.0
    assert waits[-1] == 300.0
