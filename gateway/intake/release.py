"""Held messages and retries come back through the same admission and publish as any other message (MECHANISMS 7).

Nothing is remembered here: the due table keeps a row until its outcome is known, so a crash anywhere releases it again
and the claim drops a copy. A held message consumes its windows now; a retry (attempt > 1) consumed them already.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from gateway.contract.codes import Code
from gateway.contract.decision import Basis
from gateway.contract.registry import Client
from gateway.contract.wire import Accepted
from gateway.guard import Ask, GuardUnavailable, Mode, Verdict, VoidAsk, long_windows
from gateway.intake.answer import basis_of
from gateway.intake.digests import text_hash, used_digest
from gateway.intake.intake import Intake
from gateway.intake.prepare import DAY_MS, Route, way_out_fault
from gateway.rules import hours
from gateway.stream import StreamBusy, encode

ANYONE = Client(id="assent", senders=("*",))
"""Whether the client may send was decided at acceptance."""


class Released(NamedTuple):
    """What became of one waiting message.

    `published`: it is in its class topic, or was already; `cancelled`: never permitted again, with its code; `later`:
    wait until `due_ms`; `parked`: wait for the breaker `scope`; `unavailable`: nothing was decided, try again.
    """

    kind: Literal["published", "cancelled", "later", "parked", "unavailable"]
    code: Code | None = None
    due_ms: int = 0
    scope: str | None = None


UNAVAILABLE = Released("unavailable")
_CODES = frozenset(Code)


class Waiting(NamedTuple):
    """One message on its way back."""

    at: int
    message: Accepted
    route: Route
    subject: bytes


async def release(intake: Intake, messages: Sequence[Accepted], now_ms: int) -> list[Released]:
    """The outcome of each, in order. Call with messages of one class, at most a few hundred at a time."""
    out = [UNAVAILABLE] * len(messages)
    if not intake.cfg.fresh:
        return out
    try:
        waiting = await _answerable(intake, _ready(intake, messages, now_ms, out), now_ms, out)
        verdicts = await intake.admit([_ask(intake, one, now_ms) for one in waiting])
        going = await _judge(intake, waiting, verdicts, now_ms, out)
        await _publish(intake, going, out)
    except (GuardUnavailable, StreamBusy):
        pass
    return out


def _ready(intake: Intake, messages: Sequence[Accepted], now_ms: int, out: list[Released]) -> list[Waiting]:
    waiting = []
    for at, message in enumerate(messages):
        route = intake.routes().find(ANYONE, message.sender, message.purpose)
        if not isinstance(route, Route):
            out[at] = Released("cancelled", route.code)
            continue
        subject = bytes.fromhex(message.subject)
        scope = intake.cfg.open_scope(
            message.sender, message.cls, message.campaign, message.port, message.list_source, subject=subject
        )
        if scope is not None:
            out[at] = Released("parked", scope=scope)
            continue
        opens = hours.release_at(route.purpose, route.pack, now_ms)
        if opens is not None:
            out[at] = Released("later", due_ms=opens)
            continue
        waiting.append(Waiting(at, message, route, subject))
    return waiting


async def _answerable(intake: Intake, waiting: list[Waiting], now_ms: int, out: list[Released]) -> list[Waiting]:
    """Those whose port still leads back; the others are over."""
    kept = []
    for one in waiting:
        lost = way_out_fault(one.route, now_ms)
        if lost is None:
            kept.append(one)
            continue
        await intake.guard.void([VoidAsk(one.message.id, one.subject)], lost.code)
        out[one.at] = Released("cancelled", lost.code)
    return kept


def _ask(intake: Intake, one: Waiting, now_ms: int) -> Ask:
    message, route = one.message, one.route
    used = None
    if message.request_ref is not None and route.plan.basis is Basis.REQUEST:
        used = used_digest(intake.pepper, one.subject, route, message.request_ref)
    return Ask(
        id=message.id,
        subject=one.subject,
        plan=route.plan,
        text_hash=text_hash(intake.pepper, message.text),
        midnights=hours.midnights(route.pack.zone, now_ms),
        minute_of_day=hours.minute_of_day(route.pack.zone, now_ms),
        mode=Mode.RELEASE,
        approved=message.approval is not None,
        request=used,
        request_ttl_ms=(route.purpose.request_life_s or 600) * 1000,
        record_ttl_ms=max(message.expires_at - now_ms, 0) + DAY_MS,
        attempt=message.attempt,
    )


async def _judge(
    intake: Intake, waiting: list[Waiting], verdicts: list[Verdict], now_ms: int, out: list[Released]
) -> list[tuple[Waiting, Verdict]]:
    going, ended = [], []
    for one, verdict in zip(waiting, verdicts, strict=True):
        if verdict.code is None and verdict.replay and verdict.state == "void":
            out[one.at] = Released("cancelled", await _voided_as(intake, one.message.id))
        elif verdict.code is None and verdict.replay and verdict.state != "reserved":
            out[one.at] = Released("published")
        elif verdict.code is None:
            going.append((one, verdict))
        elif verdict.code is Code.QUIET_HOURS and verdict.hours is not None:
            opens = hours.release_at(one.route.purpose, one.route.pack, now_ms, verdict.hours)
            out[one.at] = Released("later", due_ms=opens or now_ms + 1000)
        elif verdict.code is not Code.CACHE_COLD:
            ended.append((one, verdict.code))
    for one, code in ended:
        await intake.guard.void([VoidAsk(one.message.id, one.subject)], code)
        out[one.at] = Released("cancelled", code)
    return going


async def _voided_as(intake: Intake, message_id: str) -> Code:
    """Why an earlier release, or its caller, ended it: whoever did may have died before it was reported."""
    view = await intake.guard.record(message_id)
    return Code(view.code) if view is not None and view.code in _CODES else Code.UNAVAILABLE


async def _publish(intake: Intake, going: list[tuple[Waiting, Verdict]], out: list[Released]) -> None:
    by_topic: dict[str, list[tuple[Waiting, bytes]]] = {}
    for one, verdict in going:
        update: dict[str, object] = {"due": None, "parked": None}
        if one.message.attempt == 1 or not verdict.replay:
            update |= {"entry": verdict.entry, "basis": basis_of(one.route, verdict)}
        if one.message.attempt == 1:  # later attempts carry what the first consumed
            update |= {"long_windows": long_windows(one.route.plan, verdict) or None, "stamp": verdict.stamp_ms or None}
        topic = intake.topics.messages(one.message.cls)
        by_topic.setdefault(topic, []).append((one, encode(one.message.model_copy(update=update))))
    for topic, pairs in by_topic.items():
        acks = await intake.producer.publish(topic, [(one.subject, value) for one, value in pairs])
        for (one, _), ack in zip(pairs, acks, strict=True):
            if ack is not None:
                out[one.at] = Released("published")
