"""One batch's share for one carrier, after its commit: to the wire, its answers to `results`, and back to the guard.

Order: sift (expired, stopped by a breaker, quiet hours have begun) -> submit within a second of the claim ->
compare-and-set and publish retries -> publish results -> mark done -> free the slots (the caller's). A crash before
`done` leaves the claim `taken`: the next owner reports it doubtful, and settle keeps what it already knows. A crash
between the compare-and-set of a retry and its publish is found by the next owner, who publishes it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.carriers.carrier import WRITE_WITHIN_S, Doubtful, Rejected, Retry, Submitted, Taken, Unwritten
from gateway.contract.codes import Code
from gateway.contract.decision import Cause
from gateway.contract.wire import Accepted, Result
from gateway.deliver.claiming import AGAIN_S, claim_all
from gateway.deliver.means import Item, Means
from gateway.deliver.reports import Outcome, report
from gateway.deliver.retry import Again, next_attempt
from gateway.guard import Attempt, GuardUnavailable, VoidAsk
from gateway.guard.record import RESERVED
from gateway.telemetry import SUBMISSIONS, SUBMIT_SECONDS, WAIT_SECONDS, logger

MARGIN_S = 0.05
"""The fence is counted by the server's clock and the second by ours: leave room for their rates to differ."""
ABSENT_AFTER_S = 60.0

_log = logger("deliver")


@dataclass(slots=True)
class Watch:
    """What a partition tells its batches, and what they tell it.

    `unwritten`: claimed, and certainly not at a carrier; on an orderly revocation they go to the next owner unsent.
    """

    owned: Callable[[], bool]
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    unwritten: dict[str, Item] = field(default_factory=dict)

    def claimed(self, items: Sequence[Item]) -> None:
        """These may be given back."""
        self.unwritten.update((item.id, item) for item in items)

    def released(self, items: Sequence[Item]) -> None:
        """These may not: they are about to be written, or ended."""
        for item in items:
            self.unwritten.pop(item.id, None)


@dataclass(slots=True)
class Filed:
    """Answers by what follows. `here`: retries whose wait is short; `stale`: to be claimed again at once."""

    results: list[Result] = field(default_factory=list)
    later: list[tuple[Item, int, Retry]] = field(default_factory=list)
    here: list[Item] = field(default_factory=list)
    here_s: float = 0.0
    stale: list[Item] = field(default_factory=list)


def result(item: Item, outcome: Outcome, at: int, *, code: str | None = None, cause: Cause = Cause.NONE) -> Result:
    """The report of one attempt by its route."""
    return report(item.accepted, outcome, at, carrier=item.route, code=code, cause=cause)


def file_answers(items: Sequence[Item], answers: Sequence[Submitted], *, now_ms: int, chance: float) -> Filed:
    """Sort a carrier's answers. Pure."""
    filed = Filed()
    for item, answer in zip(items, answers, strict=True):
        if isinstance(answer, Taken):
            taken = report(item.accepted, "submitted", now_ms, carrier=item.route, carrier_id=answer.carrier_id)
            filed.results.append(taken)
        elif isinstance(answer, Rejected):
            filed.results.append(result(item, "rejected", now_ms, code=answer.code, cause=answer.cause))
        elif isinstance(answer, Doubtful):
            filed.results.append(result(item, "doubtful", now_ms, code=answer.why))
        elif isinstance(answer, Unwritten):
            filed.stale.append(item)
        else:
            _file_retry(item, answer, filed, now_ms, chance)
    return filed


def _file_retry(item: Item, answer: Retry, filed: Filed, now_ms: int, chance: float) -> None:
    accepted = item.accepted
    again = next_attempt(
        item.attempt, answer.cause, answer.after_s, now_ms=now_ms, expires_at_ms=accepted.expires_at, chance=chance
    )
    if not isinstance(again, Again):
        outcome: Outcome = "expired" if again.expired else "rejected"
        code = Code.MESSAGE_EXPIRED if again.expired else answer.code
        filed.results.append(result(item, outcome, now_ms, code=code, cause=answer.cause))
    elif again.here_s is None:
        filed.later.append((item, again.due_ms, answer))
    else:
        filed.here.append(item)
        filed.here_s = max(filed.here_s, again.here_s)


async def carry(means: Means, route: str | None, items: Sequence[Item], began: float, watch: Watch) -> None:
    """Bring claimed and committed items to their ends. `began`: the monotonic reading before their claim."""
    while items:
        items = await sift(means, items, watch)
        if not items or not watch.owned():
            return  # not ours any more: the next owner reviews them
        answers = await _submit(means, route, items, began, watch)
        filed = file_answers(items, answers, now_ms=means.now_ms(), chance=means.chance())
        watch.claimed([*filed.here, *filed.stale, *(item for item, _, _ in filed.later)])
        await _report(means, filed, watch)
        if filed.here and await _closing_within(watch, filed.here_s):
            return
        items = [*filed.stale, *await _moved(means, filed.here, watch)]
        if watch.closing.is_set():
            return
        claims = await claim_all(means, items)
        watch.claimed(claims.go)
        await finish(means, claims.ended, ())
        items, began = claims.go, claims.began


async def sift(means: Means, items: Sequence[Item], watch: Watch) -> list[Item]:
    """At the last moment before the wire: end what expired, park what a breaker stops, hold what met quiet hours."""
    now = means.now_ms()
    go, expired, parked, early = [], [], [], []
    for item in items:
        accepted = item.accepted
        if accepted.expires_at <= now:
            expired.append(item)
            continue
        scope = means.cfg.open_scope(
            accepted.sender,
            accepted.cls,
            accepted.campaign,
            accepted.port,
            accepted.list_source,
            subject=item.subject,
        )
        if scope is not None:
            parked.append((item, scope))
        elif (opens := means.opens_at(item, now)) is not None:
            early.append((item, opens))
        else:
            go.append(item)
    if expired:
        await _expire(means, expired, now, watch)
    if parked:
        await _park(means, parked, now, watch)
    if early:
        await _hold(means, early, now, watch)
    return go


async def _expire(means: Means, items: Sequence[Item], now: int, watch: Watch) -> None:
    watch.released(items)
    try:
        await means.guard.refund([VoidAsk(item.id, item.subject) for item in items])
    except GuardUnavailable:
        _log.warning("refund_left_to_settle", messages=len(items))
    results = [result(item, "expired", now, code=Code.MESSAGE_EXPIRED) for item in items]
    await finish(means, results, [item.id for item in items])


async def _park(means: Means, parked: Sequence[tuple[Item, str]], now: int, watch: Watch) -> None:
    scopes = {item.id: scope for item, scope in parked}
    moved = await _requeued(means, [item for item, _ in parked], watch)
    await means.outbox.held([(item.key, held(item, now, scopes[item.id])) for item in moved])
    await _tell_waiting(means, moved, scopes, now)


async def _hold(means: Means, early: Sequence[tuple[Item, int]], now: int, watch: Watch) -> None:
    dues = {item.id: due for item, due in early}
    moved = await _requeued(means, [item for item, _ in early], watch)
    await means.outbox.held([(item.key, held(item, dues[item.id])) for item in moved])
    await _tell_waiting(means, moved, dict.fromkeys(dues, Code.QUIET_HOURS), now)


async def _requeued(means: Means, items: Sequence[Item], watch: Watch) -> list[Item]:
    moved = await requeue(means, items)
    watch.released(items)
    return moved


async def _tell_waiting(means: Means, moved: Sequence[Item], why: Mapping[str, str], now: int) -> None:
    was = [item.again(item.attempt - 1) for item in moved]
    await finish(means, [result(item, "parked", now, code=why[item.id]) for item in was], ())


def held(item: Item, due: int, parked: str | None = None) -> Accepted:
    """The item as `messages.held` carries it."""
    return item.accepted.model_copy(update={"due": due, "parked": parked})


async def _submit(
    means: Means, route: str | None, items: Sequence[Item], began: float, watch: Watch
) -> Sequence[Submitted]:
    if route is None:
        _log.warning("carrier_absent", messages=len(items))
        return [Retry("carrier.absent", Cause.FLOW, ABSENT_AFTER_S)] * len(items)
    watch.released(items)
    start, now = time.monotonic(), means.now_ms()
    for item in items:
        if item.attempt == 1:
            WAIT_SECONDS.observe(max(now - item.accepted.accepted_at, 0) / 1000, means.cls.value)
    try:
        answers: Sequence[Submitted] = await means.carriers[route].submit(
            [item.submit() for item in items], write_by=began + WRITE_WITHIN_S - MARGIN_S
        )
    except Exception as fault:  # noqa: BLE001 - a carrier's own fault: nobody knows what it wrote
        _log.exception("carrier_failed", carrier=route, error=type(fault).__name__)
        answers = [Doubtful("carrier.failed")] * len(items)
    SUBMIT_SECONDS.observe(time.monotonic() - start, route)
    _note(means, route, answers)
    return answers


def _note(means: Means, route: str, answers: Sequence[Submitted]) -> None:
    """Count the answers; a batch that was throttled whole slows the carrier's slots down."""
    counts: dict[str, int] = {}
    for answer in answers:
        counts[answer.outcome] = counts.get(answer.outcome, 0) + 1
    for outcome, n in counts.items():
        SUBMISSIONS.add(n, route, means.cls.value, outcome)
    slots = means.slots[route]
    if all(isinstance(answer, Retry) and answer.cause is Cause.FLOW for answer in answers):
        slots.back_off(max((a.after_s or 0.0 for a in answers if isinstance(a, Retry)), default=0.0))
    elif counts.get("submitted"):
        slots.recovered()


async def _report(means: Means, filed: Filed, watch: Watch) -> None:
    """Publish what is decided: retries that wait elsewhere, then results; then mark what ended."""
    ended = [one.id for one in filed.results]
    if filed.later:
        dues = {item.id: (due, answer) for item, due, answer in filed.later}
        moved = await _requeued(means, [item for item, _, _ in filed.later], watch)
        await means.outbox.held([(item.key, held(item, dues[item.id][0])) for item in moved])
        for item in moved:
            answer = dues[item.id][1]
            was = item.again(item.attempt - 1)
            filed.results.append(result(was, "retrying", means.now_ms(), code=answer.code, cause=answer.cause))
    await finish(means, filed.results, ended)


async def _closing_within(watch: Watch, wait_s: float) -> bool:
    """Wait, unless the partition closes meanwhile."""
    try:
        async with asyncio.timeout(wait_s):
            await watch.closing.wait()
    except TimeoutError:
        return False
    return True


async def _moved(means: Means, items: Sequence[Item], watch: Watch) -> list[Item]:
    """Short retries, recorded as their next attempt."""
    if not items:
        return []
    return await _requeued(means, items, watch)


async def requeue(means: Means, items: Sequence[Item]) -> list[Item]:
    """taken(n) -> reserved(n + 1), surely; the items as their next attempt, without those settled elsewhere."""
    wait_s, most_s = AGAIN_S
    while True:
        try:
            moved = await means.guard.requeue([Attempt(item.id, item.attempt) for item in items])
            again = [
                item.again(item.attempt + 1)
                for item, went in zip(items, moved, strict=True)
                if went or await _moved_on(means, item)
            ]
        except GuardUnavailable:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, most_s)
        else:
            return again


async def _moved_on(means: Means, item: Item) -> bool:
    """Whether an unanswered compare-and-set was applied after all, or the record is gone with its server."""
    view = await means.guard.record(item.id)
    if view is None:
        return True
    moved = view.state == RESERVED and view.attempt == item.attempt + 1
    if not moved:
        _log.warning("retry_settled_elsewhere", state=view.state)
    return moved


async def finish(means: Means, results: Sequence[Result], ended: Sequence[str]) -> None:
    """Publish results, then mark messages done. An unmarked one is reported again by the next owner: harmless."""
    if results:
        await means.outbox.results(results)
    if ended:
        try:
            await means.guard.done(ended)
        except GuardUnavailable:
            _log.warning("done_not_marked", messages=len(ended))
