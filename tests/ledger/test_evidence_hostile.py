"""Evidence before a stranger who wants it to lie: forged, built to burst, or asked for at a bad moment."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.consent import EventKind
from gateway.contract.decision import Class, Reason
from gateway.ledger import events
from gateway.ledger.attesting import ATTESTED, ATTESTED_TIME
from gateway.ledger.bundle import packed, seal
from gateway.ledger.chain import Case
from gateway.ledger.evidence import NoLogError
from gateway.ledger.verify import verify
from tests.integration.evidence_rig import (
    ACCEPTED_AT,
    AT,
    RECORDS,
    VKEYS,
    Court,
    both_records,
    courtroom,
    failed,
    opened,
    resealed,
)
from tests.integration.tree_rig import KEYS

pytestmark = pytest.mark.integration
Change = Callable[[dict[str, Any], dict[str, bytes]], None]


@pytest.fixture
async def court(postgres_url: str, migrated: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Court]:
    async with courtroom(postgres_url, migrated, redis_url, tmp_path) as made:
        yield made


# --- a bundle that its sender forged and sealed again -----------------------------------------------------------------


def say_no_entry(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    """Marketing that relied on nothing is no request of the person."""
    told["message"]["decision"]["ledger_entry"] = None


def call_it_a_request(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["message"]["decision"] |= {"ledger_entry": None, "basis": "request"}


def rely_on_what_is_hidden(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    """An entry whose body is merely withheld is not an erased one."""
    told["message"]["decision"]["ledger_entry"] = told["entries"][1]["seq"]


def rely_on_an_order(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    """A relationship permits no marketing, whether the rules are shown or not."""
    told["message"]["decision"]["ledger_entry"] = told["entries"][2]["seq"]


def hide_the_key(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    """As if the person had been erased, which would excuse that entries are left out."""
    del told["tag_key"]
    told["entries"][0]["kind"] = "erasure"
    del told["entries"][0]["body"]


def count_without_end(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["count"] = 2**62


def count_backwards(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["count"] = -1


def an_impossible_time(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["at"] = -1


def a_version_too_large(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["version"] = 300


def too_deep(told: dict[str, Any], _files: dict[str, bytes]) -> None:
    told["entries"][0]["body"] = "[" * 100_000 + "]" * 100_000


FORGERIES: tuple[tuple[Change, str], ...] = (
    (say_no_entry, "permission"),
    (call_it_a_request, "permission"),
    (rely_on_what_is_hidden, "permission"),
    (rely_on_an_order, "permission"),
    (hide_the_key, "person"),
    (count_without_end, "checkpoint"),
    (count_backwards, "checkpoint"),
    (an_impossible_time, "checkpoint"),
    (a_version_too_large, "entries"),
    (too_deep, "entries"),
)


async def test_what_a_sender_seals_is_not_believed(court: Court) -> None:
    await court.act(EventKind.RELATIONSHIP, events.relationship("acme", "order", "o-9"))
    raw = await court.bundle()
    for change, caught in FORGERIES:
        assert caught in failed(verify(resealed(raw, change), VKEYS, leaves=court.leaves)), change.__name__


async def test_other_rules_put_in_front_do_not_judge(court: Court) -> None:
    """The pack that decided is used, not whichever is the first in the bundle."""

    def in_front(told: dict[str, Any], files: dict[str, bytes]) -> None:
        rely_on_an_order(told, files)
        name, text = "packs/old.toml", files[told["packs"][0]["file"]]
        files[name] = text.replace(b'basis = "consent"', b'basis = "relationship"\nkinds = ["order"]')
        told["packs"].insert(0, told["packs"][0] | {"file": name, "pack": "cn@2020.1"})

    await court.act(EventKind.RELATIONSHIP, events.relationship("acme", "order", "o-9"))
    found = failed(verify(resealed(await court.bundle(), in_front), VKEYS))
    assert {"rules", "permission"} <= found


async def test_two_readers_cannot_see_two_messages(court: Court) -> None:
    files = opened(await court.bundle())
    del files["SEAL"]
    files["bundle.json"] = files["bundle.json"].replace(b'"sender":"acme"', b'"sender":"bolt","sender":"acme"')
    assert failed(verify(seal(files, RECORDS), VKEYS)) == {"seal"}


async def test_a_consent_to_more_than_was_ticked(court: Court) -> None:
    """Both records are signed and the log holds the grant: it says more than they do all the same."""
    data = both_records(court.to).data | {"topics": ["marketing.promotion", "marketing.survey"]}
    entry = await court.act(EventKind.GRANT, data, AT + 6_000)
    raw = await court.bundle(entry=entry, purpose="marketing.survey")
    assert failed(verify(raw, VKEYS)) == {"records"}


async def test_without_the_rules_no_relationship_is_judged(court: Court) -> None:
    def drop_the_rules(told: dict[str, Any], files: dict[str, bytes]) -> None:
        rely_on_an_order(told, files)
        told["packs"].clear()

    await court.act(EventKind.RELATIONSHIP, events.relationship("acme", "order", "o-9"))
    report = verify(resealed(await court.bundle(), drop_the_rules), VKEYS)
    assert {"rules", "permission"} <= {one.name for one in report.checks if one.ok is None}


# --- containers built to burst, to escape or to write on a terminal ---------------------------------------------------


def zipped(files: dict[str, bytes], method: int) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(method: int) -> None:
    report = verify(zipped({"bundle.json": b"\0" * (8 << 20)}, method), VKEYS)
    assert failed(report) == {"container"}
    assert "compressed" in report.checks[-1].en


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a\\..\\b",
        "x/../y",
        "seal\n0  y",
        "\x1b[2Kok   the evidence holds",
        ".",
        "",
        "a/b/c",
    ],
)
def test_a_name_that_no_bundle_has(name: str) -> None:
    report = verify(packed({"SEAL": b"", name: b""}), VKEYS)
    assert failed(report) == {"container"}
    assert "\x1b" not in report.checks[-1].en


async def test_each_bit_of_the_directory(court: Court) -> None:
    """Methods of compression, flags, sizes and offsets: a failed check, never an exception."""
    raw = await court.bundle()
    begin = raw.rindex(b"PK\x01\x02")
    for place in range(begin, len(raw)):
        for bit in range(8):
            spoiled = bytearray(raw)
            spoiled[place] ^= 1 << bit
            assert not verify(bytes(spoiled), VKEYS).good, (place - begin, bit)


# --- what refused, and what it did not --------------------------------------------------------------------------------


def order_message(court: Court, entry: int) -> Case:
    changed = {"purpose": "transaction.shipping", "class": "transactional"}
    return court.case(entry=entry, **changed)


async def permitted(court: Court, case: Case) -> bool | None:
    report = verify(await court.evidence.bundle(case, AT), VKEYS, leaves=court.leaves)
    found = {one.name: one.ok for one in report.checks}
    assert {name for name, ok in found.items() if ok is False} <= {"permission"}, report.checks
    return found["permission"]


async def test_an_opt_out_before_an_order_forbids_what_the_order_would_permit(court: Court) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme"), AT + 20_000)
    entry = await court.act(EventKind.RELATIONSHIP, events.relationship("acme", "order", "o-9"), AT + 30_000)
    assert await permitted(court, order_message(court, entry)) is False


async def test_a_suppression_that_was_lifted_forbids_nothing(court: Court) -> None:
    scope = events.suppression("acme", Reason.MANUAL)
    await court.act(EventKind.SUPPRESSION, scope, AT + 20_000)
    assert await permitted(court, court.case()) is False
    await court.act(EventKind.UNSUPPRESSION, scope, AT + 30_000)
    assert await permitted(court, court.case()) is True


async def test_an_opt_out_that_the_person_lifted_gives_the_order_back_and_not_the_consent(court: Court) -> None:
    entry = await court.act(EventKind.RELATIONSHIP, events.relationship("acme", "order", "o-9"), AT + 10_000)
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme"), AT + 20_000)
    assert await permitted(court, order_message(court, entry)) is False
    again = await court.act(EventKind.GRANT, events.grant("acme", ["marketing.survey"], lifts=True), AT + 30_000)
    assert await permitted(court, order_message(court, entry)) is True
    assert await permitted(court, court.case()) is False
    assert await permitted(court, court.case(entry=again, purpose="marketing.survey")) is True


async def test_an_older_opt_out_that_was_recorded_late_spares_a_proven_consent(court: Court) -> None:
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme"), AT - 60_000)
    assert await permitted(court, court.case()) is True


async def test_a_consent_that_has_run_out_permits_nothing(court: Court) -> None:
    data = events.grant("acme", ["marketing.survey"], valid_until_s=ACCEPTED_AT // 1000 - 60)
    entry = await court.act(EventKind.GRANT, data)
    assert await permitted(court, court.case(entry=entry, purpose="marketing.survey")) is False


async def test_a_declared_consent_permits_the_one_question_and_nothing_else(court: Court) -> None:
    entry = await court.act(EventKind.GRANT, events.grant("acme", ["declared"]))
    asking = {"purpose": "consent.preferences", "class": "consent"}
    assert await permitted(court, court.case(entry=entry, **asking)) is True
    assert await permitted(court, court.case(entry=entry)) is False
    await court.act(EventKind.WITHDRAWAL, events.withdrawal("acme", cls=Class.MARKETING), AT + 20_000)
    assert await permitted(court, court.case(entry=entry, **asking)) is False


async def test_entries_that_are_not_shown_are_counted_in_words(court: Court) -> None:
    report = verify(await court.bundle(), VKEYS)
    (words,) = [one.en for one in report.checks if one.name == "permission"]
    assert "1 entries before the message are not shown" in words


# --- asked for at a bad moment ----------------------------------------------------------------------------------------


async def test_acts_that_arrive_while_a_bundle_is_made_are_not_missing_from_it(court: Court) -> None:
    """The log is signed ten times a second, and others look at the same person at once."""

    async def busy() -> None:
        for _ in range(60):
            await court.act(EventKind.ACCESS, {"seen": ["evidence"]})

    working = asyncio.create_task(busy())
    made = [await court.bundle() for _ in range(8)]
    await working
    for raw in made:
        report = verify(raw, VKEYS, leaves=court.leaves)
        assert report.good, [one for one in report.checks if one.ok is False]
        assert all("count" in entry for entry in report.told["entries"])


async def test_tiles_that_are_seen_later_than_their_checkpoint(court: Court) -> None:
    await court.bundle()
    (court.here.folder / "tile").rename(court.here.folder / "late")
    with pytest.raises(NoLogError):
        await court.bundle()


async def test_a_reply_over_an_earlier_checkpoint_is_left_out(court: Court) -> None:
    """The authority was away when the last one was cosigned: its older reply is still there."""
    await court.bundle()
    folder = court.here.folder
    (folder / ATTESTED).write_bytes((folder / "checkpoint").read_bytes())
    (folder / ATTESTED_TIME).write_bytes(b"over something else")
    assert "checkpoint.tsr" not in opened(await court.bundle())
    (folder / ATTESTED).write_bytes(b"cut sh")
    assert verify(await court.bundle(), VKEYS).good


async def test_digits_that_are_no_number_name_nothing(court: Court) -> None:
    for written in ("²", "١", "9" * 18, "9" * 40, "\0", "0"):
        assert await court.evidence.place(written) is None


async def test_a_long_chain_does_not_stop_the_loop(court: Court) -> None:
    """Opening, proving and sealing are done beside it: nobody else waits longer than a moment."""
    subject = KEYS.subject(court.to)
    acts = [court.event(EventKind.RELATIONSHIP, events.relationship("acme", "order", f"o-{n}")) for n in range(3_000)]
    for first in range(0, len(acts), 500):
        await court.here.appender.append(acts[first : first + 500])
    longest, told = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        clock = asyncio.get_running_loop().time
        while not told.is_set():
            before = clock()
            await asyncio.sleep(0.005)
            longest = max(longest, clock() - before)

    await court.bundle()  # the log has signed all of it
    ticking, began = asyncio.create_task(tick()), asyncio.get_running_loop().time()
    raw = await court.evidence.bundle(Case({"message": "m"}, subject, "acme", court.message()), AT)
    took = asyncio.get_running_loop().time() - began
    told.set()
    await ticking
    assert len(json.loads(opened(raw)["bundle.json"])["entries"]) == 3_002
    assert longest < took / 2
