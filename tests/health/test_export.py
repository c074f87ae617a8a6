"""The log as a regulator gets it: every row, what it relied on, sealed; and legal holds by name and reason."""

import asyncio
import csv
import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from gateway.assemble.exporting import verify
from gateway.cli import app
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Cause, Reason, Status
from gateway.contract.export import HEADINGS, Asked, Line, Person
from gateway.contract.ids import new_id
from gateway.ledger import events
from gateway.ledger.citing import Citing
from gateway.ledger.reading import Reading
from gateway.ledger.sealing import Contents
from gateway.records import contents, export, partitions, settlement, timeline
from gateway.records.timeline import CAUSE_NUMBERS, STATUS_NUMBERS, Entry
from gateway.rules.standing import Standing, standing
from tests.integration.settle_world import now
from tests.integration.tree_rig import KEYS, Ground, ground

pytestmark = pytest.mark.integration

SEALING = Contents(KEYS)
HOUR_MS = 3_600_000
ANN, BOB, EVE = "+8613900000001", "+8613900000002", "+8613900000003"
BY = ("--by", "Li Lei", "--reason", "letter 12")


@dataclass
class Office:
    """A database with a log of its own, and the command line over it."""

    here: Ground
    env: dict[str, str]
    began: int
    grants: dict[str, int]
    ids: dict[str, str]

    async def types(self, *words: str, given: str = "") -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["records", *words], env=self.env, input=given)
        return done.exit_code, done.output

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of the system's events of a kind."""
        told = await Reading(self.here.pool, KEYS).whole_history(events.SYSTEM)
        return [one["data"] for one in told if one["kind"] == kind]


async def happened(here: Ground, to: str, kind: EventKind, data: dict[str, Any], at_ms: int) -> int:
    name = f"{kind}/{to}/{at_ms}"
    event = Event(event_id=name, kind=kind, number=to, subject=KEYS.subject(to), occurred_at_ms=at_ms, data=data)
    (appended,) = await here.appender.append([event])
    assert appended.refusal is None
    return appended.seq or 0


async def message(here: Ground, to: str, at_ms: int, entry: int | None, **more: Any) -> str:
    """A message as settle and the archive write it."""
    sender, campaign, text = (
        more.get("sender", "acme"),
        more.get("campaign"),
        more.get("text", "【Acme】上新，回复R退订"),
    )
    status, subject, known = (
        more.get("status", Status.DELIVERED),
        KEYS.subject(to),
        new_id(KEYS.subject(to)[0] & 15, at_ms),
    )
    steps = [
        Entry(at_ms, Status.QUEUED),
        Entry(at_ms + 50, Status.SENT, 1, "simulator", "0"),
        Entry(at_ms + 900, status, 0, "simulator", "000", more.get("cause", Cause.NONE), None, "DELIVRD"),
    ]
    named = ("demo", sender, "marketing.promotion", "marketing", "10690002", "cn@1", "consent", campaign, "app")
    digest = f"{sender}/{campaign}".encode()
    async with here.pool.acquire() as conn, conn.transaction():
        origin = (await settlement.origin_ids(conn, [(digest, named)]))[digest]
        fields = {
            "id": known, "subject": subject, "origin": origin, "accepted_at": at_ms, "settled_at": at_ms + 950,
            "entry": entry, "rank": 9, "status": STATUS_NUMBERS[status], "cause": CAUSE_NUMBERS[Cause.NONE],
            "attempt": 1, "parts": 1, "parts_delivered": 1, "code": "000", "carrier": "simulator", "carrier_id": "c-1",
            "client_ref": more.get("ref"), "timeline": timeline.encode(steps),
        }  # fmt: skip
        await settlement.insert(conn, [tuple(fields[name] for name in settlement.COLUMNS)])
        if text:
            await contents.add(conn, [(known, SEALING.seal(UUID(known).bytes, to, text))])
    return known


@pytest.fixture(scope="module")
async def office(
    postgres_url: str, migrated: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Office]:
    async with ground(postgres_url, migrated, redis_url, tmp_path_factory.mktemp("export")) as here:
        began = now() - 30 * HOUR_MS
        grants = {}
        for to in (ANN, BOB):
            data = events.grant("acme", ["marketing"], channel="web", evidence={"collection_method": "form"})
            grants[to] = await happened(here, to, EventKind.GRANT, data, began - HOUR_MS)
        async with here.pool.acquire() as conn:
            await partitions.ensure(conn, {partitions.day_of(began + n * HOUR_MS) for n in range(40)})
        ids = {
            "first": await message(here, ANN, began + 5, grants[ANN], campaign="sale", ref="=1+1"),
            "second": await message(
                here, BOB, began + 2 * HOUR_MS, grants[BOB], campaign="sale", text='=引用, "引号"\n换行'
            ),
            "bolt": await message(here, ANN, began + 3 * HOUR_MS, None, sender="bolt"),
            "last": await message(here, ANN, began + 29 * HOUR_MS, grants[ANN], text=None, status=Status.UNDELIVERED),
        }
        out = events.withdrawal("acme", why="asked")
        await happened(here, BOB, EventKind.WITHDRAWAL, out, began + 4 * HOUR_MS)
        await here.sequenced()
        env = {
            "ASSENT_DATABASE_URL": here.dsn, "ASSENT_REDIS_URL": redis_url, "ASSENT_MASTER_KEY": (b"m" * 32).hex(),
            "ASSENT_PEPPER": (b"p" * 32).hex(), "ASSENT_LOCAL": "true",
        }  # fmt: skip
        yield Office(here, env, began, grants, ids)


async def lines(office: Office, **asked: Any) -> list[Line]:
    pool = office.here.pool
    found = export.lines(pool, SEALING.open, Citing(pool, KEYS).cite, Asked(**asked), now())
    return [one async for one in found]


async def test_a_line_says_who_when_what_and_on_which_permission(office: Office) -> None:
    first, second = await lines(office, campaign="sale")
    at = office.began + 5
    assert first == Line(
        message_id=office.ids["first"], sender="acme", port="10690002", recipient=ANN, subject=KEYS.subject(ANN).hex(),
        text="【Acme】上新，回复R退订", text_kept=True, accepted_at=at, sent_at=at + 50, receipt_at=at + 900,
        status="delivered", cause=None, code="000", carrier="simulator", carrier_id="c-1", parts=1,
        purpose="marketing.promotion", message_class="marketing", campaign="sale", list_source="app", client="demo",
        client_ref="=1+1", basis="consent", pack="cn@1", ledger_entry=office.grants[ANN], permission="grant",
        permitted_at=office.began - HOUR_MS, permission_recorded_at=first.permission_recorded_at,
        evidence_id=f"grant/{ANN}/{office.began - HOUR_MS}", channel="form", subscription="subscribed",
    )  # fmt: skip
    assert abs((first.permission_recorded_at or 0) - now()) < HOUR_MS
    assert (second.message_id, second.recipient, second.subscription) == (office.ids["second"], BOB, "unsubscribed")


async def test_each_filter_narrows_and_pages_and_gaps_lose_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    names = {known: name for name, known in office.ids.items()}
    began = office.began

    async def named(**asked: Any) -> list[str]:
        return [names[one.message_id] for one in await lines(office, **asked)]

    assert await named() == ["first", "second", "bolt", "last"]
    assert await named(sender="acme") == ["first", "second", "last"]
    assert await named(subject=KEYS.subject(ANN)) == ["first", "bolt", "last"]
    assert await named(subject=KEYS.subject(ANN), sender="bolt") == ["bolt"]
    assert await named(from_ms=began + 6, until_ms=began + 3 * HOUR_MS) == ["second"]
    assert await named(from_ms=began + 5, until_ms=began + 3 * HOUR_MS + 1) == ["first", "second", "bolt"]
    assert await named(sender="nobody") == []
    kept = {names[one.message_id]: (one.text_kept, one.recipient) for one in await lines(office, sender="acme")}
    assert kept["last"] == (False, ANN)  # the ledger knows the number still


async def test_the_file_is_whole_sealed_and_recorded_before_it_is_written(office: Office, tmp_path: Path) -> None:
    out = tmp_path / "records.csv"
    signing = asyncio.create_task(_signing(office.here))
    status, told = await office.types("export", "--campaign", "sale", "--out", str(out), *BY)
    signing.cancel()
    assert (status, out.stat().st_mode & 0o777) == (0, 0o600), told
    assert "2 messages" in told
    raw = out.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    head, *rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    assert head == [f"{HEADINGS[name]} {name}" for name in Line._fields]
    cells = [dict(zip(Line._fields, row, strict=True)) for row in rows]
    assert [one["message_id"] for one in cells] == [office.ids["first"], office.ids["second"]]
    assert cells[0]["client_ref"] == "'=1+1"
    assert cells[1]["text"] == '\'=引用, "引号"\n换行'
    assert cells[1]["recipient"] == BOB
    assert cells[0]["accepted_at"].endswith("+08:00")
    manifest = json.loads((tmp_path / "records.csv.manifest.json").read_text())
    assert (manifest["rows"], manifest["by"], manifest["asked"]) == (2, "Li Lei", {"campaign": "sale"})
    (look,) = [one for one in await office.events("access") if one.get("what") == "records"]
    assert look == {"person": "Li Lei", "what": "records", "why": "letter 12", "asked": {"campaign": "sale"}}
    origin = manifest["checkpoint"].splitlines()[0]
    assert int(manifest["checkpoint"].splitlines()[1]) >= manifest["ledger_entry"]
    keys = [KEYS.record_signer(origin).vkey()]
    assert verify(out, keys) == []
    assert (await office.types("verify", str(out), "--key", keys[0]))[0] == 0
    out.write_bytes(raw.replace(b"delivered", b"undeliver"))
    assert verify(out, keys) == ["records.csv is not what was sealed"]
    assert (await office.types("verify", str(out), "--key", keys[0]))[0] == 1


async def _signing(here: Ground) -> None:
    while True:
        await here.sequenced()
        await asyncio.sleep(0.2)


async def test_a_persons_lines_come_by_number_from_stdin_and_the_look_is_theirs(office: Office, tmp_path: Path) -> None:
    out = tmp_path / "ann.jsonl"
    signing = asyncio.create_task(_signing(office.here))
    status, told = await office.types("export", "--subject", "-", "--out", str(out), *BY, given=f"{ANN}\n")
    signing.cancel()
    assert status == 0, told
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["message_id"] for one in rows] == [office.ids[name] for name in ("first", "bolt", "last")]
    assert rows[0]["client_ref"] == "=1+1"
    assert rows[2]["text"] is None
    looks = [
        one for one in await Reading(office.here.pool, KEYS).whole_history(KEYS.subject(ANN)) if one["kind"] == "access"
    ]
    assert looks[-1]["data"]["asked"] == {"subject": KEYS.subject(ANN).hex()}
    assert ANN not in json.dumps([one["data"] for one in looks])


async def test_what_cannot_be_written_leaves_no_file_and_what_says_nothing_is_refused(
    office: Office, tmp_path: Path
) -> None:
    for words, why in (
        (("--out", str(tmp_path / "x.txt"), *BY), "--out ends in .csv or .jsonl"),
        (("--out", str(tmp_path / "x.csv"), "--by", " ", "--reason", "r"), "--by must say something"),
        (("--out", str(tmp_path / "x.csv"), "--subject", "12", *BY), "neither a mobile number"),
        (("--out", str(tmp_path / "x.csv"), "--from", "soon", *BY), "write it like 2026-06-01"),
    ):
        status, told = await office.types("export", *words)
        assert status != 0, words
        assert why in told
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing else runs


async def test_a_hold_is_added_listed_and_released_by_name_and_reason(office: Office) -> None:
    status, told = await office.types(
        "hold", "add", "--sender", "acme", "--from", "2026-06-01", "--subject", "-", *BY, given=f"{BOB}\n"
    )
    assert status == 0, told
    number = told.split()[1]
    assert (await office.types("hold", "add", *BY))[0] == 1
    listed = (await office.types("hold", "list"))[1]
    assert "sender=acme" in listed
    assert "from=2026-06-01T00:00+08:00" in listed
    assert "Li Lei: letter 12" in listed
    assert (await office.types("hold", "release", number, "--by", "Han", "--reason", "closed"))[0] == 0
    assert (await office.types("hold", "release", number, "--by", "Han", "--reason", "closed"))[0] == 1
    assert (await office.types("hold", "list"))[1] == ""
    assert "released" in (await office.types("hold", "list", "--all"))[1]
    added, released = await office.events("hold")
    scope = {"sender": "acme", "subject": KEYS.subject(BOB).hex(), "from": 1_780_243_200_000}
    assert added == {"hold": int(number), "held": True, "person": "Li Lei", "why": "letter 12", "asked": scope}
    assert released == {"hold": int(number), "held": False, "person": "Han", "why": "closed"}


async def test_where_a_person_stands_is_one_word(office: Office) -> None:
    here, at = office.here, now() - HOUR_MS

    async def word(to: str, sender: str = "acme", purpose: str = "marketing.promotion") -> Standing:
        cites = await Citing(here.pool, KEYS).cite([], [KEYS.subject(to)])
        return standing(cites.people.get(KEYS.subject(to), Person()), sender, purpose, "marketing", now())

    assert await word(EVE) is Standing.NONE
    data = events.relationship("acme", "order", "o-1")
    await happened(here, EVE, EventKind.RELATIONSHIP, data, at)
    assert await word(EVE) is Standing.RELATED
    assert await word(EVE, "bolt") is Standing.NONE
    await happened(here, EVE, EventKind.GRANT, events.grant("acme", ["marketing"]), at)
    assert await word(EVE) is Standing.SUBSCRIBED
    assert await word(EVE, purpose="invite.restock") is Standing.RELATED
    await happened(here, EVE, EventKind.COMPLAINT, events.suppression("acme", Reason.COMPLAINT), at)
    assert await word(EVE) is Standing.SUPPRESSED
    await happened(here, EVE, EventKind.WITHDRAWAL, events.withdrawal("acme", ["marketing"]), at + 5)
    assert await word(EVE) is Standing.UNSUBSCRIBED
    await happened(here, EVE, EventKind.ERASURE, {"by": "test"}, at + 9)
    assert await word(EVE) is Standing.ERASED
