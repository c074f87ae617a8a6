"""A log with one person's consent and what happens to it, for the tests of evidence."""

import asyncio
import json
import random
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from gateway.assemble.ledger import packs_of
from gateway.assemble.preparing import demo_form
from gateway.assemble.registering import draft_of
from gateway.contract.consent import Event, EventKind
from gateway.contract.form import Form, shown
from gateway.ledger import events, two_records
from gateway.ledger.bundle import SEAL, seal
from gateway.ledger.chain import Case
from gateway.ledger.events import canonical
from gateway.ledger.evidence import Evidence
from gateway.ledger.sequencer import Sequencer
from gateway.ledger.tiles import Tiles
from gateway.ledger.verify import Report
from gateway.rules.pack import load
from tests.integration.tree_rig import KEYS, VKEY, Ground, ground, person

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

    def event(self, kind: EventKind, data: dict[str, Any], at_ms: int = AT + 9) -> Event:
        return Event(
            event_id=f"{kind}/{self.to}/{at_ms}/{random.random()}",
            kind=kind,
            number=self.to,
            subject=KEYS.subject(self.to),
            occurred_at_ms=at_ms,
            data=data,
        )

    async def act(self, kind: EventKind, data: dict[str, Any], at_ms: int = AT + 9) -> int:
        (answer,) = await self.here.appender.append([self.event(kind, data, at_ms)])
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


@asynccontextmanager
async def courtroom(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Court]:
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
