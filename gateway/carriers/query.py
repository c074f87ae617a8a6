"""Asking a carrier what became of a message whose submit or receipt was lost: when, and what its answer means.

Pure. An answer is read as tolerantly as a receipt and believed as little as possible: what is left out, said twice
differently, or not understood is `StillUnknown`. That a carrier has never seen a message is the one answer with a
consequence nobody can take back (its window slots), so a profile must say that it can be believed, and time must have
passed: the request may still wait in a queue of the carrier's.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import orjson
from pydantic import StringConstraints, ValidationError

from gateway.carriers.carrier import Known, NeverSeen, QueryFailed, Seen, StillUnknown
from gateway.carriers.receipts import At, Code, Inbound, OptionalId, Word, fold_id, meaning, unix_ms
from gateway.contract.decision import Status

ASK_AFTER_MS: Final = (30_000, 300_000, 1_800_000, 10_800_000)
"""How long after its doubt began a message is asked about: 30 s, 5 min, 30 min, 3 h."""
BELIEVE_AFTER_MS: Final = 1_800_000
"""From when a final `NeverSeen` counts; a record that knows what to give back lives an hour."""
NOT_FOUND: Final = "NOTFOUND"


def next_ask(since_ms: int, now_ms: int) -> int | None:
    """When to ask (again) about a message doubted since `since_ms`; none after the last time.

    Times that an outage let pass are not made up for: one question answers them all.
    """
    return next((since_ms + after for after in ASK_AFTER_MS if since_ms + after > now_ms), None)


class AnswerIn(Inbound):
    """One item of {results:[…]}. `status` is a word as in receipts, or `NOTFOUND`."""

    ref: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    carrier_id: OptionalId = None
    status: Word
    code: Code = ""
    at: At = None


def read_answers(refs: Sequence[str], body: bytes, connector: str, *, final: bool) -> list[Known]:
    """One answer for each of `refs`, in order. Raises QueryFailed where the whole body cannot be read."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise QueryFailed("answer.malformed") from None
    items = document.get("results") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise QueryFailed("answer.malformed")
    by_ref: dict[str, Known] = {}
    for item in items:
        try:
            given = AnswerIn.model_validate(item)
        except ValidationError:
            continue
        known = read_answer(given, connector, final=final)
        if by_ref.setdefault(given.ref, known) != known:
            by_ref[given.ref] = StillUnknown()
    return [by_ref.get(ref, StillUnknown()) for ref in refs]


def read_answer(given: AnswerIn, connector: str, *, final: bool) -> Known:
    """What one item says; `UNKNOWN`, or a word nobody knows, says nothing."""
    if given.status.upper() == NOT_FOUND:
        return NeverSeen(final)
    status, cause = meaning(connector, given.status, given.code)
    if status is Status.UNKNOWN:
        return StillUnknown()
    carrier_id = None if given.carrier_id is None else fold_id(given.carrier_id)
    return Seen(status, cause, given.status, given.code, carrier_id, unix_ms(given.at))
