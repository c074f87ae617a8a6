"""Request bodies: read within a limit, parsed strictly, validated without trusting anything about them.

Promises: a body over its route's limit is refused without being kept; whatever bytes come in, the outcome is a value
or a `Refused`, never a fault: invalid UTF-8, lone surrogates, NUL characters, NaN, duplicate keys, deep nesting and
huge numbers are all `request.invalid`. The Content-Type is not looked at: every body of this API is JSON.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import jiter
from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import MAX_BATCH
from gateway.edge.deadlines import Deadlines
from gateway.edge.problems import Refused, fields, invalid

SINGLE = 64 * 1024
BULK = 4 * 1024 * 1024
LONGEST_LENGTH = 15
"""Digits of a Content-Length worth reading."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Model = TypeVar("Model", bound=BaseModel)
Found = tuple[Refusal, list[dict[str, str]]]
"""A refused item of a batch, with its fields' errors."""

ANSWER_S = 1.9
"""From the whole body to the answer (guarantee 6: never a hang)."""
BODY_S = 10.0
"""For a body that does not come at once."""

TOO_LARGE = Refusal(Code.REQUEST_TOO_LARGE)
SLOW = Refusal(Code.REQUEST_TIMEOUT)
INVALID = Refusal(Code.REQUEST_INVALID)
NUL_ESCAPE = b"\\u0000"
NUL = [{"field": "body", "message": "NUL characters are not taken"}]


class Disconnected(Exception):  # noqa: N818 - not an error of ours
    """The caller left before its body had come."""


def declared(headers: Mapping[bytes, bytes], limit: int) -> int:
    """The bytes to expect: Content-Length, or the limit where the body is chunked. `Refused` when over the limit."""
    length = headers.get(b"content-length")
    if length is None:
        return limit if b"transfer-encoding" in headers else 0
    size = int(length) if length.isdigit() and len(length) <= LONGEST_LENGTH else limit + 1
    if size > limit:
        raise Refused(TOO_LARGE)
    return size


async def timely(receive: Receive, limit: int, clock: Deadlines) -> bytes:
    """The whole body within its deadline, at most `limit` bytes; from then on the answer's deadline runs.

    A body that is already there, as nearly all are, needs one deadline for both.
    """
    clock.watch(ANSWER_S)
    try:
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= limit:
            return body
        clock.watch(BODY_S)
        body = await _rest(message, receive, limit)
    except asyncio.CancelledError:
        if not clock.forget():
            raise
        raise Refused(SLOW) from None
    clock.watch(ANSWER_S)
    return body


async def _rest(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise Refused(TOO_LARGE)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def parse(body: bytes) -> Any:
    """The JSON value of a body. `Refused` when it is not exactly one JSON text (RFC 8259), or keys repeat."""
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        # The parser's words may quote a key; only what kind of fault it is goes back.
        repeated = "duplicate key" in str(error)
        raise invalid(
            "a key appears twice in one object" if repeated else "the body is not valid JSON in UTF-8"
        ) from None


def one(model: type[Model], value: Any, body: bytes) -> Model:
    """The value as its model; `body` is where it was parsed from."""
    if NUL_ESCAPE in body and has_nul(value):
        raise Refused(INVALID, NUL)
    try:
        # `model_validate` without its wrapper, a third of the whole
        valid: Model = model.__pydantic_validator__.validate_python(value)
    except ValidationError as error:
        raise Refused(INVALID, fields(error)) from None
    return valid


def batch(value: Any, name: str) -> list[Any]:
    """The items of `{name: [1..1000]}`."""
    if not isinstance(value, dict) or set(value) != {name} or not isinstance(value[name], list):
        raise Refused(
            INVALID, [{"field": "body", "message": f"Give one object with the list `{name}` and nothing else"}]
        )
    items: list[Any] = value[name]
    if not 1 <= len(items) <= MAX_BATCH:
        raise Refused(INVALID, [{"field": name, "message": f"Give 1 to {MAX_BATCH} items"}])
    return items


def each(
    adapter: TypeAdapter[list[Model]], model: type[Model], items: Sequence[Any], body: bytes
) -> list[Model | Found]:
    """Every item as its model, or why not, each as if it had come alone. One pass when all of them fit."""
    odd = NUL_ESCAPE in body
    if not odd:
        try:
            return list(adapter.validate_python(items))
        except ValidationError:
            pass
    return [_alone(model, item, odd=odd) for item in items]


def _alone(model: type[Model], item: Any, *, odd: bool) -> Model | Found:
    if odd and has_nul(item):
        return INVALID, NUL
    try:
        return model.model_validate(item)
    except ValidationError as error:
        return INVALID, fields(error)


def has_nul(value: Any) -> bool:
    """Whether a NUL character is anywhere in it. The parser has bounded the depth."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_nul, value))
