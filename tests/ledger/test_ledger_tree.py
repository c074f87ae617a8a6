"""The sequencer on a real database and disk: what it signs, when it refuses to, and what faults at each write leave."""

import asyncio
import resource
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import leaf, note
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.growing import Write
from gateway.ledger.merkle import consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from gateway.ledger.sequencer import CHECKPOINT, KEYS, Log, OvertakenError, Sequencer
from gateway.ledger.signed import Signed
from gateway.ledger.tiles import Tiles
from tests.integration.tree_rig import SKEY, VKEY, Ground, consistent, ground

pytestmark = pytest.mark.integration


@pytest.fixture
async def here(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(postgres_url, migrated, redis_url, tmp_path) as made:
        yield made


async def met(condition: Callable[[], bool]) -> None:
    """Wait for it, five seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not come about within 5 s")


async def test_every_event_is_an_entry_of_a_signed_checkpoint(here: Ground) -> None:
    await here.append(700)
    checkpoint = await here.sequenced()
    entries, roots = await here.entries(), await here.roots()
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("assent.test/log", 700, roots[700])
    read = Tiles(here.folder).reader(700)
    for index in (0, 255, 256, 511, 699):
        proof = inclusion_proof(index, 700, read)
        verify_inclusion(leaf_hash(entries[index]), index, 700, proof, checkpoint.root)
    times = [leaf.decode(entry).at_ms for entry in entries]
    assert times == sorted(times)
    assert (here.folder / KEYS).read_text() == f"{VKEY}\n"


async def test_a_later_checkpoint_continues_an_earlier_one_and_full_tiles_lose_their_partial_forms(
    here: Ground,
) -> None:
    seen = []
    for n in (1, 200, 100, 1, 300):
        await here.append(n)
        seen.append(await here.sequenced())
    assert consistent(await here.roots(), seen)
    read = Tiles(here.folder).reader(seen[-1].size)
    for old in seen[:-1]:
        proof = consistency_proof(old.size, seen[-1].size, read)
        verify_consistency(old.size, seen[-1].size, proof, old.root, seen[-1].root)
    left = {path.relative_to(here.folder).as_posix() for path in here.folder.rglob("*.p")}
    assert left == {"tile/0/002.p", "tile/1/000.p", "tile/entries/002.p"}


async def test_an_acknowledged_event_is_in_a_published_checkpoint_within_a_second(here: Ground) -> None:
    sequencer = Sequencer(here.dsn, here.log())
    running = asyncio.create_task(sequencer.run())
    waits = []
    for _ in range(12):
        head, began = await here.append(5), time.monotonic()
        await met(lambda head=head: (here.folder / CHECKPOINT).exists() and here.published().size >= head)
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.03)
    running.cancel()
    assert sequencer.trusted
    assert max(waits[1:]) < 1.0, waits


# --- what does not fit -----------------------------------------------------------------------------------------------

Spoil = Callable[[Ground], Awaitable[Any]]


async def lose_memory(here: Ground) -> None:
    shutil.rmtree(here.folder / "state")


async def roll_memory_back(here: Ground) -> None:
    kept = here.folder / "state/signed.sqlite3"
    old = kept.read_bytes()
    await here.append(3)
    await here.sequenced()
    kept.write_bytes(old)


async def restore_a_backup(here: Ground) -> None:
    await here.pool.execute("DELETE FROM consent_events WHERE seq > 290")
    await here.pool.execute("UPDATE ledger_head SET seq = 290")


async def restore_a_backup_and_go_on(here: Ground) -> None:
    await restore_a_backup(here)
    await here.append(20)


async def lose_the_last_event_of_a_full_tile(here: Ground) -> None:
    await here.append(512 - 300)
    await here.sequenced()
    await here.pool.execute("DELETE FROM consent_events WHERE seq > 511")
    await here.pool.execute("UPDATE ledger_head SET seq = 511")
    await here.append(1)


async def edit_an_event(here: Ground) -> None:
    await here.pool.execute("UPDATE consent_events SET commitment = tag || tag WHERE seq = 299")


async def lose_tiles(here: Ground) -> None:
    shutil.rmtree(here.folder / "tile")


async def lose_one_tile(here: Ground) -> None:
    (here.folder / "tile/0/001.p/44").unlink()


async def spoil_a_tile(here: Ground) -> None:
    tile = here.folder / "tile/1/000.p/1"
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])


async def nothing(_here: Ground) -> None:
    """As it was."""


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (nothing, None),
        (lose_memory, "memory.lost"),
        (roll_memory_back, "memory.rolled_back"),
        (restore_a_backup, "database.behind"),
        (restore_a_backup_and_go_on, "database.differs"),
        (lose_the_last_event_of_a_full_tile, "database.differs"),
        (edit_an_event, "database.differs"),
        (lose_tiles, "tiles.lost"),
        (lose_one_tile, "tiles.lost"),
        (spoil_a_tile, "tiles.differ"),
    ],
)
async def test_a_log_that_was_lost_rolled_back_or_forged_is_not_signed(
    here: Ground, spoil: Spoil, why: str | None
) -> None:
    await here.append(300)
    await here.sequenced()
    await spoil(here)
    assert await here.refused() == why
    if why is not None:
        sequencer = Sequencer(here.dsn, here.log())
        before = here.published()
        running = asyncio.create_task(sequencer.run())
        await asyncio.sleep(0.3)
        running.cancel()
        assert not sequencer.trusted
        assert here.published() == before


async def test_a_database_that_goes_back_under_a_running_sequencer_is_noticed(here: Ground) -> None:
    await here.append(300)
    sequencer = Sequencer(here.dsn, here.log())
    running = asyncio.create_task(sequencer.run())
    await met(lambda: sequencer.trusted and sequencer.size == 300)
    await restore_a_backup(here)
    await met(lambda: not sequencer.trusted)
    running.cancel()


async def test_keys_are_rotated_with_both_published_and_another_key_opens_nothing(here: Ground) -> None:
    await here.append(3)
    await here.sequenced()
    newer, newer_vkey = note.generate("assent.test/log")
    assert await here.refused(here.log(newer)) == "key.unknown"
    both = here.log(newer, SKEY)
    await here.append(3)
    await here.sequenced(both)
    signed = note.open_note((here.folder / CHECKPOINT).read_bytes(), [note.Verifier(newer_vkey)])
    assert len(signed.verified) + len(signed.unverified) == 2
    assert (here.folder / KEYS).read_text().split() == [newer_vkey, VKEY]
    retired = Log(here.folder, [note.Signer(newer)], [VKEY])
    await here.append(3)
    await here.sequenced(retired)
    assert (here.folder / KEYS).read_text().split() == [newer_vkey, VKEY]
    assert await here.refused(here.log(newer)) is None
    with pytest.raises(ValueError, match="name"):
        here.log(newer, note.generate("another.test")[0])


async def test_two_sequencers_at_once_sign_one_history(here: Ground) -> None:
    """Without the lock that keeps them apart: the swap alone decides, and the loser opens again."""
    seen: list[Checkpoint] = []
    overtaken = 0
    done = asyncio.Event()

    async def one() -> None:
        nonlocal overtaken
        async with here.connection() as connection:
            sequencer = Sequencer(here.dsn, here.log())
            await sequencer.open(connection)
            while not done.is_set():
                try:
                    await sequencer.sequence(connection)
                    if (signed := here.signed()) is not None:
                        seen.append(signed)
                except (OvertakenError, OSError):  # the other's opening swept what this one had not finished
                    overtaken += 1
                    with suppress(OSError):
                        await sequencer.open(connection)
                await asyncio.sleep(0)

    await here.append(1)
    await here.sequenced()
    pair = [asyncio.create_task(one()) for _ in range(2)]
    for n in range(60):
        await here.append(1 + n % 7)
    await asyncio.sleep(0.2)
    done.set()
    await asyncio.gather(*pair)
    assert overtaken
    roots = await here.roots()
    assert seen
    assert all(one.root == roots[one.size] for one in seen)
    assert (await here.sequenced()).size == len(roots) - 1


# --- the fault table: each write, applied and errored, not applied and errored ---------------------------------------


class Faults:
    """Raises once at the n-th write of a kind, before it or after it."""

    def __init__(self, at: str, *, applied: bool) -> None:
        self.at, self.applied, self.hit = at, applied, False

    def before(self, at: str) -> None:
        if at == self.at and not self.applied and not self.hit:
            self.hit = True
            raise OSError("not applied")

    def after(self, at: str) -> None:
        if at == self.at and self.applied and not self.hit:
            self.hit = True
            raise OSError("applied")


class FaultyTiles(Tiles):
    def __init__(self, root: Path, faults: Faults) -> None:
        super().__init__(root)
        self.faults = faults

    def write(self, writes: Any) -> None:
        self.faults.before("tiles")
        some: list[Write] = list(writes)
        super().write(some[:1])
        self.faults.after("a tile")
        super().write(some)
        self.faults.after("tiles")


class FaultySigned(Signed):
    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self.faults = faults

    def swap(self, origin: str, old: bytes | None, new: bytes) -> bool:
        self.faults.before("swap")
        done = super().swap(origin, old, new)
        self.faults.after("swap")
        return done


class FaultyConnection:
    """A connection whose memory of the checkpoint fails."""

    def __init__(self, real: Any, faults: Faults) -> None:
        self.real, self.faults = real, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def execute(self, *words: Any, **more: Any) -> Any:
        self.faults.before("record")
        done = await self.real.execute(*words, **more)
        self.faults.after("record")
        return done


POINTS = [("tiles", False), ("a tile", True), ("tiles", True), ("swap", False), ("swap", True), ("record", False)]


@pytest.mark.parametrize(("at", "applied"), [*POINTS, ("record", True)])
async def test_a_write_that_fails_is_gone_on_from(here: Ground, at: str, applied: bool) -> None:
    await here.append(250)
    await here.sequenced()
    await here.append(300)
    faults, log = Faults(at, applied=applied), here.log()
    log.tiles, log.signed = FaultyTiles(here.folder, faults), FaultySigned(here.folder / "state/signed.sqlite3", faults)
    seen = [here.published()]
    async with here.connection() as real:
        connection: Any = FaultyConnection(real, faults)
        for _ in range(3):
            sequencer = Sequencer(here.dsn, log)
            with suppress(OSError, OvertakenError):
                await sequencer.open(connection)
                while await sequencer.sequence(connection):
                    pass
            seen.append(here.published())
            await here.append(10)
    assert faults.hit
    seen.append(await here.sequenced())
    assert consistent(await here.roots(), seen)
    assert seen[-1].size == 580


async def test_a_full_disk_signs_nothing_and_is_gone_on_from(here: Ground) -> None:
    await here.append(10)
    before = await here.sequenced()
    await here.append(300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with here.connection() as connection:
        sequencer = Sequencer(here.dsn, here.log())
        await sequencer.open(connection)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # no file may be larger: an OSError
        try:
            with pytest.raises((OSError, sqlite3.Error)):
                await sequencer.sequence(connection)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert here.signed() == here.published() == before
    assert sequencer.trusted
    assert consistent(await here.roots(), [before, await here.sequenced()])


async def test_a_clock_that_steps_back_leaves_times_in_order(here: Ground) -> None:
    await here.append(3)
    await here.pool.execute("UPDATE ledger_head SET at = at + interval '1 hour'")  # as a clock before the step left it
    await here.append(3)
    await here.sequenced()
    times = [leaf.decode(entry).at_ms for entry in await here.entries()]
    assert times == sorted(times)
    assert times[3] - times[2] >= 3_599_000
