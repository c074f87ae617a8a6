"""`assent ledger verify` and `recover` on a real log: what was changed is found and named, what was lost comes back."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.contract.consent import Event, EventKind
from gateway.ledger import events, note
from gateway.ledger.checking import Checking, Findings
from gateway.ledger.checkpoint import CheckpointError
from gateway.ledger.keys import SALT_BYTES, commit
from gateway.ledger.note import NoteError
from gateway.ledger.opening import TreeRefusedError
from gateway.ledger.regrowing import NothingSignedError, regrow
from gateway.ledger.rows import seal_body
from gateway.ledger.sequencer import Sequencer
from tests.integration.tree_rig import KEYS, SKEY, Ground, act, ground, person

pytestmark = pytest.mark.integration
SIZE = 700
EDGE = "the tiles of the last checkpoint"


@pytest.fixture
async def here(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(postgres_url, migrated, redis_url, tmp_path) as made:
        await made.append(SIZE - 6)
        to = person()
        for n in range(6):
            await made.appender.append([act(to, n)])
        await made.sequenced()
        yield made


def quiet(_stage: str, _done: int, _total: int) -> None:
    """No bar."""


async def looked(here: Ground, *others: bytes, deep: bool = False) -> Findings:
    async with here.connection() as connection:
        checking = Checking(connection, here.log(), quiet)
        found = await checking.run(others)
        return await checking.deep(KEYS) if deep else found


async def test_a_sound_log_fits(here: Ground) -> None:
    old = (here.folder / "checkpoint").read_bytes()
    await here.append(100)
    await here.sequenced()
    stages: dict[str, tuple[int, int]] = {}
    async with here.connection() as connection:
        checking = Checking(connection, here.log(), lambda stage, done, total: stages.update({stage: (done, total)}))
        await checking.run([old])
        found = await checking.deep(KEYS)
    assert found.told == []
    assert (found.entries, found.tiles, found.bodies) == (800, 6, 800)
    assert found.people == 795
    assert sorted(found.checkpoints) == [700, 800, 800]
    assert stages == {"entries": (800, 800), "bodies": (16, 16)}


Change = Callable[[Ground], Awaitable[Any]]


async def edit_a_commitment(here: Ground) -> None:
    await here.pool.execute("UPDATE consent_events SET commitment = tag || tag WHERE seq = 100")


async def swap_two_events(here: Ground) -> None:
    for old, new in ((100, -1), (101, 100), (-1, 101)):
        await here.pool.execute("UPDATE consent_events SET seq = $2 WHERE seq = $1", old, new)


async def delete_an_event(here: Ground) -> None:
    await here.pool.execute("DELETE FROM consent_events WHERE seq = 100")


async def back_date_an_event(here: Ground) -> None:
    await here.pool.execute("UPDATE consent_events SET at = at - interval '1 day' WHERE seq = 100")


async def spoil_a_full_tile(here: Ground) -> None:
    tile = here.folder / "tile/0/001"
    tile.write_bytes(b"\0" + tile.read_bytes()[1:])


async def lose_a_full_tile(here: Ground) -> None:
    (here.folder / "tile/entries/000").unlink()


async def spoil_a_partial_tile(here: Ground) -> None:
    tile = here.folder / "tile/0/002.p/188"
    tile.write_bytes(b"\0" + tile.read_bytes()[1:])


async def forget_the_end(here: Ground) -> None:
    await here.pool.execute("DELETE FROM consent_events WHERE seq > 690")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit_a_commitment, "tile/entries/000 is not what the events come to"),
        (swap_two_events, "tile/entries/000 is not what the events come to"),
        (delete_an_event, "event 100 is missing"),
        (back_date_an_event, "event 100 is dated before the one ahead of it"),
        (spoil_a_full_tile, "tile/0/001 is not what the events come to"),
        (lose_a_full_tile, "tile/entries/000 is missing"),
        (
            spoil_a_partial_tile,
            "the tiles of the last checkpoint: the partial bundle does not hash to the partial tile",
        ),
        (forget_the_end, "a checkpoint of 700 entries was signed, the database has 690"),
    ],
)
async def test_what_was_changed_is_found_and_named(here: Ground, change: Change, words: str) -> None:
    await change(here)
    found = await looked(here)
    assert found.wrong
    assert words in found.told, found.told


async def test_an_edit_that_was_signed_again_is_found_by_whoever_kept_a_checkpoint(here: Ground) -> None:
    """The operator itself rewrites history, tiles, memory and all; only somebody else's copy tells."""
    kept = (here.folder / "checkpoint").read_bytes()
    await edit_a_commitment(here)
    shutil.rmtree(here.folder)
    await here.pool.execute("DELETE FROM ledger_checkpoint")
    await here.sequenced()
    assert (await looked(here)).told == []
    assert (await looked(here, kept)).told == ["the events come to another root than the checkpoint of 700 entries"]


async def test_a_checkpoint_of_another_log_is_no_measure(here: Ground) -> None:
    other = here.log(note.generate("another.test")[0], folder=here.folder.with_name("other"))
    await here.sequenced(other)
    with pytest.raises((NoteError, CheckpointError)):
        await looked(here, (other.folder / "checkpoint").read_bytes())


async def test_no_byte_of_a_published_checkpoint_can_be_altered(here: Ground) -> None:
    published = here.folder / "checkpoint"
    raw = published.read_bytes()
    for place in range(0, len(raw), 7):
        published.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            told = (await looked(here)).told
        except (NoteError, CheckpointError) as named:
            told = [str(named)]
        assert told, place


# --- deep ------------------------------------------------------------------------------------------------------------


async def edit_a_body(here: Ground) -> None:
    """With the master key in hand: the body opens, and is not what was committed to."""
    row = await here.pool.fetchrow(
        "SELECT seq, subject, key FROM consent_events JOIN subjects USING (subject) WHERE seq = 100"
    )
    keys = KEYS.unwrap(row["subject"], row["key"])
    forged = Event(
        event_id="x", kind=EventKind.GRANT, number=None, subject=row["subject"], occurred_at_ms=1, data={"sender": "a"}
    )
    sealed = seal_body(keys, 100, events.body(forged))
    await here.pool.execute("UPDATE consent_events SET body = $1 WHERE seq = 100", sealed)


async def spoil_a_body(here: Ground) -> None:
    await here.pool.execute(
        "UPDATE consent_events SET body = set_byte(body, 20, get_byte(body, 20) # 1) WHERE seq = 100"
    )


async def hide_a_body(here: Ground) -> None:
    await here.pool.execute("UPDATE consent_events SET body = NULL WHERE seq = 100")


async def move_an_event_to_somebody(here: Ground) -> None:
    await here.pool.execute("UPDATE consent_events SET kind = 'access' WHERE seq = 100")


async def lift_an_opt_out(here: Ground) -> None:
    row = await here.pool.fetchrow(
        "SELECT subject, state FROM subject_states WHERE position('opt_outs'::bytea in state) > 0 LIMIT 1"
    )
    state = orjson.loads(row["state"])
    state["suppressions"] = {}
    await here.pool.execute(
        "UPDATE subject_states SET state = $2 WHERE subject = $1", row["subject"], orjson.dumps(state)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit_a_body, "the body of event 100 is not the one that was committed to"),
        (spoil_a_body, "the body of event 100 does not open: it or its key was changed"),
        (hide_a_body, "the body of event 100 is missing, and its person was not erased"),
        (move_an_event_to_somebody, "says another kind or person than its body"),
        (lift_an_opt_out, "does not follow from the person's events"),
    ],
)
async def test_what_only_a_look_into_bodies_and_states_finds(here: Ground, change: Change, words: str) -> None:
    await change(here)
    assert (await looked(here)).told == []
    found = await looked(here, deep=True)
    assert any(words in one for one in found.told), found.told


async def test_an_erased_person_is_no_difference(here: Ground) -> None:
    to = person()
    await here.appender.append([act(to, 0), act(to, 1)])
    erasure = act(to, 2).model_copy(update={"kind": EventKind.ERASURE, "data": {}, "number": None})
    await here.appender.append([erasure])
    await here.sequenced()
    found = await looked(here, deep=True)
    assert found.told == []
    assert found.bodies == 701


# --- recover ---------------------------------------------------------------------------------------------------------


async def recovered(here: Ground, kept: bytes | None = None) -> int:
    async with here.connection() as connection:
        return (await regrow(connection, here.log(), lambda _done, _total: None, kept)).size


@pytest.mark.parametrize("lost", ["tile", "state", "", "tile/0", "tile/1/000.p/2"])
async def test_what_was_lost_comes_back_with_the_same_root(here: Ground, lost: str) -> None:
    before = here.published()
    place = here.folder / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert await here.refused() is not None
    assert await recovered(here) == SIZE
    assert await here.refused() is None
    assert (here.published(), here.signed()) == (before, before)
    await here.append(5)
    assert (await here.sequenced()).size == SIZE + 5
    assert (await looked(here)).told == []


async def test_nothing_is_recovered_over_another_history(here: Ground) -> None:
    await edit_a_commitment(here)
    shutil.rmtree(here.folder / "state")
    with pytest.raises(TreeRefusedError, match="tiles are not those"):
        await recovered(here)
    shutil.rmtree(here.folder)
    with pytest.raises(TreeRefusedError, match="not those that were signed"):
        await recovered(here)
    assert await here.refused() == "memory.lost"


async def test_a_kept_checkpoint_speaks_where_everything_else_forgot(here: Ground) -> None:
    kept = (here.folder / "checkpoint").read_bytes()
    shutil.rmtree(here.folder)
    await here.pool.execute("DELETE FROM ledger_checkpoint")
    with pytest.raises(NothingSignedError):
        await recovered(here)
    await here.pool.execute("DELETE FROM consent_events WHERE seq > 690")
    await here.pool.execute("UPDATE ledger_head SET seq = 690")
    with pytest.raises(TreeRefusedError, match="fewer events"):
        await recovered(here, kept)


def test_commitments_are_made_as_they_are_checked() -> None:
    assert commit(b"body", b"s" * SALT_BYTES) != commit(b"body", b"t" * SALT_BYTES)
    assert note.Signer(SKEY).name == "assent.test/log"


async def test_a_log_that_grows_meanwhile_is_not_said_to_be_wrong(here: Ground) -> None:
    """Operators check a running gateway: acts arrive, checkpoints move, partial tiles become full and go."""
    log, stop, returning = here.log(), asyncio.Event(), person()

    async def busy() -> None:
        n = 3_000
        while not stop.is_set():
            n += 3
            await here.append(20)
            await here.appender.append([act(returning, n)])

    running = [asyncio.create_task(Sequencer(here.dsn, log).run()), asyncio.create_task(busy())]
    try:
        for _ in range(10):
            assert (await looked(here, deep=True)).told == []
    finally:
        stop.set()
        await running[1]
        running[0].cancel()


async def test_the_upper_tiles_at_the_edge_have_the_root_that_was_signed(here: Ground) -> None:
    place = here.folder / "tile/1/000.p/2"
    place.chmod(0o644)
    place.write_bytes(bytes(64))
    assert (await looked(here)).told == [f"{EDGE} do not have its root"]
