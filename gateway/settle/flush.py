"""One flush: everything gathered becomes rows, counts and offsets in one transaction.

Owns the order of steps: offsets first (compare-and-set, so nobody else settles the same records), then find whose the
receipts are, read the rows not remembered, fold the statements, write rows and what clients are to be told. If anything
fails the transaction is undone and whoever called throws `Known` away; after COMMIT `Known` learns what was written. A
crash at any line therefore leaves either all of a flush or nothing.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from gateway.contract.ids import id_time_ms
from gateway.contract.wire import Receipt
from gateway.records import settlement, silence
from gateway.records.connection import Connection
from gateway.records.settlement import Minute
from gateway.records.timeline import CAUSE_NUMBERS, STATUS_NUMBERS
from gateway.records.webhooks import Address
from gateway.settle.buffer import LATEST_MS, Buffer, Statement, key_of, other_forms
from gateway.settle.fold import Fold
from gateway.settle.known import Known
from gateway.settle.notices import Notices
from gateway.settle.origin import Origin
from gateway.settle.rows import row_of, values_of
from gateway.settle.status import Row
from gateway.telemetry import END_TO_END_SECONDS, RECEIPTS, RECEIPTS_MISSING, RECEIPTS_SEEN

NEW_WITHIN_MS = 10_000
"""A message made within this time and not remembered is taken for new; COPY finds out if it is not."""


class Outcome(NamedTuple):
    """What a flush did."""

    rows: int
    owes: bool
    """Whether anything waits to be refunded or suppressed."""


class Flush:
    """One attempt at one flush; used once. A `now_ms` far ahead makes it look every row up before it calls it new."""

    def __init__(
        self,
        conn: Connection,
        known: Known,
        buffer: Buffer,
        consumer: str,
        notices: Notices,
        *,
        now_ms: int,
        asked: Container[str] = (),
    ) -> None:
        self._asked = asked
        self._conn, self._known, self._buffer, self._consumer = conn, known, buffer, consumer
        self._notices, self._new_since_ms = notices, now_ms - NEW_WITHIN_MS
        self._statements = dict(buffer.statements)
        self._orphans: list[tuple[str, Receipt]] = []
        self._adopted: set[str] = set()

    async def run(self) -> Outcome:
        """Settle. Raises Superseded, UniqueViolationError (a row was not new), or what else PostgreSQL raises."""
        async with self._conn.transaction():
            await settlement.move_offsets(self._conn, self._consumer, self._buffer.moves)
            await self._find_messages()
            await self._adopt_orphans()
            fold = Fold(await self._rows(), self._known.told, self._asked)
            for message_id, said in self._statements.items():
                fold.take(message_id, said)
            numbers = await self._number(fold)
            addresses = [(self._called(row, url), row.accepted_at) for row, url in fold.given.values()]
            await self._write(fold, numbers)
            if addresses or fold.turned:
                await self._notices.statuses(self._conn, addresses, fold.turned, self._known.told)
        self._learn(fold, numbers)
        return Outcome(len(fold.inserted) + len(fold.updated), bool(fold.refunds or fold.suppressions))

    # --- whose is it -----------------------------------------------------------------------------------------------

    async def _find_messages(self) -> None:
        """Give each receipt without our id to its message, or put it aside."""
        lost: dict[str, list[Receipt]] = {}
        for receipt in self._buffer.unresolved:
            key = key_of(receipt.carrier, receipt.carrier_id)
            if (ours := self._recent(key)) is not None:
                self._say(ours, receipt)
            else:
                lost.setdefault(key, []).append(receipt)
        if not lost:
            return
        asked = {form for key in lost for form in (key, *other_forms(key))}
        found = await settlement.find_carrier_ids(self._conn, asked)
        for key, receipts in lost.items():
            forms = (key, *other_forms(key))
            ours = next((one for form in forms if (one := found.get(form) or self._recent(form))), None)
            for receipt in receipts:
                if ours is None:
                    self._orphans.append((key, receipt))
                else:
                    self._say(ours, receipt)

    def _recent(self, key: str) -> str | None:
        in_buffer = self._buffer.carrier_ids.get(key)
        return self._known.carrier_ids.get(key) if in_buffer is None else in_buffer[0]

    async def _adopt_orphans(self) -> None:
        """Take up the receipts that were waiting for the results gathered here."""
        waiting = self._known.orphans
        wanted: dict[str, str] = {}
        if waiting is not None and not waiting:
            return
        for key, (ours, _) in self._buffer.carrier_ids.items():
            for form in (key, *other_forms(key)):
                if waiting is None or form in waiting:
                    wanted.setdefault(form, ours)
        if not wanted:
            return
        for row in await settlement.take_orphans(self._conn, list(wanted)):
            self._adopted.add(row["key"])
            self._say(wanted[row["key"]], Receipt.model_validate_json(row["receipt"]))

    def _say(self, message_id: str, receipt: Receipt) -> None:
        said = self._statements.get(message_id, [])
        self._statements[message_id] = [*said, Statement("receipt", receipt)]

    # --- rows ------------------------------------------------------------------------------------------------------

    async def _rows(self) -> dict[str, Row]:
        """Every row that exists among those the statements are about."""
        found, missing = {}, []
        for message_id, said in self._statements.items():
            row = self._known.rows.get(message_id)
            if row is not None:
                found[message_id] = row
            elif id_time_ms(message_id) < self._new_since_ms or not _first(said):
                missing.append(message_id)
        stored = await settlement.rows(self._conn, missing)
        await self._learn_origins({row["origin"] for row in stored} - {None} - self._known.numbers.keys())
        for one in stored:
            row = row_of(one, self._known.numbers)
            found[row.id] = row
        return found

    async def _learn_origins(self, numbers: set[int]) -> None:
        if numbers:
            for row in await settlement.origins(self._conn, numbers):
                self._known.keep_origin(Origin(*tuple(row)[1:]), row["id"])

    async def _number(self, fold: Fold) -> dict[Origin, int]:
        """The numbers of all origins to be written."""
        origins = {row.origin for rows in (fold.inserted, fold.updated) for row in rows} | {
            key[1] for key in fold.counts
        }
        known = self._known.origins
        numbers = {origin: known[origin] for origin in origins if origin is not None and origin in known}
        new = {origin.digest(): origin for origin in origins if origin is not None and origin not in known}
        if new:
            stored = await settlement.origin_ids(self._conn, list(new.items()))
            numbers |= {origin: stored[digest] for digest, origin in new.items()}
        return numbers

    def _called(self, row: Row, url: str) -> Address:
        """The address that a row was given; the row has its name from now on."""
        address = self._notices.address(row.origin.client if row.origin is not None else "", url)
        row.callback = address.name
        return address

    async def _write(self, fold: Fold, numbers: dict[Origin, int]) -> None:
        conn = self._conn
        if fold.inserted:
            # Rows still open were accepted last; scattered by their random bits, each finds room for its next version
            # in its own page (a heap-only update), where side by side they would not.
            scattered = sorted(fold.inserted, key=lambda row: row.id[24:])
            await settlement.insert(conn, [values_of(row, numbers) for row in scattered if row.callback is None])
            if called := [(*values_of(row, numbers), row.callback) for row in scattered if row.callback is not None]:
                await settlement.insert_called(conn, called)
        if fold.updated:
            await settlement.update(conn, [values_of(row, numbers) for row in fold.updated])
            if fold.given and (late := [row for row in fold.updated if row.id in fold.given]):
                await settlement.set_callbacks(conn, [(row.id, row.callback or b"") for row in late])
        if self._buffer.carrier_ids:
            pairs = [(key, ours, at) for key, (ours, at) in self._buffer.carrier_ids.items()]
            await settlement.remember_carrier_ids(conn, pairs)
        if self._buffer.looked_at:
            await silence.forget_late(conn, self._buffer.looked_at)
        if self._orphans:
            aside = [(key, one.received_at, one.model_dump_json(exclude_none=True)) for key, one in self._orphans]
            await settlement.keep_orphans(conn, aside)
        await settlement.owe(conn, "long_windows", fold.windows)
        await settlement.owe(conn, "used_requests", fold.requests)
        await settlement.owe(conn, "sent_late", fold.late)
        await settlement.owe(conn, "doubts", fold.doubts)
        await settlement.owe(conn, "refunds_due", fold.refunds)
        await settlement.owe(conn, "suppressions_due", fold.suppressions)
        if ended := [(*one, LATEST_MS) for one in fold.refunds] + fold.withdrawn:
            await settlement.give_back_windows(conn, ended)
        counts = {
            Minute(minute, numbers[origin], carrier, STATUS_NUMBERS[status], CAUSE_NUMBERS[cause]): n
            for (minute, origin, carrier, status, cause), n in fold.counts.items()
        }
        await settlement.count(conn, counts)

    # --- after COMMIT ----------------------------------------------------------------------------------------------

    def _learn(self, fold: Fold, numbers: dict[Origin, int]) -> None:
        known = self._known
        for origin, number in numbers.items():
            known.keep_origin(origin, number)
        for rows in (fold.inserted, fold.updated):
            for row in rows:
                known.keep_row(row)
        for key, (ours, _) in self._buffer.carrier_ids.items():
            known.keep_carrier_id(key, ours)
        if known.orphans is not None:
            known.orphans -= self._adopted
        known.add_orphans([key for key, _ in self._orphans])
        for carrier, n in fold.seen.items():
            RECEIPTS_SEEN.add(n, carrier)
        for carrier, n in fold.silent.items():
            RECEIPTS_MISSING.add(n, carrier)
        for labels, n in fold.changed.items():
            RECEIPTS.add(n, *labels)
        for cls, seconds in fold.spans:
            END_TO_END_SECONDS.observe(seconds, cls)


def _first(said: list[Statement]) -> bool:
    """Whether a message's first acceptance is among the statements."""
    for one in said:  # noqa: SIM110 - once a message: a generator costs four times as much
        if one.kind == "accepted" and one.record.attempt == 1:
            return True
    return False
