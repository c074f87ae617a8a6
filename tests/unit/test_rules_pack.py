"""The pack says what the table of purposes says, and a broken pack says where it is broken."""

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from gateway.contract.consent import Kind
from gateway.contract.decision import Basis, Class, Reason
from gateway.rules import pack as packs
from gateway.rules.pack import Pack, PackError

T = ["10/24h sender"]
M = ["1/24h sender", "3/day all"]
OPT_OUT = 1 << Reason.OPT_OUT

# purpose: class, basis, kinds, refusal text, quiet, windows, life of a request. From the table, not from the file.
TABLE: dict[str, tuple[str, str, str, str, bool, list[str], int | None]] = {
    "verification.code": (
        "verification", "request", "", "forbidden", False, ["1/1m purpose", "5/1h purpose", "10/24h purpose"], 600,
    ),
    "account.security": ("transactional", "relationship", "account", "forbidden", False, T, None),
    "transaction.order": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "transaction.shipping": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "transaction.delivery": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "transaction.signed": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "transaction.refund": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "transaction.after_sales": ("transactional", "relationship", "order", "forbidden", True, ["3/7d purpose"], None),
    "transaction.appointment": ("transactional", "relationship", "booking", "forbidden", False, T, None),
    "transaction.recall": ("transactional", "relationship", "order", "forbidden", False, T, None),
    "billing.statement": ("transactional", "relationship", "service", "forbidden", True, ["2/24h purpose"], None),
    "service.notice": ("transactional", "relationship", "service", "forbidden", True, T, None),
    "membership.points": ("transactional", "relationship", "membership", "forbidden", True, ["3/24h purpose"], None),
    "membership.tier": ("transactional", "relationship", "membership", "forbidden", True, ["2/24h purpose"], None),
    "membership.points_expiry": ("marketing", "consent", "", "required", True, M, None),
    "membership.birthday": ("marketing", "consent", "", "required", True, [*M, "1/365d purpose"], None),
    "membership.member_day": ("marketing", "consent", "", "required", True, M, None),
    "invite.restock": ("marketing", "consent", "", "required", True, M, None),
    "invite.new_arrival": ("marketing", "consent", "", "required", True, M, None),
    "invite.limited": ("marketing", "consent", "", "required", True, M, None),
    "invite.restock_requested": ("marketing", "request", "", "required", True, [], 90 * 86_400),
    "marketing.promotion": ("marketing", "consent", "", "required", True, M, None),
    "marketing.survey": ("marketing", "consent", "", "required", True, M, None),
    "consent.confirm": ("consent", "request", "", "optional", False, ["1/1m purpose", "3/24h purpose"], 86_400),
    "consent.preferences": (
        "consent", "relationship", "order booking service membership", "required", True, ["1/3650d purpose"], None,
    ),
    "consent.opt_out_ack": ("consent", "opt_out", "", "forbidden", False, [], 86_400),
    "consent.help": ("consent", "request", "", "optional", False, ["1/10m purpose", "3/24h purpose"], 86_400),
}  # fmt: skip


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


@pytest.fixture(scope="module")
def text() -> str:
    return (resources.files("gateway.rules") / "packs" / "cn.toml").read_text(encoding="utf-8")


def test_every_row_of_the_table_is_in_the_pack_and_no_other(cn: Pack) -> None:
    rows = {
        name: (
            row.cls.value,
            row.basis.value,
            " ".join(row.kinds),
            row.refusal_text,
            row.quiet,
            [f"{window.written} {window.scope}" for window in row.windows],
            row.request_life_s,
        )
        for name, row in cn.purposes.items()
    }
    assert rows == TABLE


def test_same_text_is_part_of_the_notices_window(cn: Pack) -> None:
    with_t = {name for name, row in TABLE.items() if row[5] == T}
    assert {name for name, row in cn.purposes.items() if row.same_text_ms} == with_t
    assert {cn.purposes[name].same_text_ms for name in with_t} == {30_000}


def test_what_an_opt_out_does_not_stop(cn: Pack) -> None:
    ignoring = {name for name, row in cn.purposes.items() if row.ignored_reasons}
    assert ignoring == {"verification.code", "consent.confirm", "consent.opt_out_ack", "consent.help"}
    assert {cn.purposes[name].ignored_reasons for name in ignoring} == {OPT_OUT}
    approved = {name for name, row in cn.purposes.items() if row.approved_ignored_reasons != row.ignored_reasons}
    assert approved == {"transaction.recall"}
    assert cn.purposes["transaction.recall"].approved_ignored_reasons == OPT_OUT


def test_ports_have_one_use(cn: Pack) -> None:
    for row in cn.purposes.values():
        assert row.port_use == ("marketing" if row.cls is Class.MARKETING else "service")


def test_the_pack_names_itself_and_its_limits(cn: Pack) -> None:
    assert re.fullmatch(r"cn@\d{4}\.\d{1,2}", cn.version)
    assert "lawyer to review" in cn.notice
    assert "律师" in cn.notice_zh
    assert (cn.zone_name, cn.hours) == ("Asia/Shanghai", (8 * 60, 20 * 60))
    assert cn.refusal_text == "拒收请回复R"
    assert (cn.table.length.max, cn.table.signature.min, cn.table.signature.max) == (500, 2, 16)
    assert packs.names() == sorted(packs.names())
    assert "cn" in packs.names()


def test_what_is_kept_is_the_laws(cn: Pack) -> None:
    kept = [(rule.what, rule.months, rule.source.kind, rule.zone.key) for rule in cn.retention]
    assert kept == [
        ("consent_records", 5, "law", "Asia/Shanghai"),
        ("send_records", 5, "law", "Asia/Shanghai"),
        ("refusals", None, "law", "Asia/Shanghai"),
    ]


def test_relationships_end_by_their_record_else_by_their_kind(cn: Pack) -> None:
    assert cn.expires_s(Kind.ORDER, 1_000, None) == 1_000 + 180 * 86_400
    assert cn.expires_s(Kind.BOOKING, 1_000, None) == 1_000 + 7 * 86_400
    assert [cn.expires_s(kind, 1_000, None) for kind in (Kind.SERVICE, Kind.MEMBERSHIP, Kind.ACCOUNT)] == [0, 0, 0]
    assert cn.expires_s(Kind.ORDER, 1_000, 5_000) == 5_000


def test_no_module_of_the_room_knows_a_purpose_by_name(cn: Pack) -> None:
    for module in resources.files("gateway.rules").iterdir():
        if module.name.endswith(".py"):
            code = module.read_text(encoding="utf-8")
            assert not [name for name in cn.purposes if f'"{name}"' in code or f"'{name}'" in code], module.name


def _load(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "pack.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PackError) as caught:
        packs.load(str(file))
    assert all(problem.startswith(f"{file}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def _line(text: str, needle: str, after: str = "") -> int:
    return text[: text.index(needle, text.index(after))].count("\n") + 1


Edit = tuple[str, str, str, str]
EDITS: dict[str, Edit] = {  # after what, what is replaced, by what, what is said
    "unknown class": (
        '[purposes."transaction.order"]',
        'class = "transactional"',
        'class = "transacted"',
        "class: Input",
    ),
    "unknown basis": ('[purposes."transaction.order"]', 'basis = "relationship"', 'basis = "habit"', "basis: Input"),
    "unknown kind": ('[purposes."transaction.order"]', 'kinds = ["order"]', 'kinds = ["signup"]', "kinds.0: Input"),
    "unknown window": (
        '[purposes."transaction.order"]',
        'windows = ["T"]',
        'windows = ["X"]',
        "windows: unknown window 'X'",
    ),
    "bad window": ('[purposes."billing.statement"]', '["2/24h"]', '["2/24 h"]', "windows.0: not a limit"),
    "limit over the log": ('[purposes."billing.statement"]', '["2/24h"]', '["65/24h"]', "windows.0: not a limit"),
    "missing source": ('[purposes."service.notice"]', 'source = "pipl_13"\n', "", "source: Field required"),
    "unknown source": ("[hours]", 'source = "aliyun"', 'source = "hearsay"', "source: unknown source 'hearsay'"),
    "unknown key": ("[length]", "max = 500", "max = 500\nmaximum = 2", "maximum: unknown key"),
    "bad time": ("[hours]", '"20:00"', '"25:00"', "end: String should match"),
    "a time that is no text": ("[hours]", '"08:00"', "08:00:00", "start: String should match"),
    "hours upside down": ("[hours]", '"20:00"', '"07:00"', "end: ends before it starts"),
    "wrong type": (
        '[purposes."verification.code"]',
        "quiet = false",
        'quiet = "false"',
        "quiet: Input should be a valid boolean",
    ),
    "number as text": ("[signature]", "min = 2", 'min = "2"', "min: Input should be a valid integer"),
    "bad period": ('[purposes."verification.code"]', '"10m"', '"10 minutes"', "request_life: not a period"),
    "bad zone": ("format = 1", '"Asia/Shanghai"', '"Asia/Atlantis"', "zone: not a time zone"),
    "marketing without a way out": (
        '[purposes."marketing.survey"]',
        '"required"',
        '"optional"',
        "refusal_text: marketing needs its refusal text",
    ),
    "no window": ('[purposes."marketing.survey"]', 'windows = ["M"]', "windows = []", "windows: only a single-use act"),
    "request without life": (
        '[purposes."consent.confirm"]',
        'request_life = "24h"\n',
        "",
        "basis: a person's act needs request_life",
    ),
    "relationship without kinds": (
        '[purposes."transaction.order"]',
        'kinds = ["order"]\n',
        "",
        "basis: a relationship needs kinds",
    ),
    "a yes that is a no": ("[affirmative_words]", '"Y", "YES"', '"Y", "R"', "words: 'R' is empty, or refuses"),
    "a word of two meanings": ("[keep_words]", '["A"]', '["A", "HELP"]', "words: 'HELP' is one of keep_words too"),
    "a character and itself": ("[folding]", '"訂订"', '"订订"', "same: '订订' is a character and itself"),
    "a phrase of no notation": (
        "[free_text.languages.zh]",
        '"{quit} !{returns}"',
        '"{quit} !{nothing}"',
        "refuse: '{quit} !{nothing}': there is no list {nothing}",
    ),
    "an answer of no purpose": ("[answers]", '"consent.help"', '"consent.hilfe"', "help: is no purpose on basis"),
    "a yes to what consent cannot permit": (
        '[purposes."consent.preferences"]',
        '["marketing", "invite"]',
        '["transaction"]',
        "asks: transaction is no marketing topic",
    ),
    "a time to keep that is none": ("[[retention]]", '"5 months"', '"153 days"', "keep: not a time to keep such as"),
    "a record without its law": (
        "[[retention]]",
        '"order_31_records"',
        '"hearsay"',
        "source: unknown source 'hearsay'",
    ),
    "counted from something else": (
        'what = "send_records"',
        'since = "sending"',
        'since = "end"',
        "since: send_records are counted from the sending",
    ),
    "kept for good": ('what = "send_records"', '"5 months"', '"for good"', "keep: refusals are kept for good"),
    "a record of no kind": ("[[retention]]", '"send_records"', '"gossip"', "what: Input should be"),
    "a record twice": ('what = "send_records"', '"refusals"', '"consent_records"', "what: consent_records have a row"),
    "a class left out": ("[classes.consent]", "[classes.consent]", "[classes.other]", "classes.other"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_problem_is_named_with_its_line(edit: Edit, text: str, tmp_path: Path) -> None:
    after, old, new, said = edit
    at = text.index(old, text.index(after))
    broken = text[:at] + new + text[at + len(old) :]
    problems = _load(tmp_path, broken)
    matching = [problem for problem in problems if said in problem]
    assert matching, problems
    line = int(matching[0].split(":")[0])
    key = said.split(":")[0].split(".")[0]
    written = broken.splitlines()[line - 1]
    assert written.startswith((key, "[")), (matching[0], written)
    assert line >= _line(broken, after if new != "[classes.other]" else new)


def test_every_problem_is_named_at_once(text: str, tmp_path: Path) -> None:
    edits: list[Callable[[str], str]] = [
        lambda text: text.replace('class = "verification"', 'class = "secret"'),
        lambda text: text.replace('windows = ["2/24h"]', 'windows = ["Q"]', 1),
        lambda text: text.replace('start = "08:00"', 'start = "8"'),
        lambda text: text.replace('source = "consumer_law_19"', 'source = "rumour"'),
    ]
    for edit in edits:
        text = edit(text)
    problems = _load(tmp_path, text)
    assert len(problems) == len(edits)
    lines = [int(problem.split(":")[0]) for problem in problems]
    assert lines == sorted(lines)


def test_what_is_no_toml_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    line = _line(text, "[length]")
    assert _load(tmp_path, text.replace("[length]", "[length"))[0].startswith(f"{line}: not TOML")


def test_an_empty_file_and_an_absent_one_are_problems(tmp_path: Path) -> None:
    assert any("purposes: Field required" in problem for problem in _load(tmp_path, ""))
    with pytest.raises(PackError, match="cannot be read"):
        packs.load(str(tmp_path / "absent.toml"))
    with pytest.raises(PackError, match="no such pack; there are cn"):
        packs.load("xx")


def test_another_pack_loads_beside_the_first(text: str, tmp_path: Path) -> None:
    file = tmp_path / "us.toml"
    other = text.replace('name = "cn"', 'name = "us"', 1).replace('zone = "Asia/Shanghai"', 'zone = "America/New_York"')
    file.write_text(other, encoding="utf-8")
    us = packs.load(str(file))
    assert (us.name, us.zone.key) == ("us", "America/New_York")
    assert packs.load("cn").zone.key == "Asia/Shanghai"
    assert us.purposes["consent.opt_out_ack"].basis is Basis.OPT_OUT
