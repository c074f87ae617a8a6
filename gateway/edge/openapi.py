"""The whole OpenAPI document: FastAPI's own for what it routes, the hot routes and the raw bodies written in.

Promises: every operation names its security and its problem answers with their codes; building it needs no part of the
gateway and always gives the same document, so that `schemas/` can be checked against it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from gateway.carriers.receipts import ReceiptsIn, RepliesIn
from gateway.contract.codes import MEANINGS, Code
from gateway.contract.complaint import ComplaintBatch, ComplaintRequest
from gateway.contract.consent import ConsentBatch, RelationshipBatch
from gateway.contract.message import BatchRequest, SendAnswer, SendRequest
from gateway.edge.door import is_public
from gateway.edge.problems import Problem, RefusedItem

REF = "#/components/schemas/{model}"
KEY = {"key": {"type": "http", "scheme": "bearer", "description": "An API key of this gateway."}}
EVERYWHERE = (Code.AUTH_INVALID, Code.CLIENT_FORBIDDEN, Code.REQUEST_INVALID, Code.INTERNAL, Code.UNAVAILABLE)
WITH_BODY = (Code.REQUEST_TOO_LARGE, Code.REQUEST_TIMEOUT)
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Instead of `idempotency_key` in the body: the same key and body are answered the same for 24 h.",
}
EXAMPLE = {
    "to": "+8619900000001",
    "sender": "acme",
    "purpose": "transaction.shipping",
    "text": "您的订单已发货，预计明天送达。",
    "client_ref": "order-1001",
}


class BatchResults(BaseModel):
    """One result for each message, in order."""

    results: list[SendAnswer | RefusedItem]


class CheckAnswer(BaseModel):
    """What sending this message now would be answered, rule by rule. Nothing was sent or counted."""

    model_config = ConfigDict(extra="allow")


class App(Protocol):
    """What is asked of the application."""

    title: str
    version: str
    description: str

    @property
    def routes(self) -> list[BaseRoute]:
        """All of them."""


MODELS: Sequence[type[BaseModel]] = (
    Problem,
    SendRequest,
    SendAnswer,
    BatchRequest,
    BatchResults,
    CheckAnswer,
    ConsentBatch,
    RelationshipBatch,
    ComplaintRequest,
    ComplaintBatch,
    ReceiptsIn,
    RepliesIn,
)
RAW_BODIES: dict[str, type[BaseModel]] = {
    "/v1/consents/batch": ConsentBatch,
    "/v1/relationships/batch": RelationshipBatch,
    "/v1/carriers/{carrier}/receipts": ReceiptsIn,
    "/v1/carriers/{carrier}/replies": RepliesIn,
}
"""Routes that read their body themselves, item by item."""


def document(app: App) -> dict[str, Any]:
    """The document."""
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = models_json_schema([(model, "validation") for model in MODELS], ref_template=REF)
    components = described.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **schemas["$defs"]}
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["securitySchemes"] = KEY
    paths = described["paths"]
    for path, operation in _hot().items():
        paths.setdefault(path, {})["post"] = operation
    for path, model in RAW_BODIES.items():
        paths[path]["post"]["requestBody"] = _json_body(model)
    paths["/v1/complaints"]["post"]["requestBody"] = _complaints_body()
    for path, item in paths.items():
        for method, operation in item.items():
            _complete(path, method, operation)
    described["paths"] = dict(sorted(paths.items()))
    return described


def _json_body(model: type[BaseModel], example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": REF.format(model=model.__name__)}}
    if example is not None:
        content["example"] = example
    return {"required": True, "content": {"application/json": content}}


def _complaints_body() -> dict[str, Any]:
    """One complaint, a batch of them, or a file."""
    models = [{"$ref": REF.format(model=model.__name__)} for model in (ComplaintRequest, ComplaintBatch)]
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": models}},
            "text/csv": {"schema": {"type": "string", "description": "Of any size; with `mapping` or `columns`."}},
        },
    }


def _answer(model: type[BaseModel], description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}},
    }


def _hot() -> dict[str, dict[str, Any]]:
    return {
        "/v1/messages": {
            "tags": ["messages"],
            "operationId": "send_message",
            "summary": "Send Message",
            "description": "Check one message against every rule and take it durably, hold it, or refuse it.",
            "parameters": [IDEMPOTENCY],
            "requestBody": _json_body(SendRequest, EXAMPLE),
            "responses": {"202": _answer(SendAnswer, "Durable; it will be submitted, or is held until `release_at`")},
        },
        "/v1/messages/batch": {
            "tags": ["messages"],
            "operationId": "send_messages",
            "summary": "Send Messages",
            "description": "Up to 1,000 messages, each decided as if it had come alone; the results are in order.",
            "requestBody": _json_body(BatchRequest, {"messages": [EXAMPLE]}),
            "responses": {"200": _answer(BatchResults, "One result for each message")},
        },
        "/v1/messages/check": {
            "tags": ["messages"],
            "operationId": "check_message",
            "summary": "Check Message",
            "description": "The same body; nothing is sent or counted: every rule, its verdict and its source.",
            "requestBody": _json_body(SendRequest, EXAMPLE),
            "responses": {"200": _answer(CheckAnswer, "The trace")},
        },
    }


SENDING = frozenset({"/v1/messages", "/v1/messages/check"})
DECISIONS = tuple(
    code
    for code in Code
    if MEANINGS[code].status in (403, 409, 422, 429) or code in (Code.BREAKER_OPEN, Code.CACHE_COLD)
)


def _codes(path: str, method: str) -> Iterable[Code]:
    if path.startswith("/v1/ledger/"):
        return Code.NOT_FOUND, Code.REQUEST_INVALID, Code.UNAVAILABLE
    if path.startswith("/l/"):
        return Code.NOT_FOUND, Code.UNAVAILABLE
    if is_public(path):
        return ()
    codes = list(EVERYWHERE)
    if method != "get":
        codes += WITH_BODY
    if path in SENDING:
        codes += DECISIONS
    elif path.startswith(("/v1/recipients/", "/v1/messages/{", "/v1/forms/{", "/v1/evidence/{", "/v1/webhooks/{")):
        codes.append(Code.NOT_FOUND)
    if path.startswith(("/v1/consents", "/v1/relationships", "/v1/recipients", "/v1/suppressions")):
        codes += (Code.CONSENT_OPTED_OUT, Code.IDEMPOTENCY_CONFLICT, Code.RECIPIENT_INVALID, Code.EVIDENCE_INSUFFICIENT)
        codes += (Code.NOT_FOUND, Code.SUPPRESSED)
    if path.startswith("/v1/cleansings"):
        codes += (Code.NOT_FOUND, Code.CLEANSING_STATE, Code.CLEANSING_LATE)
    if path.startswith("/v1/complaints"):
        codes += (Code.NOT_FOUND, Code.CASE_STATE, Code.IDEMPOTENCY_CONFLICT, Code.RECIPIENT_INVALID)
    return codes


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """Security, and each problem answer with its codes in place of FastAPI's own 422."""
    operation["security"] = [] if is_public(path) else [{"key": []}]
    responses = operation["responses"]
    responses.pop("422", None)
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(_codes(path, method)):
        by_status.setdefault(MEANINGS[code].status, []).append(code.value)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(f"`{name}`" for name in names),
            "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
        }
        if status in (429, 503):
            responses[str(status)]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to retry"}
            }
