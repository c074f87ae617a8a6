"""The first record: what was shown, what was done, where; signed, sealed, and the message that asks for the second.

Order: everything that needs no part -> the address's share -> the sealed row -> the message, through the gateway's one
way to send -> the row knows its message. A row whose message was not accepted is deleted: no code confirms it, so
starting again and again gives no more guesses than messages. A crash before the last step leaves a row that nothing
confirms; it expires.

Promises: whatever the number is, known, unknown, opted out, suppressed or asked too often, the answer is the same, and
not sooner: it is given `FLOOR_S` after the question at the earliest.
"""

import asyncio
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway import telemetry
from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.form import Form, shown
from gateway.contract.ids import subject_of
from gateway.contract.message import PersonRequest, SendRequest
from gateway.edge.gate import Gate
from gateway.edge.optin.submitted import Submission
from gateway.edge.optin.where import Seen, address_name, origin_of, same_host
from gateway.edge.problems import Refused
from gateway.intake import Answer
from gateway.ledger import two_records
from gateway.ledger.two_records import Asked
from gateway.records import forms
from gateway.records.forms import OptIn
from gateway.records.registry import BUILT_IN
from gateway.rules import numbers
from gateway.rules.forms import confirmation

CONFIRM = "consent.confirm"
CODE_MS = 600_000
REPLY_MS = 86_400_000
"""As long as the person's request lives in the pack: a Y within it confirms."""
STARTS_A_MINUTE = 10
STARTS_A_DAY = 300
"""Of one address. Generous, for a carrier's customers share addresses; a number has its own, strict windows."""
FLOOR_S = 0.3
DAY_S = 86_400
OURS = frozenset({Code.UNAVAILABLE, Code.CACHE_COLD, Code.BREAKER_OPEN, Code.CLIENT_QUOTA, Code.INTERNAL})
"""Refusals that say nothing about a number."""
FOREIGN = Refusal(Code.CLIENT_FORBIDDEN, "this page may not show or submit the form")
BUSY = Refusal(Code.CLIENT_QUOTA, "too many requests from this address", 60)
AWAY = Refusal(Code.UNAVAILABLE, "", 1)

_log = telemetry.logger("edge")


class Again(Exception):  # noqa: N818 - it says what the person is asked to do
    """Something is to be put right by the person; `word` names what, in `words.WORDS`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Begun(NamedTuple):
    """What the person may now confirm."""

    opt_in: str
    number: str


def check_origin(form: Form, where: Seen, *, embed: bool, page: str) -> None:
    """Only our own pages submit, and a frame says only a page of the form's origins around it."""
    if where.origin is not None and not same_host(where.origin, where.own):
        raise Refused(FOREIGN)
    if embed and page and origin_of(page) not in form.allowed_origins:
        raise Refused(FOREIGN)


async def allowance(gate: Gate, what: str, where: Seen, minute: int, day: int | None = None) -> None:
    """`Refused` 429 when the address has used its share. Raises GuardUnavailable."""
    name, lease = f"{what}/{address_name(gate.pepper, where.ip)}", gate.intake.lease
    wait = await lease.take(name, minute)
    if wait is None and day is not None:
        since = int(time.time()) // DAY_S * DAY_S
        wait = await lease.take(f"{name}/day", day, day=(since, since + DAY_S))
    if wait is not None:
        telemetry.OPT_INS.add(1, "limited")
        raise Refused(BUSY._replace(retry_after_s=max(1, int(wait))))


async def begin(gate: Gate, form: Form, given: Submission, where: Seen, trace: str) -> Begun:
    """Keep the first record and send its confirmation. Raises Again, Refused, and what the parts raise."""
    check_origin(form, where, embed=given.embed, page=given.page)
    await allowance(gate, "opt-in", where, STARTS_A_MINUTE, STARTS_A_DAY)
    number = _checked(form, given)
    earliest = asyncio.get_running_loop().time() + FLOOR_S
    asked = _asked(gate, form, given, where, number)
    code = f"{secrets.randbelow(1_000_000):06d}"
    await _keep(gate, asked, code)
    await _send(gate, asked, code, trace)
    telemetry.OPT_INS.add(1, "started")
    await asyncio.sleep(earliest - asyncio.get_running_loop().time())
    return Begun(asked.id, number)


def _checked(form: Form, given: Submission) -> str:
    """The number, where everything is as the form asks."""
    if given.version != form.version or given.sha256 != shown(form, given.lang).sha256:
        raise Again("changed")
    if not given.topics or not set(given.topics) <= {one.topic for one in form.topics}:
        raise Again("topics")
    if given.scripted():
        raise Again("scripted")
    number = numbers.parse(given.number)
    if number is None:
        raise Again("number")
    return number


def _asked(gate: Gate, form: Form, given: Submission, where: Seen, number: str) -> Asked:
    sender = gate.cfg.sender(form.sender)
    if sender is None:
        raise Refused(AWAY)
    place: dict[str, Any] = {"url": where.url, "ip": where.ip, "user_agent": where.user_agent}
    place["origin"] = origin_of(given.page) if given.embed else where.own
    if given.page:
        place["page"] = given.page
    if given.shown_at is not None:
        place["shown_at"] = given.shown_at
    return Asked(
        id=uuid.uuid4().hex,
        subject=subject_of(gate.pepper, number),
        number=number,
        form=form,
        party=sender.signature,
        locale=given.lang,
        sha256=given.sha256,
        ticked=[one.topic for one in form.of(given.topics)],
        events=None if given.acts is None else [act.model_dump() for act in given.acts],
        where=place,
        at_ms=time.time_ns() // 1_000_000,
    )


async def _keep(gate: Gate, asked: Asked, code: str) -> None:
    keys = gate.appender.keys
    row = OptIn(
        id=asked.id,
        subject=asked.subject,
        sender=asked.form.sender,
        form=asked.form.id,
        version=asked.form.version,
        sealed=two_records.seal(keys, asked),
        code=keys.code_digest(asked.id, code),
        message_id=None,
        created_at=asked.at_ms,
        done=False,
    )
    async with gate.pool.acquire() as conn:
        await forms.keep_text(conn, shown(asked.form, asked.locale).canonical)
        await forms.begin(conn, row, code_until=asked.at_ms + CODE_MS, expires_at=asked.at_ms + REPLY_MS)


async def _send(gate: Gate, asked: Asked, code: str, trace: str) -> None:
    """The message, by the built-in client; the row keeps its id, or goes."""
    sender = gate.cfg.sender(asked.form.sender)
    if sender is None:
        raise Refused(AWAY)
    occurred_at = datetime.fromtimestamp(asked.at_ms / 1000, UTC)
    request = SendRequest(
        to=asked.number,
        sender=sender.id,
        purpose=CONFIRM,
        text=confirmation(sender, asked.form.of(list(asked.ticked)), asked.locale, code),
        request=PersonRequest(ref=asked.id, occurred_at=occurred_at),
    )
    gate.unanswered.count(1)
    try:
        (answer,) = await gate.intake.send(BUILT_IN, (request,), trace)
    finally:
        gate.unanswered.give(0, 1)
    async with gate.pool.acquire() as conn:
        if isinstance(answer, Answer):
            await forms.sent(conn, asked.id, answer.id)
            return
        await forms.drop(conn, asked.id)
    if answer.code in OURS:
        raise Refused(AWAY)
    telemetry.OPT_INS.add(1, "not_sent")
    if answer.code.startswith(("content.", "client.", "request.")):
        _log.error("confirmation_refused", form=asked.form.id, code=answer.code.value)
