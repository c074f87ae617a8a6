"""What pages find: messages of a campaign in any order of time, page by page, none twice and none left out."""

import random
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from gateway.contract.decision import Status
from gateway.contract.ids import new_id
from gateway.records import cases, searching
from gateway.records.searching import Wanted
from gateway.records.timeline import STATUS_NUMBERS, Entry, encode

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
T0 = 20_000 * DAY_MS
PEOPLE = [bytes([n]) * 16 for n in range(4)]
CAMPAIGNS = ("spring", "autumn", None)


class Sent(NamedTuple):
    id: str
    subject: bytes
    campaign: str | None
    ref: str
    made_at: int


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=3) as made:
        yield made


@pytest.fixture(scope="module")
async def sent(pool: Any) -> list[Sent]:
    """A log with busy hours and empty weeks; some were accepted most of a day after their id was made."""
    draw = random.Random(7)
    found = []
    async with pool.acquire() as conn:
        origins = {}
        for campaign in CAMPAIGNS:
            origins[campaign] = await conn.fetchval(
                "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis, campaign) "
                "VALUES ($1, 'shop', 'acme', 'p', 'marketing', '10690002', 'cn@1', 'consent', $2) RETURNING id",
                uuid.uuid4().bytes, campaign,
            )  # fmt: skip
        for n in range(400):
            week = draw.choice((0, 0, 3, 11))
            made_at = T0 + week * 7 * DAY_MS + draw.choice((0, 5, 47)) * 3_600_000 + draw.randrange(3_600_000)
            accepted = made_at + draw.choice((0, 0, 0, 20 * 3_600_000))
            one = Sent(new_id(3, made_at), draw.choice(PEOPLE), draw.choice(CAMPAIGNS), f"ref-{n % 9}", made_at)
            found.append(one)
            await conn.execute(
                "INSERT INTO messages (id, subject, origin, accepted_at, client_ref, rank, status, timeline) "
                "VALUES ($1, $2, $3, $4, $5, 1, 2, $6)",
                one.id, one.subject, origins[one.campaign], accepted, one.ref, encode([Entry(accepted, Status.QUEUED)]),
            )  # fmt: skip
            await conn.execute(
                "INSERT INTO outcome_minutes (minute, origin, carrier, status, cause, n) VALUES ($1, $2, '', $3, 0, 1) "
                "ON CONFLICT (minute, origin, carrier, status, cause) DO UPDATE SET n = outcome_minutes.n + 1",
                accepted // 60_000, origins[one.campaign], STATUS_NUMBERS[Status.QUEUED],
            )  # fmt: skip
    return sorted(found, reverse=True)


async def pages(pool: Any, wanted: Wanted, size: int) -> list[str]:
    """Every page, one after the other."""
    found: list[str] = []
    while page := await searching.found(pool, wanted._replace(before=found[-1] if found else wanted.before), size):
        found += [one.id for one in page]
        if len(page) < size:
            break
    return found


@pytest.mark.parametrize("size", [7, 200])
@pytest.mark.parametrize("campaign", ["spring", "autumn"])
async def test_a_campaign_is_walked_backwards_whole(pool: Any, sent: list[Sent], campaign: str, size: int) -> None:
    wanted = [one.id for one in sent if one.campaign == campaign]
    assert await pages(pool, Wanted(campaign=campaign), size) == wanted
    low, high = T0 + DAY_MS, T0 + 22 * DAY_MS
    within = [one.id for one in sent if one.campaign == campaign and low <= one.made_at < high]
    assert 0 < len(within) < len(wanted)
    assert await pages(pool, Wanted(campaign=campaign, from_ms=low, until_ms=high), size) == within


async def test_conditions_hold_together(pool: Any, sent: list[Sent]) -> None:
    person, ref = PEOPLE[1], "ref-4"
    for wanted, fits in (
        (Wanted(subject=person), lambda one: one.subject == person),
        (Wanted(client_ref=ref), lambda one: one.ref == ref),
        (Wanted(subject=person, client_ref=ref), lambda one: (one.subject, one.ref) == (person, ref)),
        (Wanted(subject=person, campaign="spring"), lambda one: (one.subject, one.campaign) == (person, "spring")),
        (Wanted(sender="acme", until_ms=T0 + DAY_MS), lambda one: one.made_at < T0 + DAY_MS),
        (Wanted(from_ms=T0 + 30 * DAY_MS), lambda one: one.made_at >= T0 + 30 * DAY_MS),
    ):
        assert await pages(pool, wanted, 40) == [one.id for one in sent if fits(one)], wanted
    assert await searching.found(pool, Wanted(campaign="nobody's")) == []


async def test_the_longest_overdue_case_is_first_and_the_answered_wait_no_more(pool: Any) -> None:
    late, soon, answered = (uuid.UUID(int=n) for n in (3, 1, 2))
    async with pool.acquire() as conn:
        for name, due, state, at in (
            (late, 5, "assigned", None),
            (soon, 9, "open", None),
            (answered, 1, "answered", 4),
        ):
            await conn.execute(
                "INSERT INTO complaints "
                "(id, source, at, received_at, match, minute, scope, state, due_at, answered_at) "
                "VALUES ($1, 'own', 0, 0, 'unmatched', 0, '*', $2, $3, $4)",
                name, state, due, at,
            )  # fmt: skip
        assert [one.id for one in await cases.waiting(conn)] == [str(late), str(soon)]
        assert [one.id for one in await cases.waiting(conn, 1)] == [str(late)]
