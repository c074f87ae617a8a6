"""What a new owner does about the records below the commit: asks the guard, judges (`review`), reports.

Runs before anything above the commit is claimed, while the guard and the outbox are waited for as long as it takes. A
crash in here repeats it: every report may be made twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.contract.codes import Code
from gateway.contract.wire import Accepted, Result
from gateway.deliver.claiming import AGAIN_S
from gateway.deliver.means import Item, Means
from gateway.deliver.reports import not_sent, report
from gateway.deliver.review import Ended, InDoubt, Requeue, SubmitNow, finding
from gateway.deliver.routing import carrier_of
from gateway.deliver.submission import finish, held
from gateway.guard import GuardUnavailable, RecordView, VoidAsk
from gateway.stream.codec import Undecodable, decode
from gateway.stream.reader import Message
from gateway.telemetry import SUBMISSIONS, logger

T = TypeVar("T")

_log = logger("deliver")


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The guard's answer, asked for until it comes."""
    wait_s, most_s = AGAIN_S
    while True:
        try:
            return await call()
        except GuardUnavailable:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, most_s)


async def forbid(means: Means, accepted: Accepted) -> None:
    """The sender or purpose is gone from the registry: end the message, unless an owner or a copy has it already."""
    asks = [VoidAsk(accepted.id, bytes.fromhex(accepted.subject))]
    (state,) = await patiently(lambda: means.guard.void(asks, Code.CLIENT_FORBIDDEN))
    if state in ("void", "absent"):
        await means.outbox.results([not_sent(accepted, Code.CLIENT_FORBIDDEN, means.now_ms())])


async def take_over(means: Means, messages: Sequence[Message]) -> list[Item]:
    """Judge records below the commit, at most a batch; the items to claim and submit are returned."""
    await means.fresh()
    known = [(message, accepted) for message in messages if (accepted := _readable(message)) is not None]
    views = await patiently(lambda: _views(means, [accepted.id for _, accepted in known]))
    items: list[Item] = []
    results: list[Result] = []
    rows: list[tuple[bytes, Accepted]] = []
    for (message, accepted), view in zip(known, views, strict=True):
        found = finding(view, accepted.attempt, message.place.partition, message.offset)
        now = means.now_ms()
        if isinstance(found, InDoubt):
            results.append(_in_doubt(means, accepted, found.attempt, now))
        elif isinstance(found, Ended):
            results.append(not_sent(accepted, found.code, now, found.attempt))
        elif isinstance(found, Requeue | SubmitNow):
            item = means.item(accepted, message.key, message.place, message.offset)
            if item is None:
                await forbid(means, accepted)
            elif isinstance(found, SubmitNow):
                items.append(item.again(found.attempt))
            else:
                rows.append((item.key, held(item.again(found.attempt), now)))
    await means.outbox.held(rows)
    await finish(means, results, [one.id for one in results if one.outcome == "doubtful"])
    if results or rows or items:
        _log.warning("taken_over", cls=means.cls.value, reported=len(results), requeued=len(rows), unwritten=len(items))
    return items


def _readable(message: Message) -> Accepted | None:
    """None where its dead letter was published before the commit."""
    try:
        return decode(Accepted, message.value)
    except Undecodable:
        return None


def _in_doubt(means: Means, accepted: Accepted, attempt: int, now: int) -> Result:
    sender = means.cfg.sender(accepted.sender)
    carrier = None if sender is None else carrier_of(sender, means.default, means.carriers)
    SUBMISSIONS.add(1, carrier or "", means.cls.value, "doubtful")
    return report(accepted, "doubtful", now, carrier=carrier, attempt=attempt, code="owner.lost")


async def _views(means: Means, ids: Sequence[str]) -> list[RecordView | None]:
    return list(await asyncio.gather(*(means.guard.record(one) for one in ids)))
