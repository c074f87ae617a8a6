"""What of a person's chain of events a bundle shows, opened from the database's rows; pure.

Every event shows its leaf and its kind; its body and salt only where it concerns the sender that is asked about, was
not a mere look at the data, and was not erased. The person's tag key is shown with it, for the tags of what is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from gateway.contract.consent import EventKind
from gateway.ledger import rows
from gateway.ledger.events import SYSTEM, canonical
from gateway.ledger.keys import PersonKeys


class Case(NamedTuple):
    """What is asked: a message (as `records` tells it), or an event's place, or a person and a sender."""

    question: Mapping[str, Any]
    subject: bytes
    sender: str | None
    message: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Gathered:
    """A chain with its bodies, ready to be proved."""

    entries: list[dict[str, Any]]
    bodies: dict[int, dict[str, Any]]
    tag_key: bytes | None
    number: str | None


class Holder(NamedTuple):
    """The keys of a person, if they were not erased, those of the system, and the person's row."""

    own: PersonKeys | None
    system: PersonKeys | None
    row: asyncpg.Record | None


def gather(case: Case, chain: Sequence[asyncpg.Record], holder: Holder) -> Gathered:
    """The chain as the bundle lists it, with what may be shown. Raises KeyMismatchError for a body of another key."""
    own, system, held = holder
    entries, bodies = [_entry(row) for row in chain], {}
    for entry, row in zip(entries, chain, strict=True):
        opener = system if rows.key_holder(row["kind"], case.subject) == SYSTEM else own
        if opener is None or row["body"] is None:
            continue
        body = rows.open_body(opener, row["seq"], row["version"], row["body"])
        if _concerns(body, case.sender):
            bodies[row["seq"]] = body | {"seq": row["seq"], "recorded_at": entry["at"]}
            entry.update(_disclosed(row, body))
    if own is None or held is None:
        return Gathered(entries, bodies, None, None)
    _number(entries, own, held["counter"])
    number = None if held["number"] is None else rows.open_number(own, held["number"])
    return Gathered(entries, bodies, own.tag_key(), number)


def pack_of(
    message: Mapping[str, Any], packs: Sequence[asyncpg.Record], system: PersonKeys | None
) -> tuple[dict[str, Any], bytes] | None:
    """The recorded text of the pack that decided the message, as it was then; without a message, the newest."""
    wanted, then = (message.get("decision") or {}).get("pack"), message.get("accepted_at") or 2**62
    found = []
    if system is None:
        return None
    for row in packs:
        body = rows.open_body(system, row["seq"], row["version"], row["body"])
        if wanted in (None, body["data"]["pack"]):
            found.append((row, body))
    chosen = next((one for one in found if rows.ms_of(one[0]["at"]) <= then), found[-1] if found else None)
    if chosen is None:
        return None
    row, body = chosen
    data = body["data"]
    named = {"pack": data["pack"], "sha256": data["sha256"], "file": f"packs/{data['pack']}.toml"}
    return _entry(row) | _disclosed(row, body) | named, data["text"].encode()


def _entry(row: asyncpg.Record) -> dict[str, Any]:
    """What anybody may read of an event: its leaf, and its kind."""
    return {
        "seq": row["seq"],
        "at": rows.ms_of(row["at"]),
        "version": row["version"],
        "kind": row["kind"],
        "tag": row["tag"].hex(),
        "commitment": row["commitment"].hex(),
    }


def _disclosed(row: asyncpg.Record, body: Mapping[str, Any]) -> dict[str, str]:
    return {"salt": row["salt"].hex(), "body": canonical(body).decode()}


def _number(entries: Sequence[dict[str, Any]], own: PersonKeys, last: int) -> None:
    """Write to each entry which of the person's it is, of `last` or fewer; those of an erased key have none."""
    places = {own.tag(count).hex(): count for count in range(1, last + 1)}
    for entry in entries:
        if entry["tag"] in places:
            entry["count"] = places[entry["tag"]]


def _concerns(body: Mapping[str, Any], sender: str | None) -> bool:
    """Whether an event is shown: it is about the sender asked for, or about all."""
    data = body["data"]
    owner = data.get("sender") or str(data.get("scope", "*")).partition("/")[0].partition("#")[0]
    if body["event_type"] == EventKind.ACCESS:
        return False
    return sender is None or owner in (sender, "*")


def text_of(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The digest of the text that a grant's first record names (`two_records`), and a name for its file."""
    first = ((body["data"].get("evidence") or {}).get("first") or {}).get("record") or {}
    notice = (first.get("proof") or {}).get("notice")
    if not notice:
        return None
    return str(notice["sha256"]), f"{notice['id']}.v{notice['version']}.{notice['language']}.json"
