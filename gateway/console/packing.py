"""An export of the log as a ZIP that is written while it is read: the rows, their manifest, and the seal over both.

Memory is one page of the log and what the browser has not taken yet. What `assent records verify` checks is unpacked
from it. A ZIP that broke off has no directory and opens nowhere.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import IO, Any, cast
from zipfile import ZIP_DEFLATED, ZipFile

from gateway.console.desk import Desk, zone_of
from gateway.contract.export import Asked
from gateway.ledger import exported
from gateway.ledger.citing import Citing
from gateway.ledger.sealing import Contents
from gateway.records import export, sheet

CHUNK = 256 * 1024


class _Tray:
    """What a ZIP writes to: kept until it is taken. No seeking, so the ZIP is written forwards."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def write(self, raw: bytes) -> int:
        self._kept.append(bytes(raw))
        return len(raw)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        kept, self._kept = self._kept, []
        return b"".join(kept)


async def packed(desk: Desk, asked: Asked, suffix: str, told: dict[str, Any]) -> AsyncIterator[bytes]:
    """The ZIP in pieces. `suffix`: csv or jsonl. `told`: who asked, why, and the entry in the ledger."""
    keys, zone, now = desk.appender.keys, zone_of(desk), time.time_ns() // 1_000_000
    note = await exported.checkpoint(desk.pool, told["ledger_entry"] or 0)
    name, tray, digest, rows = f"records.{suffix}", _Tray(), hashlib.sha256(), 0
    line = sheet.csv_line if suffix == "csv" else sheet.json_line
    with ZipFile(cast("IO[bytes]", tray), "w", ZIP_DEFLATED) as archive:
        with archive.open(name, "w", force_zip64=True) as member:
            gathered, size = ([sheet.csv_head()], 0) if suffix == "csv" else ([], 0)
            async for one in export.lines(desk.pool, Contents(keys).open, Citing(desk.pool, keys).cite, asked, now):
                gathered.append(line(one, zone))
                size += len(gathered[-1])
                rows += 1
                if size >= CHUNK:
                    raw, gathered, size = b"".join(gathered), [], 0
                    digest.update(raw)
                    await asyncio.to_thread(member.write, raw)
                    yield tray.take()
            raw = b"".join(gathered)
            digest.update(raw)
            await asyncio.to_thread(member.write, raw)
        made = {"rows": rows, "asked": asked.told(), "made_at": sheet.moment(now, zone), **told}
        manifest = exported.manifest(name, digest.hexdigest(), made, note)
        archive.writestr(f"{name}.manifest.json", manifest)
        sealed = exported.seal(name, digest.hexdigest(), manifest, keys, note)
        if sealed is not None:
            archive.writestr(f"{name}.seal", sealed)
    yield tray.take()
