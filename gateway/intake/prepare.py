"""What can be decided about a message before any I/O: who may, to whom, in whose name, with what text, and when.

Pure: the registry, the packs and the time come in; a refusal is a value. The order of the checks is the order in which
`/v1/messages/check` lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from gateway.contract.codes import Code
from gateway.contract.decision import Basis, Refusal
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client, Sender
from gateway.rules import content, hours, numbers
from gateway.rules.content import Content
from gateway.rules.pack import Pack, Purpose
from gateway.rules.plan import Plan, plan
from gateway.rules.reach import Reach, fault
from gateway.stream.codec import accepted_head

DAY_MS = 86_400_000
MAX_AHEAD_MS = 30 * DAY_MS
"""How far ahead a message may be scheduled; its permission is checked again at release."""
CLOCK_SLACK_MS = 60_000
"""How far in the future a client's clock may place a person's request."""


@dataclass(frozen=True, slots=True)
class Route:
    """Everything that client, sender and purpose fix: looked up once, then cached until the registry changes."""

    sender: Sender
    pack: Pack
    purpose: Purpose
    plan: Plan
    port: str
    """The sender's port for the purpose's class."""
    head: bytes
    """What every record of it begins with (`stream.accepted_head`)."""
    way_out_ms: int | None = None
    """Where the port must lead back: until when (Unix ms) it is known to."""


class Prepared(NamedTuple):
    """A message that passed every check that needs no I/O."""

    request: SendRequest
    route: Route
    number: str
    content: Content
    due_ms: int | None
    """When to release, where it must be held; none where it may go now."""
    expires_ms: int
    late: Refusal | None = None
    """Why it may not go now, although it may have been accepted before, under its key: then that answer stands."""


def matches(allowed: tuple[str, ...], name: str) -> bool:
    """Whether a purpose is allowed by a list of purposes, topics (first segments) or `*`."""
    return "*" in allowed or name in allowed or name.partition(".")[0] in allowed


class Routes:
    """Routes of one registry; a new registry makes a new object. Refusals are cached too: both sets are closed."""

    def __init__(self, senders: Mapping[str, Sender], packs: Mapping[str, Pack]) -> None:
        self._senders, self._packs = senders, packs
        self._known: dict[tuple[str, str, str], Route | Refusal] = {}

    def find(self, client: Client, sender: str, purpose: str) -> Route | Refusal:
        """The route for this client, or why it has none."""
        key = (client.id, sender, purpose)
        found = self._known.get(key)
        if found is None:
            found = self._resolve(client, sender, purpose)
            if isinstance(found, Route):
                self._known[key] = found
        return found

    def cls_of(self, sender: str, purpose: str) -> str:
        """The class of a purpose, or `none` where there is no such sender or purpose: a metrics label."""
        known = self._senders.get(sender)
        row = self._packs[known.pack].purposes.get(purpose) if known else None
        return row.cls.value if row else "none"

    def _resolve(self, client: Client, sender_id: str, name: str) -> Route | Refusal:
        sender = self._senders.get(sender_id)
        if sender is None or not ("*" in client.senders or sender_id in client.senders):
            return Refusal(Code.CLIENT_FORBIDDEN, "sender: not one of this client's senders")
        pack = self._packs[sender.pack]
        purpose = pack.purposes.get(name)
        if purpose is None:
            return Refusal(Code.REQUEST_INVALID, "purpose: not a purpose of this sender's pack; see GET /v1/purposes")
        if not matches(client.purposes, name):
            return Refusal(Code.CLIENT_FORBIDDEN, "purpose: not one of this client's purposes")
        way_out_ms, port = None, sender.port_for(purpose.cls)
        if purpose.port_use == "marketing":
            way_out_ms = sender.way_out_until_ms(port, pack.route_tested_ms)
        compiled = plan(pack, sender, name)
        head = accepted_head(
            client=client.id, sender=sender.id, purpose=purpose.name, cls=purpose.cls, port=port, pack=compiled.pack
        )
        return Route(sender, pack, purpose, compiled, port, head, way_out_ms)


def ms(at: datetime) -> int:
    """Unix milliseconds of an aware time."""
    return int(at.timestamp() * 1000)


def prepare(request: SendRequest, route: Route, now_ms: int) -> Prepared | Refusal:
    """Every check that needs no I/O, stopping at the first refusal."""
    number = numbers.parse(request.to)
    if number is None:
        return Refusal(Code.RECIPIENT_INVALID)
    if request.port is not None and request.port != route.port:
        return Refusal(Code.PORT_USE, f"port: this sender's port for {route.purpose.cls} is {route.port}")
    if (shape := misshapen(request)) is not None:
        return shape
    body = content.compose(request.text or "", route.sender, route.purpose, route.pack)
    if isinstance(body, Refusal):
        return body
    if (
        request.expires_at is None
        and request.not_before is None
        and not route.purpose.quiet
        and request.request is None
        and route.way_out_ms is None
    ):
        return _unrequested(route) or Prepared(request, route, number, body, None, now_ms + DAY_MS)
    return _timed(request, route, number, body, now_ms)


def misshapen(request: SendRequest) -> Refusal | None:
    """Text and template are alternatives; templates do not exist yet."""
    if request.template is not None or request.params is not None:
        if request.text is not None:
            return Refusal(Code.REQUEST_INVALID, "text: give either text or template with params")
        return Refusal(Code.TEMPLATE_UNKNOWN)
    if request.text is None:
        return Refusal(Code.REQUEST_INVALID, "text: missing")
    return None


def uncallable(url: str, reach: Reach) -> Refusal | None:
    """A callback address as it is written; where its name leads is looked at when it is called."""
    wrong = fault(url, reach)
    return None if wrong is None else Refusal(Code.REQUEST_INVALID, f"callback_url: {wrong}")


def _unrequested(route: Route) -> Refusal | None:
    if route.plan.basis is Basis.REQUEST:
        return Refusal(Code.REQUEST_MISSING, "request: this purpose needs the person's own request {ref, occurred_at}")
    return None


def request_fault(request: SendRequest, route: Route, now_ms: int) -> Refusal | None:
    """The person's request must be given, not from the future and within the purpose's life."""
    if route.plan.basis is not Basis.REQUEST:
        return None
    if request.request is None:
        return _unrequested(route)
    at, life_s = ms(request.request.occurred_at), route.purpose.request_life_s or 600
    if at > now_ms + CLOCK_SLACK_MS:
        return Refusal(Code.REQUEST_MISSING, "request.occurred_at: in the future")
    if at + life_s * 1000 <= now_ms:
        return Refusal(Code.REQUEST_MISSING, f"request.occurred_at: older than the {life_s} s this purpose allows")
    return None


def way_out_fault(route: Route, now_ms: int) -> Refusal | None:
    """Marketing goes only from a port whose reply route is attested free and was seen to work lately (Order 31)."""
    if route.way_out_ms is None or now_ms < route.way_out_ms:
        return None
    return Refusal(Code.PORT_NO_REPLY_ROUTE, f"port: replies to {route.port} are not attested free and tested lately")


def expiry_fault(request: SendRequest, now_ms: int) -> Refusal | None:
    """`expires_at` lies ahead and after `not_before`; `not_before` at most 30 days ahead."""
    expires = None if request.expires_at is None else ms(request.expires_at)
    start = None if request.not_before is None else ms(request.not_before)
    if expires is not None and expires <= now_ms:
        return Refusal(Code.REQUEST_INVALID, "expires_at: already past")
    if start is not None and start > now_ms + MAX_AHEAD_MS:
        return Refusal(Code.REQUEST_INVALID, "not_before: more than 30 days ahead")
    if start is not None and expires is not None and expires <= start:
        return Refusal(Code.REQUEST_INVALID, "expires_at: not after not_before")
    return None


def due(
    request: SendRequest, route: Route, now_ms: int, wanted: tuple[int, int] | None = None
) -> tuple[int | None, Refusal | None]:
    """When the message may go (none: now), or the refusal where the caller asked not to be held for quiet hours.

    `wanted`: the person's own hours, as minutes of the day.
    """
    start = now_ms if request.not_before is None else max(ms(request.not_before), now_ms)
    opens = hours.release_at(route.purpose, route.pack, start, wanted)
    if opens == hours.NEVER:
        return None, Refusal(Code.PREFERENCE_UNWANTED, "the person's hours leave no time for this purpose")
    if opens is not None and request.on_quiet == "refuse":
        return None, Refusal(Code.QUIET_HOURS, "", max(1, -(-(opens - now_ms) // 1000)))
    release = opens if opens is not None else start
    if request.expires_at is not None and ms(request.expires_at) <= release:
        return None, Refusal(Code.MESSAGE_EXPIRED, "expires_at: before the first moment it may be sent")
    return (release if release > now_ms else None), None


def _timed(request: SendRequest, route: Route, number: str, body: Content, now_ms: int) -> Prepared | Refusal:
    release = None
    late = way_out_fault(route, now_ms) or expiry_fault(request, now_ms) or request_fault(request, route, now_ms)
    if late is None:
        release, late = due(request, route, now_ms)
    if late is not None and request.idempotency_key is None:
        return late
    expires = ms(request.expires_at) if request.expires_at is not None else (release or now_ms) + DAY_MS
    return Prepared(request, route, number, body, release, expires, late)


def trace(request: SendRequest, route: Route, now_ms: int) -> Iterator[tuple[str, Refusal | None]]:
    """Each rule that needs no I/O with its verdict, without stopping: for /v1/messages/check."""
    yield "recipient", Refusal(Code.RECIPIENT_INVALID) if numbers.parse(request.to) is None else None
    misfit = request.port is not None and request.port != route.port
    yield "port", Refusal(Code.PORT_USE) if misfit else way_out_fault(route, now_ms)
    body = misshapen(request) or content.compose(request.text or "", route.sender, route.purpose, route.pack)
    yield "content", body if isinstance(body, Refusal) else None
    yield "expiry", expiry_fault(request, now_ms)
    yield "quiet_hours", due(request, route, now_ms)[1]
    yield "basis", request_fault(request, route, now_ms)
