"""Records to bytes and back.

Promises: what `encode` writes, `decode` reads; a record that does not fit its model is `Undecodable`, whose text names
the model only (pydantic's own error would quote numbers and texts). Owns no state.
"""

from collections.abc import Sequence
from typing import Any, NotRequired, Required, TypedDict, TypeVar, Unpack

import orjson
from pydantic import ValidationError

from gateway.contract.decision import Basis, Class
from gateway.contract.wire import Record

R = TypeVar("R", bound=Record)


class Undecodable(ValueError):  # noqa: N818 - it names what the record is
    """The bytes are not a record of this model; the argument is the model's name."""


def decode(model: type[R], value: bytes | None) -> R:
    """The record in a Kafka value. Raises Undecodable; a missing value (a tombstone) is one too."""
    try:
        # `model_validate_json` without its wrapper, a seventh of the whole
        record: R = model.__pydantic_validator__.validate_json(value or b"")
    except ValidationError:
        raise Undecodable(model.__name__) from None
    return record


def encode(record: Record) -> bytes:
    """A record's JSON; fields that are None are left out."""
    return record.__pydantic_serializer__.to_json(record, exclude_none=True)


class AcceptedFields(TypedDict, total=False):
    """The fields of `wire.Accepted`, for building its bytes without the model."""

    id: Required[str]
    attempt: NotRequired[int]
    client: Required[str]
    sender: Required[str]
    purpose: Required[str]
    cls: Required[Class]
    subject: Required[str]
    to: Required[str]
    text: Required[str]
    parts: Required[int]
    port: Required[str]
    pack: Required[str]
    basis: Required[Basis]
    entry: int | None
    accepted_at: Required[int]
    expires_at: Required[int]
    not_before: int | None
    due: int | None
    parked: str | None
    campaign: str | None
    list_source: str | None
    client_ref: str | None
    callback_url: str | None
    approval: str | None
    request_ref: str | None
    trace: str | None
    long_windows: Sequence[tuple[str, int]] | None
    stamp: int | None
    bound: str | None


def accepted_bytes(**fields: Unpack[AcceptedFields]) -> bytes:
    """The bytes of `Accepted(**fields)` without building the model: the hot path. The caller's types are trusted."""
    return orjson.dumps({"v": 1, **fields})


def encode_fields(fields: dict[str, Any]) -> bytes:
    """The bytes of a record given as the dict of its fields, trusted like `accepted_bytes`."""
    return orjson.dumps({"v": 1, **fields})
