# ruff: noqa: INP001 - a script beside what it writes, not a package
"""Writes what others build against: a JSON Schema per kind of record, AsyncAPI, OpenAPI, and the lists in docs/.

`python schemas/generate.py` (or `make schemas`) writes the files; tests/unit/test_schemas.py fails when
they differ from what the models say. Nothing here is read at run time.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import reference  # noqa: E402 - run as a script, the package may not be installed

from gateway.contract import webhook  # noqa: E402 - run as a script, the package may not be installed
from gateway.contract.decision import Class  # noqa: E402
from gateway.contract.wire import Accepted, DeadLetter, Receipt, Record, Reply, Result  # noqa: E402
from gateway.edge.app import openapi_document  # noqa: E402
from gateway.stream.topics import Topics, settings_of  # noqa: E402

KINDS: dict[str, type[Record]] = {
    "messages": Accepted,
    "results": Result,
    "receipts": Receipt,
    "replies": Reply,
    "dead": DeadLetter,
}
"""By a topic's first word: the kind of its records and the name of its schema file."""

WEBHOOKS = "webhooks.schema.json"

KEYS = {
    "messages": "The recipient's subject, 16 bytes: a recipient's messages keep their order.",
    "results": "The message id; the partition is chosen by class.",
    "receipts": "The carrier's id of the message.",
    "replies": "The recipient's subject, 16 bytes.",
    "dead": "The key of the record that nobody could process.",
}

FLOWS = {
    "messages": ("edge, campaigns, holds and settle, through intake", "deliver and settle"),
    "messages.held": ("intake and deliver", "hold and settle"),
    "results": ("deliver", "settle"),
    "receipts": ("edge and carrier sessions", "settle"),
    "replies": ("edge and carrier sessions", "settle"),
    "dead": ("every consumer", "a person; see the runbook"),
}
"""Who sends and who receives, by topic or by its first word."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name to JSON Schema (draft 2020-12)."""
    return {
        f"{kind}.schema.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:assent:schema:{kind}",
            **model.model_json_schema(),
        }
        for kind, model in KINDS.items()
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of every topic."""
    topics = Topics("").all()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Assent topics",
            "version": "1",
            "description": (
                "Kafka topics of one installation; ASSENT_TOPIC_PREFIX goes before every address. "
                "A record is never changed in meaning: a field may be added with a default, so ignore unknown fields."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {_name(topic): _channel(topic) for topic in topics},
        "operations": dict(pair for topic in topics for pair in _operations(topic)),
        "components": {"messages": {kind: _message(kind) for kind in KINDS}},
    }


def _name(topic: str) -> str:
    return topic.replace(".", "_")


def _channel(topic: str) -> dict[str, Any]:
    settings = settings_of(topic, 3)
    kind = topic.split(".", 1)[0]
    return {
        "address": topic,
        "description": _about(topic),
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        "bindings": {
            "kafka": {
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": int(settings["retention.ms"]),
                    "max.message.bytes": int(settings["max.message.bytes"]),
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _about(topic: str) -> str:
    if topic == "messages.held":
        return "Messages to be released later: `due` says when, `parked` which breaker they wait for."
    kind, _, cls = topic.partition(".")
    text = (KINDS[kind].__doc__ or "").strip()
    return f"Class {Class(cls).value}. {text}" if cls else text


def _operations(topic: str) -> list[tuple[str, dict[str, Any]]]:
    kind, name = topic.split(".", 1)[0], _name(topic)
    senders, receivers = FLOWS.get(topic) or FLOWS[kind]
    shared = {
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{kind}"}],
    }
    return [
        (f"send_{name}", {"action": "send", "summary": f"By {senders}.", **shared}),
        (f"receive_{name}", {"action": "receive", "summary": f"By {receivers}.", **shared}),
    ]


def _message(kind: str) -> dict[str, Any]:
    return {
        "name": KINDS[kind].__name__,
        "contentType": "application/json",
        "payload": {"$ref": f"./{kind}.schema.json"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": KEYS[kind]}, "bindingVersion": "0.5.0"},
        },
    }


def stream_documents() -> dict[str, bytes]:
    """Every file about topics, by name."""
    files = {name: _json(schema) for name, schema in json_schemas().items()}
    files["asyncapi.yaml"] = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120).encode()
    return files


def webhook_documents() -> dict[str, bytes]:
    """The body of every webhook."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:assent:schema:webhooks"}
    return {WEBHOOKS: _json({**head, **webhook.schema()})}


def edge_documents() -> dict[str, bytes]:
    """The edge's OpenAPI."""
    return {"openapi.json": _json(openapi_document())}


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main() -> int:
    """Write the files, or with --check say which differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when a file differs")
    check = parser.parse_args().check
    documents = {f"schemas/{name}": text for name, text in _all().items()}
    documents |= reference.documents()
    stale = [name for name, text in documents.items() if not _is(ROOT / name, text)]
    for name in stale:
        print(f"{'differs' if check else 'written'}: {name}")  # noqa: T201 - a command's answer
        if not check:
            (ROOT / name).write_bytes(documents[name])
    return int(check and bool(stale))


def _all() -> dict[str, bytes]:
    return stream_documents() | webhook_documents() | edge_documents()


def _is(path: Path, text: bytes) -> bool:
    return path.is_file() and path.read_bytes() == text


if __name__ == "__main__":
    sys.exit(main())
