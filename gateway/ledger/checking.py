"""The whole log against the database: `assent ledger verify`. Reads only, and says what differs and where.

Every event is read in order and made into its entry again; from the entries the tiles and the root; these are compared
with the tiles on disk, with the checkpoint that was signed last, and with every other checkpoint that is handed in, an
old one kept by somebody else say. `deep` also opens each body, holds it against its commitment and its row, and replays
each person's events to the state that is in force, so that an edited row is found where it only permits something.

Memory does not grow with the log, except for `deep`, which keeps the people of one lane at a time. The log may grow
meanwhile: what can only be newer is read later, and what belongs together in one snapshot.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import asyncpg

from gateway.contract.consent import Event, EventKind, State
from gateway.contract.ids import LANES
from gateway.ledger import leaf, rows
from gateway.ledger.checkpoint import Checkpoint, open_checkpoint
from gateway.ledger.events import SYSTEM, canonical
from gateway.ledger.growing import Edge, Write, edge_of, grow
from gateway.ledger.keys import KeyMismatchError, Keys, commit
from gateway.ledger.layout import WIDTH, LayoutError, Tile, bundle, entries_of, parse_path
from gateway.ledger.merkle import HASH_BYTES
from gateway.ledger.opening import QUERY_S, RECORDED, encode
from gateway.ledger.rows import Connection
from gateway.ledger.sequencer import CHECKPOINT, Log
from gateway.ledger.state import apply
from gateway.ledger.tiles import TileMissingError

PAGE = 4_096
MOST_TOLD = 20
PAGE_S = 60.0
LEAVES = "SELECT seq, version, at, tag, commitment FROM consent_events ORDER BY seq"
PEOPLE = """
SELECT subject, key, state, erased_at FROM subjects LEFT JOIN subject_states USING (subject)
WHERE get_byte(subject, 0) >> 4 = $1
"""
BODIES = """
SELECT seq, at, kind, subject, version, commitment, salt, body FROM consent_events
WHERE subject IS NOT NULL AND get_byte(subject, 0) >> 4 = $1 ORDER BY seq
"""

Progress = Callable[[str, int, int], None]
"""Stage, done, of how many."""


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong with it: the first `MOST_TOLD` in words."""

    entries: int = 0
    tiles: int = 0
    bodies: int = 0
    people: int = 0
    checkpoints: list[int] = field(default_factory=list)
    """Sizes of the checkpoints that were compared."""
    wrong: int = 0
    told: list[str] = field(default_factory=list)

    def say(self, words: str) -> None:
        """Note something that differs."""
        self.wrong += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(words)


class Checking:
    """One run over one log."""

    def __init__(self, connection: Connection, log: Log, progress: Progress) -> None:
        self._connection, self._log, self._progress = connection, log, progress
        self.found = Findings()

    async def run(self, others: Sequence[bytes] = ()) -> Findings:
        """The tree. `others`: signed notes of this log; raises NoteError or CheckpointError for one that is none."""
        log, found = self._log, self.found
        wanted: dict[int, list[Checkpoint]] = {}
        for raw in (*others, *await self._own()):
            one = open_checkpoint(raw, log.origin, log.verifiers)[0]
            wanted.setdefault(one.size, []).append(one)
        signed = max(wanted, default=0)
        edge = Edge()
        self._compare(edge, wanted)
        async for entries in self._entries():
            for some in _cut(entries, edge.size, sorted(wanted)):
                edge, writes = grow(edge, some)
                await asyncio.to_thread(self._hold_tiles, writes, signed)
                self._compare(edge, wanted)
            self._progress("entries", edge.size, max(signed, edge.size))
        found.entries = edge.size
        for size in sorted(size for size in wanted if size > edge.size):
            found.say(f"a checkpoint of {size} entries was signed, the database has {edge.size}")
        if signed and signed <= edge.size:
            self._hold_edge(signed, {one.root for one in wanted[signed]})
        return found

    async def _own(self) -> list[bytes]:
        """What the log remembers, what it published, and whether the database remembers the same."""
        log, notes = self._log, []
        recorded = await self._connection.fetchrow(RECORDED, log.origin, timeout=QUERY_S)
        memory = await asyncio.to_thread(log.signed.read, log.origin)
        if memory is None:
            self.found.say("the log remembers no signed checkpoint")
        else:
            notes.append(memory)
        try:
            notes.append((log.folder / CHECKPOINT).read_bytes())
        except FileNotFoundError:
            self.found.say("no checkpoint is published")
        if recorded is not None and memory is not None:
            own = open_checkpoint(memory, log.origin, log.verifiers)[0]
            if recorded["size"] > own.size or (recorded["size"] == own.size and recorded["root"] != own.root):
                self.found.say("the database remembers a checkpoint that the log does not")
        return notes

    async def _entries(self) -> AsyncIterator[list[bytes]]:
        """The log's entries, a page at a time; density and order of times are looked at on the way."""
        expected, latest = 1, 0
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            cursor = await self._connection.cursor(LEAVES, timeout=PAGE_S)
            while page := await cursor.fetch(PAGE, timeout=PAGE_S):
                entries = []
                for row in page:
                    if row["seq"] != expected:
                        self.found.say(f"event {expected} is missing")
                        expected = row["seq"]
                    at = rows.ms_of(row["at"])
                    if at < latest:
                        self.found.say(f"event {row['seq']} is dated before the one ahead of it")
                    latest, expected = max(at, latest), expected + 1
                    entries.append(self._entry(row))
                yield entries

    def _entry(self, row: asyncpg.Record) -> bytes:
        try:
            return encode(row)
        except leaf.LeafError:
            self.found.say(f"event {row['seq']} is not of the form of an entry")
            return b""

    def _compare(self, edge: Edge, wanted: dict[int, list[Checkpoint]]) -> None:
        for one in wanted.get(edge.size, ()):
            self.found.checkpoints.append(one.size)
            if one.root != edge.root():
                self.found.say(f"the events come to another root than the checkpoint of {one.size} entries")

    def _hold_tiles(self, writes: Sequence[Write], signed: int) -> None:
        """Full tiles below the signed size are on disk as the events have them."""
        for path, content in writes:
            tile = parse_path(path)
            level = tile.level or 0
            if tile.width < WIDTH or (tile.index + 1) * WIDTH << 8 * level > signed:
                continue
            self.found.tiles += 1
            try:
                if self._log.tiles.read(path) != content:
                    self.found.say(f"{path} is not what the events come to")
            except TileMissingError:
                self.found.say(f"{path} is missing")
            except LayoutError as fault:
                self.found.say(str(fault))

    def _hold_edge(self, signed: int, roots: set[bytes]) -> None:
        """The partial tiles of the signed size belong together, and have its root."""
        try:
            edge = edge_of(signed, self._partial)
        except (TileMissingError, LayoutError) as fault:
            self.found.say(f"the tiles of the last checkpoint: {fault}")
            return
        if edge.root() not in roots:
            self.found.say("the tiles of the last checkpoint do not have its root")

    def _partial(self, path: str) -> bytes:
        """A partial tile; where it is gone because the tile became full meanwhile, what it was of the full one."""
        tile = parse_path(path)
        try:
            return self._log.tiles.read(path)
        except TileMissingError as missing:
            try:
                whole = self._log.tiles.read(Tile(tile.level, tile.index).path)
            except TileMissingError:
                raise missing from None
        if tile.level is None:
            return bundle(entries_of(whole)[: tile.width])
        return whole[: tile.width * HASH_BYTES]

    # --- deep --------------------------------------------------------------------------------------------------------

    async def deep(self, keys: Keys) -> Findings:
        """Every body against its commitment and its row, and every state against its events."""
        system = await self._connection.fetchval("SELECT key FROM subjects WHERE subject = $1", SYSTEM)
        for lane in range(LANES):
            replayed: dict[bytes, State | None] = {}
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                people = {row["subject"]: row for row in await self._connection.fetch(PEOPLE, lane, timeout=PAGE_S)}
                async for row in self._connection.cursor(BODIES, lane, prefetch=PAGE, timeout=PAGE_S):
                    self._body(row, people, system, keys, replayed)
            self._states(people, replayed)
            self._progress("bodies", lane + 1, LANES)
        return self.found

    def _body(
        self,
        row: asyncpg.Record,
        people: dict[bytes, asyncpg.Record],
        system: bytes | None,
        keys: Keys,
        replayed: dict[bytes, State | None],
    ) -> None:
        seq, subject = row["seq"], row["subject"]
        holder = rows.key_holder(row["kind"], subject)
        wrapped = system if holder == SYSTEM else people[subject]["key"] if subject in people else None
        if row["body"] is None or wrapped is None:
            self.found.say(f"the body of event {seq} is missing, and its person was not erased")
            return
        try:
            body = rows.open_body(keys.unwrap(holder, wrapped), seq, row["version"], row["body"])
        except (KeyMismatchError, ValueError):
            self.found.say(f"the body of event {seq} does not open: it or its key was changed")
            return
        self.found.bodies += 1
        if commit(canonical(body), row["salt"]) != row["commitment"]:
            self.found.say(f"the body of event {seq} is not the one that was committed to")
        if (body["event_type"], body["pii_principal_id"]) != (row["kind"], subject.hex()):
            self.found.say(f"the row of event {seq} says another kind or person than its body")
        event = Event(
            event_id=body["record_id"],
            kind=EventKind(body["event_type"]),
            number=None,
            subject=subject,
            occurred_at_ms=body["event_time"],
            data=body["data"],
        )
        after = apply(replayed.get(subject), event, seq, rows.ms_of(row["at"]))
        if isinstance(after, State):
            replayed[subject] = after

    def _states(self, people: dict[bytes, asyncpg.Record], replayed: dict[bytes, State | None]) -> None:
        """States that are in force follow from the events; those of people who were erased once lack their events."""
        for subject, row in people.items():
            if row["erased_at"] is not None or subject == SYSTEM:
                continue
            self.found.people += 1
            held = None if row["state"] is None else rows.decode_state(row["state"])
            if held != replayed.get(subject):
                seq = held.seq if held else 0
                self.found.say(f"a person's state, of event {seq}, does not follow from the person's events")


def _cut(entries: Sequence[bytes], size: int, stops: Sequence[int]) -> list[Sequence[bytes]]:
    """The entries, cut where the tree has one of these sizes."""
    cuts = [stop - size for stop in stops if size < stop < size + len(entries)]
    return [entries[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(entries)], strict=True)]
