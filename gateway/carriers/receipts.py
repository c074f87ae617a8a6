"""What carriers report, in our words: status, cause, and ids that match however they are written.

The tables are data (`codes.toml`), keyed by connector and code. Everything is tolerant, because a receipt refused is a
receipt lost: a word nobody knows becomes `unknown` with its raw words kept, an unknown code becomes cause `other`.
Pure: the time of receipt comes in as an argument; storing comes before answering, and is the caller's.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from gateway.contract.decision import Cause, Status
from gateway.contract.wire import Receipt

MAX_ITEMS = 1000
RETRYABLE = frozenset({Cause.TRANSIENT, Cause.FLOW, Cause.FREQUENCY, Cause.QUIET_HOURS})
"""Refusals at submit that a later attempt can mend: the carrier says so itself that it did not take the message."""

_HEX = re.compile(r"[0-9A-Fa-f-]+")

MOST_WORD = 64
OLDEST = 2000
"""A year before which no report was made; unset clocks say 1970, and unset times of some languages the year 1."""
MOST_TEXT = 4_000
"""Characters of a reply that are kept; what somebody means is read from its first few hundred."""


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What can be done without is none where it cannot be read: a date in an odd form costs nobody their refusal."""
    try:
        return read(value)
    except ValidationError:
        return None


def _cut(value: Any) -> Any:
    return value[:MOST_TEXT] if isinstance(value, str) else value


def _short(value: Any) -> Any:
    return value.strip()[:MOST_WORD] if isinstance(value, str) else value


def _or_blank(value: Any) -> Any:
    return "" if value is None else _short(value)


Word = Annotated[str, BeforeValidator(_short)]
"""What a carrier says at length is cut: no words of its own may cost its report."""
Code = Annotated[str, BeforeValidator(_or_blank)]
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
At = Annotated[datetime | None, WrapValidator(_or_none)]
Ref = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=MOST_WORD)] | None, WrapValidator(_or_none)
]
Part = Annotated[int | None, WrapValidator(_or_none)]
OptionalId = Annotated[Id | None, WrapValidator(_or_none)]


class Inbound(BaseModel):
    """Carriers add fields and write numbers where they mean strings; neither may cost a receipt."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True, populate_by_name=True)


class ReceiptIn(Inbound):
    """One receipt as the generic HTTP carrier posts it. `status` is an SMPP word, or a vendor's code in its place."""

    carrier_id: Id
    ref: Ref = None
    status: Word
    code: Code = ""
    at: At = None
    part: Part = None


class ReceiptsIn(Inbound):
    """POST /v1/carriers/{carrier}/receipts."""

    receipts: Annotated[list[ReceiptIn], Field(min_length=1, max_length=MAX_ITEMS)]


class ReplyIn(Inbound):
    """One inbound message. `from` is the person, `to` is our port. Without `id` its content tells it apart."""

    id: OptionalId = None
    """A blank one is none, and so is one that is no id: it may not cost the reply."""
    sender: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(alias="from")
    port: Annotated[str, StringConstraints(min_length=1, max_length=32)] = Field(alias="to")
    text: Annotated[str, BeforeValidator(_cut)]
    at: At = None


class RepliesIn(Inbound):
    """POST /v1/carriers/{carrier}/replies."""

    replies: Annotated[list[ReplyIn], Field(min_length=1, max_length=MAX_ITEMS)]


def _load() -> tuple[Mapping[str, Status], Mapping[str, Mapping[str, Cause]]]:
    raw: dict[str, Any] = tomllib.loads(files(__package__).joinpath("codes.toml").read_text("utf-8"))
    statuses = {word: Status(status) for word, status in raw.pop("status").items()}
    causes: dict[str, Mapping[str, Cause]] = {"ok": dict.fromkeys(raw.pop("ok")["codes"], Cause.NONE)}
    for connector, rows in raw.items():
        causes[connector] = {code: Cause(cause) for cause, codes in rows.items() for code in codes}
    return MappingProxyType(statuses), MappingProxyType(causes)


STATUSES, CAUSES = _load()
"""Status by SMPP word, and cause by connector and code, as `codes.toml` has them."""


def known_cause(connector: str, code: str) -> Cause | None:
    """The cause the tables give a code (upper case): the connector's own row first; None where no table has it."""
    own = CAUSES.get(connector, {}).get(code)
    if own is not None:
        return own
    shared = CAUSES["any"].get(code)
    return shared if shared is not None else CAUSES["ok"].get(code)


def meaning(connector: str, word: str, code: str) -> tuple[Status, Cause]:
    """Status and cause of a receipt's words.

    CMPP and many HTTP carriers put the network's code where the status word belongs (`MK:0001`): a word that is not a
    status but is a known code means undelivered. A code that says nothing leaves the word to speak for itself.
    """
    word, code = word.upper(), code.upper()
    status = STATUSES.get(word)
    by_word = known_cause(connector, word)
    if status is None:
        status = Status.UNKNOWN if by_word in (None, Cause.NONE) else Status.UNDELIVERED
    if status in (Status.DELIVERED, Status.SENT, Status.UNKNOWN):
        return status, Cause.NONE
    cause = known_cause(connector, code)
    if cause is None:
        return status, Cause.OTHER
    if cause is Cause.NONE and by_word is not None:
        cause = by_word
    return status, Cause.OTHER if cause is Cause.NONE else cause


def fold_id(given: str) -> str:
    """A carrier's id as it is matched: a hex or decimal numeral loses case and leading zeros, anything else is kept.

    Carriers write one id differently in the answer and in the receipt. Ids in a wider alphabet are left alone: there,
    case carries information and folding would match two messages.
    """
    if not _HEX.fullmatch(given):
        return given
    return given.lower().lstrip("0") or "0"


def unix_ms(at: datetime | None) -> int | None:
    """A carrier's time; none where it has no zone, for then it says nothing certain, or was never set."""
    if at is None or at.tzinfo is None or at.year < OLDEST:
        return None
    return int(at.timestamp() * 1000)


def normalise(carrier: str, body: ReceiptsIn, received_at_ms: int, connector: str | None = None) -> list[Receipt]:
    """The receipts of one callback, in order; `connector` names the code table where the carrier's own name does not.

    A time without a zone says nothing certain: the time of receipt stands.
    """
    table = connector or carrier
    receipts = []
    for item in body.receipts:
        status, cause = meaning(table, item.status, item.code)
        at_ms = unix_ms(item.at)
        folded = fold_id(item.carrier_id)
        receipts.append(
            Receipt(
                carrier=carrier,
                carrier_id=folded,
                given_id=item.carrier_id if item.carrier_id != folded else None,
                ref=item.ref or None,
                status=status,
                cause=cause,
                raw_status=item.status,
                raw_code=item.code,
                at=received_at_ms if at_ms is None else at_ms,
                received_at=received_at_ms,
                part=item.part,
            )
        )
    return receipts
