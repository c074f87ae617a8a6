"""Evidence for a message: made from real events and a real log, checked offline, and broken in many ways."""

import asyncio
import json
import random
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from gateway.assemble.ledger import packs_of
from gateway.assemble.preparing import demo_form
from gateway.assemble.registering import draft_of
from gateway.contract.consent import Event, EventKind
from gateway.contract.form import Form, shown
from gateway.ledger import events, two_records
from gateway.ledger.bundle import SEAL, packed, seal
from gateway.ledger.events import canonical
from gateway.ledger.evidence import Case, Evidence, NothingError
from gateway.ledger.note import Signer, generate
from gateway.ledger.sequencer import Sequencer
from gateway.ledger.tiles import Tiles
from gateway.ledger.verify import Report, verify
from gateway.rules.pack import load
from tests.integration.tree_rig import KEYS, VKEY, Ground, ground, person

pytestmark = pytest.mark.integration

FORM = Form(**draft_of(demo_form()).model_dump(), version=1, created_at=datetime(2026, 11, 25, tzinfo=UTC))
TEXT = shown(FORM, "zh")
RECORDS = KEYS.record_signer("assent.test/log")
VKEYS = [VKEY, RECORDS.vkey()]
AT = time.time_ns() // 1_000_000 - 60_000
ACCEPTED_AT = AT + 3_600_000
MESSAGE = "01a20bb9-6f46-7968-9bca-a20bd03a9f18"


@dataclass
class Court:
    """A log with one person's consent by two records, another sender's business, and what happens to it."""

    here: Ground
    evidence: Evidence
    to: str
    grant: int
    pack: str

    def message(self, entry: int | None = None, **more: Any) -> dict[str, Any]:
        return {
            "id": MESSAGE,
            "status": "delivered",
            "sender": "acme",
            "purpose": "marketing.promotion",
            "class": "marketing",
            "port": "10690002",
            "accepted_at": ACCEPTED_AT,
            "decision": {"basis": "consent", "ledger_entry": entry or self.grant, "pack": self.pack},
            "timeline": [
                {"at": AT, "status": "sent", "carrier": "simulator", "code": "0", "raw": None},
                {"at": AT + 900, "status": "delivered", "carrier": "simulator", "code": "000", "raw": "DELIVRD"},
            ],
        } | more

    def case(self, **more: Any) -> Case:
        return Case({"message": MESSAGE}, KEYS.subject(self.to), "acme", self.message(**more))

    async def bundle(self, **more: Any) -> bytes:
        return await self.evidence.bundle(self.case(**more), AT)

    async def act(self, kind: EventKind, data: dict[str, Any], at_ms: int = AT + 9) -> int:
        event = Event(
            event_id=f"{kind}/{self.to}/{at_ms}/{random.random()}",
            kind=kind,
            number=self.to,
            subject=KEYS.subject(self.to),
            occurred_at_ms=at_ms,
            data=data,
        )
        (answer,) = await self.here.appender.append([event])
        assert answer.refusal is None, answer.refusal
        return answer.seq or 0

    def leaves(self, size: int) -> list[bytes]:
        tiles = Tiles(self.here.folder)
        return [entry for index in range(-(-size // 256)) for entry in tiles.entries(index, size)]


def both_records(to: str) -> Event:
    subject = KEYS.subject(to)
    asked = two_records.Asked(
        id="0a" * 16,
        subject=subject,
        number=to,
        form=FORM,
        party="Acme",
        locale="zh",
        sha256=TEXT.sha256,
        ticked=["marketing.promotion"],
        events=[{"topic": "marketing.promotion", "ticked": True, "by": "touch", "trusted": True, "at": AT - 9}],
        where={"url": "https://gw.example/c/acme", "origin": "https://shop.example", "ip": "203.0.113.9"},
        at_ms=AT,
    )
    waiting = two_records.unseal(KEYS, asked.id, two_records.seal(KEYS, asked))
    second = two_records.second_record(asked.id, subject, waiting, MESSAGE, AT + 5_000, {"method": "code"})
    return two_records.grant(KEYS, asked.id, subject, waiting, second)


@pytest.fixture
async def court(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Court]:
    async with ground(postgres_url, migrated, redis_url, tmp_path) as here:
        to, pack = person(), load("cn")
        await here.append(300)
        await here.appender.append(packs_of({"cn": pack}, AT))
        (granted,) = await here.appender.append([both_records(to)])

        async def text_of(sha256: bytes) -> bytes | None:
            return TEXT.canonical if sha256.hex() == TEXT.sha256 else None

        evidence = Evidence(here.pool, KEYS, here.folder, text_of)
        made = Court(here, evidence, to, granted.seq or 0, pack.version)
        await made.act(EventKind.RELATIONSHIP, events.relationship("bolt", "order", "o-1"))
        await here.append(20)
        running = asyncio.create_task(Sequencer(here.dsn, here.log()).run())
        yield made
        running.cancel()


def failed(report: Report) -> set[str]:
    return {one.name for one in report.checks if one.ok is False}


def opened(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def resealed(raw: bytes, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> bytes:
    """As the sender itself could do it, with its record key in hand."""
    files = opened(raw)
    del files[SEAL]
    told = json.loads(files["bundle.json"])
    change(told, files)
    files["bundle.json"] = canonical(told)
    return seal(files, RECORDS)


async def test_a_message_its_permission_and_all_that_proves_it(court: Court) -> None:
    raw = await court.bundle()
    report = verify(raw, VKEYS, leaves=court.leaves)
    assert report.good, [one for one in report.checks if not one.ok]
    found = {one.name: one.ok for one in report.checks}
    assert {name for name, ok in found.items() if ok} == {
        *("container", "seal", "checkpoint", "entries", "order", "person", "records", "rules", "permission"),
        "complete",
    }
    files, told = opened(raw), report.told
    assert set(files) == {
        *("SEAL", "bundle.json", "checkpoint", "report.html", "texts/acme.v1.zh.json", f"packs/{court.pack}.toml"),
        *(f"proofs/{one['seq']}.tlog-proof" for one in (*told["entries"], *told["packs"])),
    }
    assert files["texts/acme.v1.zh.json"] == TEXT.canonical
    shown_, withheld = told["entries"]
    assert json.loads(shown_["body"])["event_type"] == "grant"
    assert "body" not in withheld  # another sender's business
    assert b"o-1" not in raw
    page = files["report.html"].decode()
    for words in (court.to, f"第 {court.grant} 条", "DELIVRD", court.pack):
        assert words in page
    assert "<script" not in page


async def test_the_report_is_for_people_in_two_languages(court: Court) -> None:
    page = opened(await court.bundle())["report.html"].decode()
    assert "短信许可证据报告" in page
    assert "Evidence of permission" in page
    assert "acme v1 (zh)" in page
    assert "http" not in page.replace("https://gw.example", "").replace("https://shop.example", "")


async def test_no_byte_can_be_altered(court: Court) -> None:
    """Of every file some, of the container's own bytes some: each is caught, and nothing breaks the verifier."""
    raw = await court.bundle()
    dice = random.Random(7)
    places = {dice.randrange(len(raw)) for _ in range(400)}
    for name, content in opened(raw).items():
        begin = raw.index(content)
        places |= {begin, begin + len(content) // 2, begin + len(content) - 1, begin - len(name), begin - len(name) - 8}
    places |= {len(raw) - n for n in range(1, 23)}
    for place in sorted(places):
        spoiled = bytearray(raw)
        spoiled[place] ^= 1 << dice.randrange(8)
        report = verify(bytes(spoiled), VKEYS)
        assert not report.good, (place, raw[max(0, place - 20) : place + 20])
        assert report.checks[-1].en
    for cut in (0, 1, 100, len(raw) - 1):
        assert not verify(raw[:cut], VKEYS).good
    assert not verify(raw + b"\0", VKEYS).good


async def test_other_keys_vouch_for_nothing(court: Court) -> None:
    raw = await court.bundle()
    stranger = [generate("assent.test/log")[1], generate("assent.test/log/records")[1]]
    assert failed(verify(raw, stranger)) == {"seal"}
    assert failed(verify(raw, [stranger[0], VKEYS[1]])) == {"checkpoint"}
    assert failed(verify(raw, [VKEYS[0]])) == {"seal"}


# --- a sender that forges its own evidence, and seals it again -----------------------------------------------------


def drop_the_last(told: dict[str, Any], files: dict[str, bytes]) -> None:
    del files[f"proofs/{told['entries'].pop()['seq']}.tlog-proof"]


def edit_a_body(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    entry = told["entries"][0]
    entry["body"] = entry["body"].replace("marketing.promotion", "marketing")


def back_date(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["at"] -= 1


def swap_the_text(told: dict[str, Any], files: dict[str, bytes]) -> None:
    files["texts/acme.v1.zh.json"] = b"{}"


def soften_the_rules(told: dict[str, Any], files: dict[str, bytes]) -> None:
    name = told["packs"][0]["file"]
    files[name] = files[name].replace(b"required", b"optional")


def another_person(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["subject"] = "00" * 16


def another_number(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["number"] = "+8613900000000"


def another_purpose(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["message"]["purpose"] = "membership.birthday"


def another_entry(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["message"]["decision"]["ledger_entry"] = 1


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (edit_a_body, "entries"),
        (back_date, "entries"),
        (swap_the_text, "records"),
        (soften_the_rules, "rules"),
        (another_person, "entries"),
        (another_number, "entries"),
        (another_purpose, "permission"),
        (another_entry, "permission"),
        (drop_the_last, "complete"),
    ],
)
async def test_a_sender_cannot_forge_what_the_log_holds(
    court: Court, change: Callable[[dict[str, Any], dict[str, bytes]], None], caught: str
) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme", ["invite"]), AT + 60_000)
    forged = resealed(await court.bundle(), change)
    assert caught in failed(verify(forged, VKEYS, leaves=court.leaves))


async def test_a_message_after_a_withdrawal_is_shown_to_be_wrong(court: Court) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme"), AT + 60_000)
    assert failed(verify(await court.bundle(), VKEYS)) == {"permission"}


async def test_an_erased_person_leaves_proof_that_something_was_there(court: Court) -> None:
    await court.act(EventKind.ERASURE, {})
    report = verify(raw := await court.bundle(), VKEYS)
    assert report.good, [one for one in report.checks if not one.ok]
    assert {one.name for one in report.checks if one.ok is None} >= {"permission", "person"}
    assert report.told["entries"][0]["seq"] == court.grant
    assert court.to.encode() not in raw
    with pytest.raises(NothingError):
        await court.evidence.bundle(Case({"event": 1}, b"\0" * 16, None), AT)


async def test_an_event_is_found_by_place_and_by_id(court: Court) -> None:
    subject = KEYS.subject(court.to)
    assert await court.evidence.place(str(court.grant)) == (court.grant, subject)
    assert await court.evidence.place(f"opt-in:{'0a' * 16}") == (court.grant, subject)
    assert await court.evidence.place("nothing") is None
    raw = await court.evidence.bundle(Case({"event": court.grant}, subject, None), AT)
    report = verify(raw, VKEYS)
    assert report.good, [one for one in report.checks if not one.ok]
    assert {one.name for one in report.checks if one.ok is None} == {"timestamp", "permission", "complete"}


async def test_the_same_files_are_one_container() -> None:
    files = {"b": b"2", "a": b"1"}
    assert packed(files) == packed(dict(reversed(files.items())))
    assert Signer(generate("x", seed=b"1" * 32)[0]).vkey() == generate("x", seed=b"1" * 32)[1]
