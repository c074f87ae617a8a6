"""What the guard writes to Redis, byte by byte: keys, persons, records, plans."""

import binascii
import re
import struct
from pathlib import Path

import msgpack
import pytest

from gateway import guard
from gateway.contract.consent import Consent, Preference, Relationship, State, Suppression
from gateway.contract.decision import Basis, Class, Reason
from gateway.contract.ids import LANES, lane_of_id, new_id
from gateway.guard import keys, person, plans, record, scripts
from gateway.guard.admission import Verdict, long_windows
from gateway.guard.claims import Review, reviewed
from gateway.rules.plan import Plan, Window

DAY = 86_400_000


def a_plan(**changes: object) -> Plan:
    fields: dict[str, object] = {
        "sender": "acme",
        "purpose": "marketing.promotion",
        "cls": Class.MARKETING,
        "pack": "cn@1",
        "basis": Basis.CONSENT,
        "consents": ("acme/marketing.promotion", "acme/marketing"),
        "relationships": (),
        "scopes": ("*", "acme", "acme#marketing"),
        "ignored_reasons": 0,
        "approved_ignored_reasons": 2,
        "preferences": ("acme", "*"),
        "topics": ("marketing.promotion", "marketing"),
        "windows": (
            Window("M 1/24h", "M/acme", 1, DAY, calendar=False, source="x"),
            Window("M 3/day", "M", 3, DAY, calendar=True, source="x"),
            Window("once", "Y/acme", 1, 365 * DAY, calendar=False, source="x"),
        ),
        "weekly_field": "M/acme",
        "same_text_ms": 30_000,
        "quiet": True,
        "zone": "Asia/Shanghai",
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]


def test_tags_spread_over_the_slots() -> None:
    slots = [binascii.crc_hqx(tag.encode(), 0) % 16384 for tag in keys.TAGS]
    assert len(keys.TAGS) == LANES
    assert [slot // 1024 for slot in slots] == list(range(16))
    assert all(abs(slot % 1024 - 512) < 20 for slot in slots)


@pytest.mark.parametrize("lane", range(16))
def test_everything_of_a_recipient_is_in_one_slot(lane: int) -> None:
    subject = bytes([0xA0 | lane]) + b"}{" + bytes(13)
    message_id = new_id(lane)
    names = [table[subject[0]] + subject for table in (keys.PERSON, keys.BLOCK, keys.FENCE, keys.WINDOWS, keys.REQUEST)]
    names += [keys.record(keys.raw_id(message_id)), keys.CURSOR[lane]]
    tags = {re.search(rb"\{(.*?)\}", name).group(1).decode() for name in names}  # type: ignore[union-attr]
    assert tags == {keys.TAGS[lane]}


def test_id_text_and_bytes() -> None:
    message_id = new_id(7)
    assert keys.text_id(keys.raw_id(message_id)) == message_id
    assert lane_of_id(message_id) == 7
    with pytest.raises(ValueError, match="hex"):
        keys.raw_id("x" * 36)


def test_person_is_small_and_ordered() -> None:
    one = person.encode(State(seq=1_000_000, consents={"acme/marketing": Consent(at=1_790_000_000, entry=1_000_000)}))
    assert len(one) <= 32
    assert person.seq_of(one) == 1_000_000
    assert msgpack.unpackb(one[5:]) == [{"acme/marketing": 1_000_000}]


def test_person_parts() -> None:
    state = State(
        seq=9,
        consents={"a/m": Consent(at=1, until=5, max_per_week=2, entry=3)},
        relationships={"a/order": Relationship(at=1, expires=7, entry=4), "a/account": Relationship(at=1, entry=5)},
        suppressions={
            "a#marketing": [
                Suppression(reason=Reason.OPT_OUT, at=1, entry=6),
                Suppression(reason=Reason.COMPLAINT, at=2, entry=7),
            ],
            "b": [],
        },
        preferences={"*": Preference(topics=["marketing"], max_per_week=2, hours=(600, 700)), "a": Preference()},
    )
    assert msgpack.unpackb(person.encode(state)[5:]) == [
        {"a/m": [3, 5, 2]},
        {"a/order": [4, 7], "a/account": 5},
        {"a#marketing": 6},
        {"*": [["marketing"], 2, 600, 700], "a": [None, 0, 0, 0]},
    ]
    assert person.encode(State(seq=9, suppressions=state.suppressions))[5:] == msgpack.packb(
        [None, None, {"a#marketing": 6}]
    )


def test_the_bytes_of_form_1() -> None:
    """PostgreSQL keeps them: whoever has to change this test raises `person.FORM`."""
    state = State(
        seq=258,
        consents={"a/m": Consent(at=1, entry=3), "b/m": Consent(at=1, until=5, max_per_week=2, entry=4)},
        relationships={"a/order": Relationship(at=1, expires=7, entry=4)},
        suppressions={"*": [Suppression(reason=Reason.OPT_OUT, at=1, entry=6)]},
        preferences={"*": Preference(topics=["marketing"], max_per_week=2, hours=(600, 700))},
    )
    assert person.FORM == 1
    assert person.encode(state).hex() == (
        "0000000102"
        "9482a3612f6d03a3622f6d9304050281a7612f6f7264657292040781a12a0281a12a9491a96d61726b6574696e6702cd"
        "0258cd02bc"
    )


def test_nothing_standing_is_a_tombstone() -> None:
    assert person.encode(State(seq=77)) == person.tombstone(77) == bytes([0, 0, 0, 0, 77])


def a_record(state: str, flags: int = 0, consumed: bytes = b"", rest: bytes = b"", attempt: int = 1) -> bytes:
    head = struct.pack(">BBHI", ord(state[0]), flags, attempt, 3) + (9).to_bytes(6, "big") + (10).to_bytes(6, "big")
    return head + b"\x01" + (8).to_bytes(6, "big") + len(consumed).to_bytes(2, "big") + consumed + rest


def test_record_reads_back() -> None:
    view = record.decode(a_record("taken", record.BOUND | record.TEXT, b"h" * 8 + b"M/acme\0M", b"answer", 2))
    assert view == record.RecordView("taken", 2, 3, 9, 10, 7, True, False, ("M/acme", "M"), b"answer", None)
    void = record.decode(a_record("void", record.REFUNDED, b"suppressed", b"answer"))
    assert (void.code, void.answer, void.refunded, void.fields) == ("suppressed", b"answer", True, ())


@pytest.mark.parametrize(
    ("raw", "finding"),
    [
        (None, Review.ABSENT),
        (a_record("done"), Review.DONE),
        (a_record("reserved", attempt=2), Review.DONE),
        (a_record("unwritten"), Review.UNWRITTEN),
        (a_record("void"), Review.VOID),
        (a_record("taken"), Review.OTHER),
        (a_record("reserved"), Review.OTHER),
    ],
)
def test_review(raw: bytes | None, finding: Review) -> None:
    assert reviewed(raw, 1) is finding


def test_plan_positions_are_the_ones_lua_names() -> None:
    text = (Path(guard.__file__).parent / "lua" / "permission.lua").read_text()
    named: dict[str, int] = {}
    for names, numbers in re.findall(r"^local ([A-Z_, ]+) = ([\d, ]+)$", text, re.MULTILINE):
        named |= dict(zip(names.split(", "), map(int, numbers.split(", ")), strict=True))
    packed = msgpack.unpackb(plans.pack(a_plan()))
    got = {name: packed[named[name] - 1] for name in named if name != "OPT_OUT"}
    assert got == {
        "BASIS": "c",
        "CONSENTS": ["acme/marketing.promotion", "acme/marketing"],
        "RELATIONSHIPS": [],
        "SCOPES": ["*", "acme", "acme#marketing"],
        "IGNORED": 0,
        "APPROVED": 2,
        "SENDER": "acme",
        "PREFERENCES": ["acme", "*"],
        "TOPICS": ["marketing.promotion", "marketing"],
        "FIELDS": ["e", "x", "M/acme", "M", "Y/acme"],
        "WINDOWS": [[3, 1, DAY, False], [4, 3, DAY, True], [5, 1, 365 * DAY, False]],
        "WEEKLY": 3,
        "WEEKLY_ALL": 4,
        "SAME_TEXT": 30_000,
        "QUIET": True,
        "LONGEST": 365 * DAY,
        "CONSUMED": "M/acme\0M\0Y/acme",
    }


def test_topics_restrict_marketing_only() -> None:
    packed = msgpack.unpackb(plans.pack(a_plan(cls=Class.TRANSACTIONAL)))
    assert packed[8] is None


def test_a_limit_the_log_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        plans.pack(a_plan(windows=(Window("w", "w", 65, DAY, calendar=False, source=""),)))


def test_plans_are_packed_once_and_bounded() -> None:
    kept, plan = plans.Plans(), a_plan()
    assert kept.packed(plan) is kept.packed(plan)
    assert msgpack.unpackb(kept.table([plan, plan]))[1] == msgpack.unpackb(plans.pack(plan))
    for _ in range(plans.KEPT_PLANS + 5):
        kept.packed(a_plan())
    assert len(kept._kept) <= plans.KEPT_PLANS


def test_long_windows() -> None:
    verdict = Verdict(None, "reserved", stamp_ms=5, basis_key="acme/marketing", termed=True)
    assert long_windows(a_plan(), verdict) == [("Y/acme", 5), ("M/acme", 5), ("M", 5), ("C/acme/marketing", 5)]
    assert long_windows(a_plan(), verdict._replace(state="held")) == []


def test_scripts_declare_every_global_they_use() -> None:
    """The servers forbid globals; this finds a misspelt one in a branch no test reaches."""
    allowed = {"redis", "cmsgpack", "struct", "bit", "string", "math", "unpack", "tonumber", "tostring", "type"}
    allowed |= {"ipairs", "pairs", "assert", "KEYS", "ARGV", "table"}
    words = {"and", "or", "not", "if", "then", "else", "elseif", "end", "for", "do", "in", "while", "break", "return"}
    words |= {"local", "function", "nil", "true", "false", "repeat", "until"}
    for path in (Path(guard.__file__).parent / "lua").glob("*.lua"):
        text = scripts.script(path.stem).text
        text = re.sub(r"--[^\n]*|'[^'\n]*'", "", text)
        local = set(
            re.findall(
                r"[A-Za-z_]\w*", " ".join(re.findall(r"\b(?:local|for|function)\b([^=\n]*?)(?:=|\bin\b|\n|$)", text))
            )
        )
        local |= set(re.findall(r"[A-Za-z_]\w*", " ".join(re.findall(r"function\s*\w*\(([^)]*)\)", text))))
        used = set(re.findall(r"(?<![.\w])([A-Za-z_]\w*)", text)) - words
        if path.stem not in {"refund", "record", "windows", "permission", "writing"}:
            assert used - local - allowed == set(), path.name
