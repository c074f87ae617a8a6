"""What is asked of the guard about a message, what it answers, and how both travel to `admit.lua` and `check.lua`.

Pure: packing and parsing only. The scripts' headers are the specification of every rule and its order.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from gateway.contract.codes import Code
from gateway.guard import keys
from gateway.guard.plans import Plans, long_fields, term_field
from gateway.guard.record import HELD, RESERVED, STATES
from gateway.rules.plan import Plan

CODES = {code.value.encode(): code for code in Code}
_pack = msgpack.Packer(use_bin_type=False).pack  # the servers' msgpack knows no bin type
_ASK = struct.Struct(">7B2HHI8sBHI").pack
"""`ASK` of `lua/permission.lua`, six-byte numbers as their upper two and lower four bytes: a script reads a message by
one call, where a msgpack array cost it a table, thirteen values and their growth."""
_PERMITTED = struct.Struct(">HIbHIB").unpack
_LOWER = 0xFFFF_FFFF


class Mode(IntEnum):
    """What an admission is for."""

    ADMIT = 0
    """Everything is checked and consumed; the record becomes `reserved`."""
    HOLD = 1
    """Everything but windows and hours is checked; no window is consumed; the record becomes `held`."""
    RELEASE = 2
    """A held message, or a retry (`attempt` > 1, which consumes no window) comes back."""
    CHECK = 3
    """Nothing is written; the verdict carries the trace of every rule."""
    RECALL = 4
    """Only what was decided before is told again; anything else is refused: `unavailable`."""


class Ask(NamedTuple):
    """One message, ready to be decided on."""

    id: str
    subject: bytes
    plan: Plan
    text_hash: bytes
    """8 bytes of a keyed hash of sender and text."""
    midnights: tuple[int, ...]
    """Local midnights around now, ascending, Unix ms: the previous, today's, the next (`rules.hours.midnights`)."""
    minute_of_day: int
    """Local, for the person's preferred hours."""
    answer: bytes = b""
    """Kept in the record and given again to whoever repeats the message."""
    mode: Mode = Mode.ADMIT
    bound: bool = False
    """An idempotency key is bound to this id: the record outlives `done`."""
    approved: bool = False
    """The message carries a named approval."""
    request: bytes | None = None
    """A keyed digest of the person's own act; its first byte must be the subject's, so that both share a lane."""
    request_ttl_ms: int = 0
    record_ttl_ms: int = 86_400_000
    attempt: int = 1


class Rule(NamedTuple):
    """One rule's verdict in a trace."""

    rule: str
    code: Code | None
    detail: str
    counted: int
    limit: int
    retry_after_ms: int
    source: str


class Verdict(NamedTuple):
    """The decision on one message. `code` none and not `replay`: permitted, and recorded as `state`."""

    code: Code | None
    state: str = ""
    """reserved, held, taken, done, unwritten or void; empty after a refusal."""
    replay: bool = False
    """The message was decided on before: nothing was consumed, `answer` is the earlier one."""
    answer: bytes = b""
    attempt: int = 1
    entry: int | None = None
    """The ledger entry relied on."""
    basis_key: str | None = None
    """The consent or relationship relied on; none for a request or an opt-out."""
    stamp_ms: int = 0
    """The server's time of the decision, as written into the windows."""
    retry_after_ms: int = 0
    window: str | None = None
    """Which window was exceeded, by its name in the pack, `terms`, `preference …` or `same text`."""
    hours: tuple[int, int] | None = None
    """With quiet.hours: the minutes of the local day the person wants messages in."""
    termed: bool = False
    """The consent's own weekly limit counted this message."""
    trace: tuple[Rule, ...] = ()


def pack(asks: Sequence[Ask], min_seq: int, plans: Plans, now_ms: int = 0) -> tuple[list[bytes], list[bytes | int]]:
    """KEYS and ARGV of one call. `now_ms` replaces the server's clock in tests only."""
    lanes: dict[int, int] = {}
    used: dict[int, int] = {}
    order: list[Plan] = []
    calendars: dict[tuple[int, ...], int] = {}
    answers: dict[bytes, int] = {}
    persons: list[bytes] = []
    requests: list[bytes] = []
    windows: list[bytes] = []
    rows: list[bytes] = []
    for ask in asks:
        subject, plan, life_ms, request_ms = ask.subject, ask.plan, ask.record_ttl_ms, ask.request_ttl_ms
        first = subject[0]
        at = used.get(id(plan))
        if at is None:
            order.append(plan)
            at = used[id(plan)] = len(order)
        record = keys.RECORD[first] + keys.raw_id(ask.id)
        persons += (keys.PERSON[first] + subject, keys.BLOCK[first] + subject, record)
        windows.append(keys.WINDOWS[first] + subject)
        request = 0
        if ask.request is not None:
            requests.append(keys.REQUEST[first] + ask.request)
            request = len(requests)
        rows.append(
            _ASK(
                at,
                ask.mode,
                ask.bound,
                ask.approved,
                lanes.setdefault(first & 15, len(lanes) + 1),
                calendars.setdefault(ask.midnights, len(calendars) + 1),
                answers.setdefault(ask.answer, len(answers) + 1),
                ask.minute_of_day,
                ask.attempt,
                life_ms >> 32,
                life_ms & _LOWER,
                ask.text_hash,
                request,
                request_ms >> 32,
                request_ms & _LOWER,
            )
        )
    names = [keys.CURSOR[lane] for lane in lanes]
    args: list[bytes | int] = [
        len(names),
        len(requests),
        min_seq,
        now_ms,
        plans.table(order),
        _pack(list(calendars)),
        _pack(list(answers)),
        b"".join(rows),
    ]
    return names + persons + requests + windows, args


def parse(reply: Sequence[Any], asks: Sequence[Ask]) -> list[Verdict]:
    """The verdicts of `admit.lua`, in order."""
    verdicts = []
    for row, ask in zip(reply, asks, strict=True):
        if isinstance(row, bytes):
            verdicts.append(_permitted(row, ask))
        elif row[0] == 1:
            verdicts.append(_replay(row, ask.plan))
        else:
            verdicts.append(_refused(row, ask.plan))
    return verdicts


def _permitted(row: bytes, ask: Ask) -> Verdict:
    upper, lower, basis, entry_upper, entry_lower, termed = _PERMITTED(row)
    entry = entry_upper << 32 | entry_lower
    return Verdict(
        None,
        HELD if ask.mode is Mode.HOLD else RESERVED,
        attempt=ask.attempt,
        entry=entry - 1 if entry else None,
        basis_key=_basis_key(ask.plan, basis),
        stamp_ms=upper << 32 | lower,
        termed=termed == 1,
    )


def _replay(row: Sequence[Any], plan: Plan) -> Verdict:
    _, state, attempt, stamp, answer, basis, entry, termed = row
    name = STATES[state]
    return Verdict(
        None,
        name,
        replay=True,
        answer=answer,
        attempt=attempt,
        entry=entry if entry >= 0 else None,
        basis_key=_basis_key(plan, basis),
        stamp_ms=stamp,
        termed=termed == 1,
    )


def _refused(row: Sequence[Any], plan: Plan) -> Verdict:
    _, code, rule, wait = row[:4]
    name = plan.windows[rule - 1].name if isinstance(rule, int) else rule.decode()
    return Verdict(
        CODES[code],
        window=name if CODES[code] is Code.WINDOW_EXCEEDED else None,
        retry_after_ms=wait,
        hours=(row[4], row[5]) if len(row) > 4 else None,  # noqa: PLR2004 - the reply's fields
    )


def parse_trace(reply: Sequence[Sequence[Sequence[Any]]], asks: Sequence[Ask]) -> list[Verdict]:
    """The verdicts of `check.lua`, in order: the first rule that refuses decides."""
    verdicts = []
    for rows, ask in zip(reply, asks, strict=True):
        rules = tuple(_rule(row, ask.plan) for row in rows)
        failed = next((rule for rule in rules if rule.code is not None), None)
        basis = next(rule for rule in rules if rule.rule == "basis")
        quiet = failed is not None and failed.code is Code.QUIET_HOURS
        verdicts.append(
            Verdict(
                failed.code if failed else None,
                entry=basis.counted if basis.counted >= 0 else None,
                basis_key=basis.detail or None,
                retry_after_ms=failed.retry_after_ms if failed else 0,
                window=failed.detail if failed and failed.code is Code.WINDOW_EXCEEDED else None,
                hours=(failed.counted, failed.limit) if failed and quiet else None,
                trace=rules,
            )
        )
    return verdicts


def _rule(row: Sequence[Any], plan: Plan) -> Rule:
    name, code, detail, count, limit, wait = row
    rule, text, source = name.decode(), detail.decode(), ""
    if rule == "window":
        window = plan.windows[int(text) - 1]
        text, source = window.name, window.source
    return Rule(rule, CODES.get(code), text, count, limit, wait, source)


def _basis_key(plan: Plan, at: int) -> str | None:
    if at == 0:
        return None
    keys_of = plan.consents if at > 0 else plan.relationships
    return keys_of[abs(at) - 1] if abs(at) <= len(keys_of) else None  # a replay may be of an earlier pack's plan


def long_windows(plan: Plan, verdict: Verdict) -> list[tuple[str, int]]:
    """(field, stamp ms) of what a permitted message consumed in windows longer than a day, to be kept in PostgreSQL.

    Nothing for a held one: it consumes at its release.
    """
    names = long_fields(plan)
    if verdict.termed and verdict.basis_key:
        names = (*names, term_field(verdict.basis_key))
    if not names or verdict.state == HELD:
        return []
    return [(name, verdict.stamp_ms) for name in dict.fromkeys(names)]
