"""The OpenAPI document: complete, valid, the same each time, and had without any part of the gateway."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.contract.codes import MEANINGS
from gateway.edge.app import openapi_document
from gateway.edge.door import is_public


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


CONTRACT = {
    "post /v1/messages", "post /v1/messages/batch", "post /v1/messages/check", "get /v1/messages",
    "get /v1/messages/{id}", "get /v1/purposes", "post /v1/consents", "post /v1/consents/batch",
    "post /v1/relationships", "post /v1/relationships/batch", "post /v1/recipients/{number}/withdraw",
    "get /v1/recipients/{number}",
    "put /v1/recipients/{number}/preferences", "delete /v1/recipients/{number}/personal-data",
    "get /v1/recipients/{number}/personal-data", "post /v1/suppressions",
    "get /v1/suppressions", "delete /v1/suppressions", "post /v1/carriers/{carrier}/receipts",
    "post /v1/carriers/{carrier}/replies", "get /v1/breakers", "post /v1/breakers/{scope}/open",
    "post /v1/breakers/{scope}/close", "post /v1/breakers/{scope}/trickle",
    "get /v1/breakers/{scope}/acts", "get /v1/breakers/{scope}",
    "post /v1/cleansings", "get /v1/cleansings", "get /v1/cleansings/{id}", "get /v1/cleansings/{id}/people",
    "post /v1/cleansings/{id}/apply", "post /v1/cleansings/{id}/undo",
    "get /v1/alerts", "post /v1/forms", "get /v1/forms/{id}",
    "get /v1/evidence/{id}", "get /v1/ledger/checkpoint", "get /v1/ledger/keys", "get /v1/ledger/tile/{path}",
    "post /v1/complaints", "get /v1/complaints", "get /v1/complaints/{id}",
    "post /v1/complaints/{id}/assign", "post /v1/complaints/{id}/answer", "post /v1/complaints/{id}/close",
    "post /v1/complaints/{id}/match", "get /v1/complaints/figures", "post /v1/complaints/figures",
    "get /v1/webhooks/dead", "post /v1/webhooks/replay", "post /v1/webhooks/{id}/replay",
    "get /v1/health", "post /v1/campaigns/{campaign}/links", "get /v1/campaigns/{campaign}/links", "get /l/{link}",
     "get /v1/codes", "get /healthz", "get /readyz", "get /metrics",
}  # fmt: skip


def test_every_address_of_the_contract_is_there(document: dict[str, Any]) -> None:
    assert {f"{method} {path}" for path, method, _ in operations(document)} == CONTRACT


def test_every_operation_is_told_whole(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert operation["security"] == ([] if is_public(path) else [{"key": []}])
        assert operation["description"]
        if method in ("post", "put") and not path.endswith("/replay"):
            assert operation["requestBody"]["required"]
        for status in ("401", "403", "422", "500", "503") if not is_public(path) else ():
            content = operation["responses"][status]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        assert "HTTPValidationError" not in json.dumps(operation)


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    schemas = document["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_the_examples_fit_their_models(document: dict[str, Any]) -> None:
    checked = 0
    for _, _, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in content:
            schema = {**content["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(content["example"])
            checked += 1
    assert checked == 3


def test_it_is_the_same_each_time(document: dict[str, Any]) -> None:
    assert json.dumps(openapi_document()) == json.dumps(document)


def test_statuses_of_a_send_are_those_of_the_codes(document: dict[str, Any]) -> None:
    told = set(document["paths"]["/v1/messages"]["post"]["responses"]) - {"202"}
    assert told == {str(m.status) for c, m in MEANINGS.items() if c not in ("not_found", "method.not_allowed")}
