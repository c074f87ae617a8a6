"""A complaint suppresses its reporter, opens one case and counts once, however often and by how many it is brought."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from complaint_rig import DAY, HOUR, MINUTE, NOW, SALE, World, told, world

from gateway.contract.codes import Code
from gateway.contract.complaint import CaseAct, CaseState, Matching
from gateway.contract.decision import Reason, Refusal
from gateway.intake.complaints import take
from gateway.ledger.appender import LedgerUnavailable
from gateway.records import cases, weighing
from gateway.records.personal import Personal

pytestmark = pytest.mark.integration
COMPLAINED = [Reason.COMPLAINT.value]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at(redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with world(redis_url, database_url) as made:
        yield made


async def complaints(at: World, number: str) -> list[tuple[Any, ...]]:
    return await at.rows("SELECT id::text, match FROM complaints WHERE subject = $1", at.keys.subject(number))


async def test_it_finds_its_message_suppresses_and_counts_when_that_was_sent(at: World) -> None:
    who = at.number()
    message = await at.sent(who, 3 * HOUR, campaign="found")
    (taken,) = await at.take(told(who))
    assert (taken.duplicate, taken.match, taken.message, taken.scope) == (False, Matching.MATCHED, message, "acme")
    assert taken.due_at == NOW + 24 * HOUR
    assert await at.suppressed(who) == {"acme": COMPLAINED}
    sent_minute = (NOW - 3 * HOUR + 1_000) // MINUTE
    assert (await at.counts())[sent_minute, "found", "10690002"] == 1
    async with at.pool.acquire() as conn:
        case = await cases.one(conn, taken.id)
        (act,) = await cases.acts(conn, taken.id)
    assert case is not None
    assert (case.permission, case.bundle, case.entry, case.state) == (7, message, taken.entry, CaseState.OPEN)
    assert (act.act, act.by, act.entry) == (CaseAct.RECORDED, "shop", taken.entry)


async def test_the_texts_that_are_kept_tell_campaigns_apart(at: World) -> None:
    who = at.number()
    meant = await at.sent(who, 5 * HOUR, campaign="sale", text=SALE)
    await at.sent(who, HOUR, campaign="birthday", text="【Acme】张女士，祝您生日快乐，到店领取蛋糕一份。拒收请回复R")
    (taken,) = await at.take(told(who, text="我没同意过：" + SALE))
    assert (taken.match, taken.message) == (Matching.MATCHED, meant)


async def test_one_that_is_not_matched_counts_for_its_port_and_suppresses_its_sender(at: World) -> None:
    who, before = at.number(), await at.counts()
    (taken,) = await at.take(told(who, port="1069000277", at_ms=NOW - 90 * DAY))
    assert (taken.match, taken.message, taken.scope) == (Matching.UNMATCHED, None, "acme")
    place = ((NOW - 90 * DAY) // MINUTE, None, "10690002")
    assert (await at.counts())[place] == before.get(place, 0) + 1


async def test_nobodys_port_suppresses_everything(at: World) -> None:
    who = at.number()
    (taken,) = await at.take(told(who, port="95555"))
    assert (taken.match, taken.scope) == (Matching.UNMATCHED, "*")
    assert await at.suppressed(who) == {"*": COMPLAINED}


async def test_several_that_could_be_it_wait_for_a_person_and_count_at_the_port(at: World) -> None:
    who = at.number()
    ones = [await at.sent(who, hours * HOUR, campaign=f"near{hours}") for hours in (2, 4)]
    (taken,) = await at.take(told(who))
    assert (taken.match, taken.message) == (Matching.AMBIGUOUS, None)
    async with at.pool.acquire() as conn:
        queue = await cases.page(conn, cases.Filter(queue=True, subject=at.keys.subject(who)), 10)
    assert [sorted(case.candidates) for case in queue] == [sorted(ones)]
    assert ((NOW - 2 * HOUR + 1_000) // MINUTE, None, "10690002") in await at.counts()


async def test_without_a_port_several_of_one_sender_count_for_it_and_of_two_for_nobody(at: World) -> None:
    one, two = at.number(), at.number()
    for who, sender, port in ((one, "acme", "10690001"), (two, "bolt", "10690004")):
        await at.sent(who, 2 * HOUR, campaign="first")
        await at.sent(who, 3 * HOUR, port=port, sender=sender, campaign="second")
    before = await at.counts()
    (taken,) = await at.take(told(one, port=None, source="own"))
    assert (taken.match, taken.scope) == (Matching.AMBIGUOUS, "acme")
    counted = {key: n - before.get(key, 0) for key, n in (await at.counts()).items() if n != before.get(key, 0)}
    assert [(campaign, port, n) for (_, campaign, port), n in counted.items()] == [(None, "10690002", 1)]
    before = await at.counts()
    (taken,) = await at.take(told(two, port=None, source="own"))
    assert (taken.match, taken.scope) == (Matching.AMBIGUOUS, "*")
    counted = {key: n - before.get(key, 0) for key, n in (await at.counts()).items() if n != before.get(key, 0)}
    assert [(campaign, port, n) for (_, campaign, port), n in counted.items()] == [(None, None, 1)]


async def test_what_the_centre_and_a_carrier_both_tell_is_one_case_told_twice(at: World) -> None:
    who = at.number()
    (first,) = await at.take(told(who, source="own", text="别再发了"))
    confirmed = "SELECT source, confirmed FROM complaints WHERE id = $1"
    assert await at.rows(confirmed, first.id) == [("own", False)]

    async def of_the_port() -> int:
        async with at.pool.acquire() as conn:
            found = {port: month for port, _, month in await weighing._confirmed(conn, NOW // MINUTE + 5, {})}
        return found.get("port:10690002", 0)

    before = await of_the_port()
    for _ in range(2):
        for source, ref in (("12321", "JB-77"), ("carrier", "GD-78"), ("carrier", "GD-79")):
            (again,) = await at.take(told(who, source=source, ref=ref, text="别再发了！"), by=f"cli/{source}")
            assert (again.id, again.duplicate) == (first.id, True)
    assert await at.rows(confirmed, first.id) == [("own", True)]
    assert await of_the_port() == before + 1, "confirmed, and once"
    async with at.pool.acquire() as conn:
        acts = [one for one in await cases.acts(conn, first.id) if one.act is CaseAct.TOLD]
    assert [(one.by, one.detail) for one in acts] == [
        ("cli/12321", "12321"), ("cli/carrier", "carrier"), ("cli/carrier", "carrier"),
    ]  # fmt: skip
    assert at.keys.open_case(acts[0].sealed or b"", uuid.UUID(first.id).bytes) == b"JB-77"
    (other,) = await take(at.means, [told(at.number(), source="carrier", ref="GD-78")], "shop", NOW)
    assert isinstance(other, Refusal), "a reference of somebody else"
    await Personal(at.pool).forget(at.keys.subject(who))
    assert await at.one("SELECT count(*) FROM case_acts WHERE complaint = $1 AND sealed IS NOT NULL", first.id) == 0


async def test_two_sources_that_tell_of_the_same_at_once_make_one_case(at: World) -> None:
    people, before = [at.number() for _ in range(12)], await at.counts()
    files = [[told(who, source=source, ref=f"{source}-{who}") for who in people] for source in ("12321", "carrier")]
    taken = await asyncio.gather(*(at.take(*file) for file in (*files, *files)))
    assert len({one.id for some in taken for one in some}) == 12
    assert sum(not one.duplicate for some in taken for one in some) == 12
    assert sum((await at.counts()).values()) - sum(before.values()) == 12
    who = at.number()
    one, two = await at.take(told(who, ref="x1"), told(who, ref="x2", source="carrier"))
    assert (one.id, one.duplicate, two.duplicate) == (two.id, False, True), "in one batch"


@pytest.mark.parametrize(
    ("first", "again", "same"),
    [
        ({"ref": "A-1"}, {"ref": "A-1", "text": "换句话说", "at_ms": NOW - DAY}, True),
        ({"ref": "A-2"}, {"ref": "A-3"}, False),
        ({"ref": "A-4"}, {"ref": "A-4", "source": "carrier"}, True),
        ({"ref": "A-5"}, {"ref": "B-5", "source": "carrier", "text": "换句话说"}, False),
        ({"ref": "A-6"}, {"ref": "B-6", "source": "carrier", "port": "10690001"}, False),
        ({"ref": "A-7"}, {"ref": "B-7", "source": "carrier", "at_ms": NOW - 1}, False),
        ({"ref": "A-8"}, {"source": "own"}, True),
        ({}, {"ref": "A-9"}, True),
        ({}, {"text": " 骚扰 短信！"}, True),
        ({}, {"source": "carrier"}, True),
        ({}, {"at_ms": NOW + 23 * HOUR}, True),  # `NOW` is midnight in Shanghai
        ({}, {"at_ms": NOW - 1}, False),
        ({}, {"port": "10690001"}, False),
        ({}, {"text": "又来了"}, False),
    ],
)
async def test_which_complaints_are_the_same(
    at: World, first: dict[str, Any], again: dict[str, Any], same: bool
) -> None:
    who = at.number()
    ref = {} if "ref" not in first else {"ref": first["ref"] + who}
    more = {} if "ref" not in again else {"ref": again["ref"] + who}
    events = await at.one("SELECT seq FROM ledger_head")
    ones = await at.take(told(who, **first | ref)) + await at.take(told(who, **again | more))
    assert [one.duplicate for one in ones] == [False, same]
    assert (ones[0].id == ones[1].id) is same
    cases_, counted = len(await complaints(at, who)), 1 if same else 2
    assert cases_ == counted
    assert await at.one("SELECT count(*) FROM signals WHERE subject = $1", at.keys.subject(who)) == counted
    assert await at.one("SELECT seq FROM ledger_head") == events + counted


async def test_the_same_twice_in_one_batch_is_one(at: World) -> None:
    who = at.number()
    ones = await at.take(told(who), told(at.number()), told(who))
    assert [one.duplicate for one in ones] == [False, False, True]
    assert ones[0].id == ones[2].id


async def test_a_reference_of_somebody_else_is_refused(at: World) -> None:
    one, other = at.number(), at.number()
    await at.take(told(one, ref="theirs"))
    (refused,) = await take(at.means, [told(other, ref="theirs")], "shop", NOW)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.IDEMPOTENCY_CONFLICT
    assert await at.suppressed(other) == {}


async def test_many_who_bring_the_same_at_once_record_it_once(at: World) -> None:
    people = [at.number() for _ in range(20)]
    for who in people[:5]:
        await at.sent(who, campaign="once")
    before = await at.counts()
    told_ = [told(who) for who in people]
    answers = await asyncio.gather(*(at.take(*told_[n:], *told_[:n], by=f"c{n}") for n in range(8)))
    assert sum(not one.duplicate for taken in answers for one in taken) == 20
    after = await at.counts()
    assert sum(after.values()) - sum(before.values()) == 20
    for who in people:
        assert len(await complaints(at, who)) == 1
        assert await at.one("SELECT count(*) FROM consent_events WHERE subject = $1", at.keys.subject(who)) == 1


async def test_a_port_that_many_complain_about_first_at_once_has_one_place_to_count(at: World) -> None:
    asked = [[told(at.number(), port="10690003") for _ in range(3)] for _ in range(8)]
    answers = await asyncio.gather(*(at.take(*told_) for told_ in asked))
    assert {one.scope for taken in answers for one in taken} == {"bolt"}
    assert (await at.counts())[NOW // MINUTE, None, "10690003"] == 24
    assert await at.one("SELECT count(*) FROM message_origins WHERE port = '10690003'") == 1


async def test_a_crash_after_the_suppression_leaves_it_and_the_repetition_completes_it(at: World) -> None:
    who = at.number()
    await at.sent(who, campaign="crash")

    class GoneError(Exception):
        pass

    class Dying:
        """The pool of a process that dies once the suppression is in force."""

        def __init__(self) -> None:
            self.lent = 0

        def acquire(self, **more: Any) -> Any:
            self.lent += 1
            if self.lent == 3:
                raise GoneError
            return at.pool.acquire(**more)

    dying = at.means._replace(pool=Dying())  # type: ignore[arg-type]
    with pytest.raises(GoneError):
        await take(dying, [told(who)], "shop", NOW)
    assert await at.suppressed(who) == {"acme": COMPLAINED}
    assert await complaints(at, who) == []
    head = await at.one("SELECT seq FROM ledger_head")
    (taken,) = await at.take(told(who))
    assert not taken.duplicate
    assert taken.entry is not None
    assert await at.one("SELECT seq FROM ledger_head") == head
    assert len(await complaints(at, who)) == 1


async def test_nothing_is_recorded_while_the_suppression_is_not_in_force(at: World) -> None:
    who = at.number()

    class Away:
        keys = at.keys

        async def append(self, _acts: Any) -> Any:
            raise LedgerUnavailable("away")

    with pytest.raises(LedgerUnavailable):
        await take(at.means._replace(appender=Away()), [told(who)], "shop", NOW)  # type: ignore[arg-type]
    assert await complaints(at, who) == []


async def test_a_transaction_that_dies_leaves_neither_case_nor_count(at: World, database_url: str) -> None:
    who, before = at.number(), await at.counts()
    async with at.pool.acquire() as conn:
        await conn.execute("ALTER TABLE signals ADD CONSTRAINT never CHECK (at <> 17) NOT VALID")
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await take(at.means, [told(who)], "shop", 17)
    finally:
        async with at.pool.acquire() as conn:
            await conn.execute("ALTER TABLE signals DROP CONSTRAINT never")
    assert await complaints(at, who) == []
    assert await at.counts() == before
    assert await at.suppressed(who) == {"acme": COMPLAINED}


async def test_the_first_scope_stands_when_the_port_is_known_only_later(at: World) -> None:
    who = at.number()
    unknowing = dataclasses.replace(at, means=at.means._replace(senders=(), pool=at.pool))
    name = told(who)
    (first,) = await unknowing.take(name)
    assert first.scope == "*"
    async with at.pool.acquire() as conn:  # as if it had died before the record
        await conn.execute("DELETE FROM case_acts WHERE complaint = $1", first.id)
        await conn.execute("DELETE FROM complaints WHERE id = $1", first.id)
    (again,) = await at.take(name)
    assert (again.duplicate, again.scope, again.entry) == (False, "*", first.entry)
    assert await at.suppressed(who) == {"*": COMPLAINED}


async def test_another_sender_is_stopped_too_when_it_is_known_only_after_a_first_try_died(at: World) -> None:
    who = at.number()
    await at.sent(who, 2 * HOUR)
    said = told(who, port=None, source="own", ref="D-1")
    (first,) = await at.take(said)
    assert (first.scope, await at.suppressed(who)) == ("acme", {"acme": COMPLAINED})
    async with at.pool.acquire() as conn:  # as if it had died before the record
        await conn.execute("DELETE FROM case_acts WHERE complaint = $1", first.id)
        await conn.execute("DELETE FROM complaints WHERE id = $1", first.id)
        await conn.execute("DELETE FROM signals WHERE key = $1", uuid.UUID(first.id).bytes)
    await at.sent(who, 3 * HOUR, sender="bolt", port="10690004")
    (again,) = await at.take(said)
    assert (again.id, again.duplicate, again.scope) == (first.id, False, "*")
    assert await at.suppressed(who) == {"acme": COMPLAINED, "*": COMPLAINED}


async def test_an_erasure_takes_the_words_and_whose_they_were_and_leaves_the_figures(at: World) -> None:
    who = at.number()
    (taken,) = await at.take(told(who, text="我是张三，别再发了"))
    before = await at.counts()
    sealed = await at.one("SELECT sealed FROM complaints WHERE id = $1", taken.id)
    assert "张三".encode() not in sealed
    async with at.pool.acquire() as conn:
        await cases.answer(conn, taken.id, "Li Lei", NOW, b"sealed words")
    await Personal(at.pool).forget(at.keys.subject(who))
    kept = await at.rows("SELECT subject, sealed, scope, source FROM complaints WHERE id = $1", taken.id)
    assert kept == [(None, None, "acme", "12321")]
    assert await at.rows("SELECT sealed FROM case_acts WHERE complaint = $1", taken.id) == [(None,), (None,)]
    assert await at.one("SELECT count(*) FROM signals WHERE subject = $1", at.keys.subject(who)) == 0
    assert await at.counts() == before
    (again,) = await at.take(told(who, text="我是张三，别再发了"))
    assert again.duplicate
