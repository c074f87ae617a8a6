"""Records to bytes and back.

Promises: what `encode` writes, `decode` reads; a record that does not fit its model is `Undecodable`, whose text names
the model only (pydantic's own error would quote numbers and texts). Owns no state.
"""

from collections.abc import Sequence
from typing import Any, Required, TypedDict, TypeVar

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
    """The fields of `wire.Accepted` that are a message's own; the others are in `accepted_head`."""

    id: Required[str]
    subject: Required[str]
    to: Required[str]
    text: Required[str]
    parts: Required[int]
    basis: Required[Basis]
    accepted_at: Required[int]
    expires_at: Required[int]
    entry: int
    not_before: int
    due: int
    parked: str
    campaign: str
    list_source: str
    client_ref: str
    callback_url: str
    approval: str
    request_ref: str
    trace: str
    long_windows: Sequence[tuple[str, int]]
    stamp: int
    bound: str


def accepted_head(*, client: str, sender: str, purpose: str, cls: Class, port: str, pack: str) -> bytes:
    """What every record of one client, sender and purpose begins with, up to a message's own fields.

    It says which attempt it is, though that is the default: who puts a day back reads records without the model.
    """
    common = {"client": client, "sender": sender, "purpose": purpose, "cls": cls, "port": port, "pack": pack}
    return orjson.dumps({"v": 1, "attempt": 1, **common})[:-1] + b","


def accepted_bytes(head: bytes, fields: AcceptedFields) -> bytes:
    """The bytes of an `Accepted` without building the model: the hot path. The caller's types are trusted.

    What is None is left out by the caller: three processes read it all again.
    """
    return head + orjson.dumps(fields)[1:]


def encode_fields(fields: dict[str, Any]) -> bytes:
    """The bytes of a record given as the dict of its fields, trusted like `accepted_bytes`."""
    return orjson.dumps({"v": 1, **fields})
