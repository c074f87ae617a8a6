"""`schemas/` is what the models say, and says it in valid JSON Schema, AsyncAPI and (with the edge) OpenAPI."""

import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from gateway.contract.decision import Basis, Class
from gateway.contract.wire import Accepted
from gateway.stream.codec import encode
from gateway.stream.topics import Topics

FOLDER = Path(__file__).parents[2] / "schemas"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schemas_generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    return document


def test_the_committed_files_are_the_generated_ones(generate: ModuleType) -> None:
    documents = generate.stream_documents() | generate.webhook_documents()
    stale = [name for name, text in documents.items() if (FOLDER / name).read_bytes() != text]
    assert not stale, "run `make schemas`"
    left = {path.name for path in FOLDER.glob("*.schema.json")} - documents.keys()
    assert not left, "nothing has these any more"


def test_the_reference_pages_are_the_generated_ones(generate: ModuleType) -> None:
    for path, text in generate.reference.documents().items():
        assert (FOLDER.parent / path).read_bytes() == text, f"{path} differs: run make schemas"


def test_the_committed_openapi_is_the_edge_s(generate: ModuleType) -> None:
    assert generate.edge_documents().keys() == {"openapi.json"}
    assert (FOLDER / "openapi.json").read_bytes() == generate.edge_documents()["openapi.json"], "run `make schemas`"


def test_every_kind_of_record_has_a_valid_schema(generate: ModuleType) -> None:
    for name in (*generate.json_schemas(), generate.WEBHOOKS):
        schema = orjson.loads((FOLDER / name).read_bytes())
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_is_published_fits_the_schema_and_rubbish_does_not() -> None:
    schema = orjson.loads((FOLDER / "messages.schema.json").read_bytes())
    record = Accepted(
        id="01930000-0000-7000-8000-00000000000a",
        client="demo",
        sender="acme",
        purpose="transaction.shipping",
        cls=Class.TRANSACTIONAL,
        subject="ab" * 16,
        to="+8613800138000",
        text="【Acme】您的订单已发出",
        parts=1,
        port="10690001",
        pack="cn@2026.11",
        basis=Basis.RELATIONSHIP,
        accepted_at=1,
        expires_at=2,
    )
    value = orjson.loads(encode(record))
    jsonschema.validate(value, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"cls": "spam"}, schema)


def test_every_topic_is_a_channel_with_a_sender_and_a_receiver(asyncapi: dict[str, Any]) -> None:
    assert {channel["address"] for channel in asyncapi["channels"].values()} == set(Topics().all())
    for name in asyncapi["channels"]:
        assert {asyncapi["operations"][f"{verb}_{name}"]["action"] for verb in ("send", "receive")} == {
            "send",
            "receive",
        }


def test_asyncapi_is_valid(asyncapi: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own models shadow a pydantic name
        from asyncapi3 import AsyncAPI3  # noqa: PLC0415 - so that only this test meets those warnings

    AsyncAPI3.model_validate(asyncapi)


def test_every_reference_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    references = re.findall(r"'?\$ref'?: '?([^'\n]+)'?", (FOLDER / "asyncapi.yaml").read_text())
    assert len(references) > len(asyncapi["channels"])
    for reference in references:
        file, _, pointer = reference.partition("#")
        if file:
            assert (FOLDER / file).is_file(), reference
            continue
        found: Any = asyncapi
        for step in pointer.strip("/").split("/"):
            found = found[step]
