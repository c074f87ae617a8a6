"""Gives an emptied lane back what only it held: windows, records, bindings, used requests; from Kafka and PostgreSQL.

Runs while the lane is cold, after its people and before its cursor (`rebuild.fill`), so nobody is admitted or claimed
in it meanwhile. `day.py` reads the last day from Kafka, `returning.py` says what each message becomes,
`guard/lua/restore.lua` what gives way to what. Beginning again is always right; any fault leaves the lane cold, Kafka
being away included.

What was under way when the lane was emptied, and why it cannot slip through:

- *Admitted before, published after we asked for the end.* Its windows would be free again. A publisher holds a batch
  `stuck_s` (15 s) at most and then gives its connection up, so ends are asked for `LANDING_S` after the lane's mark was
  set, which proves that nobody has been admitted since. What its publisher voids meanwhile is found void and stays so.
- *Bound before, admitted after we are done.* Nothing is bound in a cold lane (`bind.lua`), and an admission follows its
  binding within a second or two, far less than the landing takes.
- *Claimed before, committed after.* The commit comes between the claim and the write, the write within a second of the
  claim, else it is claimed again, which is cold. So commits read after the landing tell what may have been written.
- *Requeued or done while the record was gone.* The call found nothing. A retry is released all the same, its attempt
  being newer than the record (`admit.lua`); a message reported but not marked done is at worst reported again.
- *Refunded while the record was gone.* Its result is in Kafka, mostly before our end, and then its windows are not put
  back; else they count, as they do where only a receipt told of the rejection: too many, never too few.
- *A refusal replied, acknowledged, not settled.* Its provisional block went with the lane. Nothing is opened before
  settle has read every reply there was, or `RepliesWaitError`.

What remains: a publish that was voided unacknowledged, landed anyway and was not claimed before the flush is sent
although its caller was told 503; sender caps and quotas begin anew; two messages of one person and one millisecond
count as one where their records lie further apart than the landing takes, or in the topics of two classes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.contract.registry import Registry
from gateway.guard import Guard, Restored, Stamps
from gateway.guard.guard import DONE_MS
from gateway.ledger.day import BACK_MS, Day, Progress
from gateway.ledger.outcomes import Outcomes
from gateway.ledger.returning import HOUR_MS, SLACK_MS, Book, Returning, Spelling
from gateway.rules.pack import Pack
from gateway.stream import Past, Topics

LANDING_S = 20.0
STEP_S = 0.5
REPLIES_S = 30.0


class RepliesWaitError(Exception):
    """Settle has replies to read that were there before the flush; a refusal may be among them."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything comes from, handed in: other rooms own the tables, the packs and how an answer is written.

    `stamps`, `requests`: pages of PostgreSQL's rows for (lanes, since by field or purpose, before), Unix ms; see
    `records.long_windows`. `settled`: the replies' partitions, and how far settle has got in each.
    """

    bootstrap: str
    topics: Topics
    packs: Mapping[str, Pack]
    load_registry: Callable[[], Awaitable[Registry]]
    spelling: Spelling
    stamps: Callable[[Sequence[int], Mapping[str, int], int], AsyncIterator[Sequence[tuple[bytes, str, list[int]]]]]
    requests: Callable[
        [Sequence[int], Mapping[str, int], int], AsyncIterator[Sequence[tuple[bytes, str, str, str, str, int]]]
    ]
    settled: Callable[[], Awaitable[Mapping[int, int]]]
    window: int = 256
    """How many messages deliver may have unresolved below a commit."""
    landing_s: float = LANDING_S


class Recovery:
    """One recovery after another over the same sources."""

    def __init__(self, guard: Guard, sources: Sources) -> None:
        self._guard, self._sources = guard, sources

    async def run(self, lanes: Collection[int], emptied_at: float | None, progress: Progress) -> None:
        """Put back what belongs to `lanes`. `emptied_at`: when they were marked (monotonic); none: nothing can land.

        Raises PastUnreadable, GuardUnavailable, RepliesWaitError, or what PostgreSQL raises.
        """
        await self._land(emptied_at, progress)
        now_ms = time.time_ns() // 1_000_000
        book = Book(await self._sources.load_registry(), self._sources.packs)
        async with Past(self._sources.bootstrap) as past:
            replies = await past.spans([self._sources.topics.replies], now_ms)
            outcomes, mine, sources = Outcomes(now_ms - DONE_MS), frozenset(lanes), self._sources
            returning = Returning(book, outcomes, sources.spelling, now_ms=now_ms, window=sources.window, lanes=mine)
            await Day(self._guard, past, sources.topics, outcomes, returning, progress).put_back(mine, now_ms)
        await self._put_back_longer(book, sorted(lanes), now_ms, progress)
        if emptied_at is not None:
            await self._replies({place.partition: end for place, (_, end) in replies.items()}, progress)

    async def _land(self, emptied_at: float | None, progress: Progress) -> None:
        """Wait until whatever was being published when the lane was emptied is in Kafka, or never will be."""
        whole = self._sources.landing_s
        while emptied_at is not None and (passed := time.monotonic() - emptied_at) < whole:
            progress("landing", int(passed), int(whole))
            await asyncio.sleep(min(STEP_S, whole - passed))

    async def _put_back_longer(self, book: Book, lanes: Sequence[int], now_ms: int, progress: Progress) -> None:
        """Windows and requests that outlive what was read of Kafka; the two overlap by an hour."""
        before, done = now_ms - BACK_MS + HOUR_MS, 0
        periods = book.long_fields()
        since = {name: now_ms - period for name, period in periods.items()}
        async for stamps in self._sources.stamps(lanes, since, before):
            await self._guard.restore_stamps(
                [Stamps(subject, name, given, periods[name]) for subject, name, given in stamps]
            )
            done += len(stamps)
            progress("long windows", done, done)
        lives = book.long_requests()
        async for used in self._sources.requests(lanes, {name: now_ms - life for name, life in lives.items()}, before):
            await self._guard.restore([self._used(row, lives, now_ms) for row in used])

    def _used(self, row: tuple[bytes, str, str, str, str, int], lives: Mapping[str, int], now_ms: int) -> Restored:
        subject, sender, purpose, ref, message_id, used_at = row
        life_ms = used_at + lives[purpose] + SLACK_MS - now_ms
        digest = self._sources.spelling.request(subject, sender, purpose, ref)
        return Restored(
            message_id, subject, "done", 1, 0, record_ttl_ms=0, request=digest, request_ttl_ms=max(life_ms, 1)
        )

    async def _replies(self, ends: Mapping[int, int], progress: Progress) -> None:
        """Until settle has read every reply there was: what it reads becomes an event, and is applied, cold or not."""
        until = time.monotonic() + REPLIES_S
        while True:
            settled = await self._sources.settled()
            behind = sum(max(0, end - settled.get(partition, 0)) for partition, end in ends.items())
            if not behind:
                return
            if time.monotonic() > until:
                raise RepliesWaitError(behind)
            progress("replies", 0, behind)
            await asyncio.sleep(STEP_S)
