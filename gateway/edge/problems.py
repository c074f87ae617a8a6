"""Errors as RFC 9457 problem documents: one shape for every refusal and every fault of this API.

Promises: a `code` of the closed set, what to do about it in both languages, the trace id, Retry-After where it is
known; never a value the caller sent (a number, a text, an unknown field's odd name), never an exception's words.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as Invalid
from starlette.exceptions import HTTPException

from gateway.contract.codes import MEANINGS, Code
from gateway.contract.decision import Refusal

MEDIA = b"application/problem+json"
MAX_ERRORS = 32
RETRY_S = 1
"""Retry-After of a 503 that does not say when."""
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")
_TRACEPARENT = re.compile(rb"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

TYPE = "urn:assent:problem:"
Headers = list[tuple[bytes, bytes]]


class FieldError(BaseModel):
    """One thing wrong with the request: where, and what is expected there."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document. `code` is stable; `action` says what to do about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:assent:problem:consent.missing",
                    "title": MEANINGS[Code.CONSENT_MISSING].title,
                    "status": 403,
                    "code": "consent.missing",
                    "action": MEANINGS[Code.CONSENT_MISSING].action,
                    "action_zh": MEANINGS[Code.CONSENT_MISSING].action_zh,
                    "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    code: Code
    detail: str | None = None
    action: str
    action_zh: str
    trace: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    retry_after: int | None = None
    """Seconds after which a retry could succeed; also the header Retry-After."""
    errors: list[FieldError] | None = None


class RefusedItem(BaseModel):
    """An item of a batch that was not carried out; the others are not affected."""

    status: Literal["refused"] = "refused"
    code: Code
    title: str
    detail: str | None = None
    retry_after: int | None = None
    errors: list[FieldError] | None = None

    @classmethod
    def of(cls, refusal: Refusal, errors: Sequence[Mapping[str, str]] | None = None) -> "RefusedItem":
        """The item of a refusal."""
        return cls.model_validate(item_of(refusal, errors))


class Refused(HTTPException):
    """A refusal on its way out. An `HTTPException`, so that nothing between here and the answer rewrites it.

    Make a new one each time: one that is raised again keeps the frames of every request it was raised in.
    """

    def __init__(
        self, refusal: Refusal, errors: Sequence[Mapping[str, str]] | None = None, *, counted: bool = False
    ) -> None:
        """`counted`: the metrics have it already."""
        super().__init__(MEANINGS[refusal.code].status)
        self.refusal, self.errors, self.counted = refusal, errors, counted


def invalid(detail: str, errors: Sequence[Mapping[str, str]] | None = None) -> Refused:
    """The request does not fit its model; `detail` must not quote it."""
    return Refused(Refusal(Code.REQUEST_INVALID, detail), errors)


def wrong(field: str, message: str) -> Refused:
    """One field does not fit; `message` must not quote it."""
    return invalid("", [{"field": field, "message": message}])


def fields(error: Invalid | Sequence[Any], skip: int = 0) -> list[dict[str, str]]:
    """What pydantic found, without what it found it in; `skip` leading parts of each place are left out."""
    found = (
        error.errors(include_url=False, include_context=False, include_input=False)
        if isinstance(error, Invalid)
        else error
    )
    return [{"field": _place(e["loc"][skip:]), "message": _message(e)} for e in found[:MAX_ERRORS]]


def _place(parts: Sequence[str | int]) -> str:
    """A path to the field. A name that is not like one of ours may hold anything, so it is not repeated."""
    shown = [str(p) if isinstance(p, int) or _NAME.match(p) else "?" for p in parts]
    return ".".join(shown) or "body"


def _message(error: Mapping[str, Any]) -> str:
    message = str(error["msg"])
    # pydantic quotes the offending character or scheme in a few messages; those behind backticks are the caller's.
    return re.sub(r"`[^`]*`", "that", message) if error["type"].endswith("_parsing") else message


def body_of(
    refusal: Refusal, trace: str, errors: Sequence[Mapping[str, str]] | None = None
) -> tuple[int, Headers, bytes]:
    """Status, headers and document of a refusal."""
    meaning = MEANINGS[refusal.code]
    after = refusal.retry_after_s
    if after is None and meaning.status == MEANINGS[Code.UNAVAILABLE].status:
        after = RETRY_S
    document: dict[str, Any] = {
        "type": TYPE + refusal.code,
        "title": meaning.title,
        "status": meaning.status,
        "code": refusal.code,
    }
    if refusal.detail:
        document["detail"] = refusal.detail
    document |= {"action": meaning.action, "action_zh": meaning.action_zh, "trace": trace}
    headers = [(b"content-type", MEDIA), (b"trace-id", trace.encode())]
    if after is not None:
        document["retry_after"] = after
        headers.append((b"retry-after", b"%d" % after))
    if errors:
        document["errors"] = errors
    if refusal.code is Code.AUTH_INVALID:
        headers.append((b"www-authenticate", b'Bearer realm="assent"'))
    body = orjson.dumps(document)
    headers.append((b"content-length", b"%d" % len(body)))
    return meaning.status, headers, body


def item_of(refusal: Refusal, errors: Sequence[Mapping[str, str]] | None = None) -> dict[str, Any]:
    """A refused item of a batch: what its problem document would say, without what depends on the request."""
    item: dict[str, Any] = {"status": "refused", "code": refusal.code, "title": MEANINGS[refusal.code].title}
    if refusal.detail:
        item["detail"] = refusal.detail
    if refusal.retry_after_s is not None:
        item["retry_after"] = refusal.retry_after_s
    if errors:
        item["errors"] = errors
    return item


def trace_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The trace id the caller gave in `traceparent` (W3C Trace Context), if it is one."""
    parent = headers.get(b"traceparent")
    if parent is None:
        return None
    match = _TRACEPARENT.match(parent)
    return None if match is None or match[1] == b"0" * 32 else match[1].decode()


def new_trace() -> str:
    """A trace id where neither the caller nor a message gives one."""
    return os.urandom(16).hex()
