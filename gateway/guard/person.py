"""How a person's state is written in Redis: small, absolute, and ordered by `seq` without decoding it.

Five bytes of `seq` (big endian), then nothing (a tombstone, or a person about whom nothing stands), or a msgpack array

    [consents, relationships, suppressions, preferences]      trailing empty parts left out

    consents       {"acme/marketing": entry | [entry, until_s, max_per_week]}   the bare entry where there are no terms
    relationships  {"acme/order": entry | [entry, expires_s]}
    suppressions   {"acme#marketing": bit mask of 1 << Reason}
    preferences    {"acme" | "*": [topics | nil, max_per_week, from_minute, to_minute]}   0, 0: no hours

Only what an admission looks at is here; when a consent was given, and the evidence, stay in PostgreSQL.
PostgreSQL keeps these bytes beside the state they were made from (`ledger.rows`), with `FORM`: whoever changes a byte
of what `encode` writes raises it, and what an older version has written is made anew from the state.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack

from gateway.contract.consent import State

FORM = 1
"""The version of this encoding; `tests/unit/test_guard_formats.py` pins its bytes."""
SEQ_BYTES = 5
_NONE: Mapping[str, Any] = {}
_pack = msgpack.Packer().pack


def encode(state: State) -> bytes:
    """A state as the scripts read it."""
    held, kept = state.relationships, state.preferences
    return _form(  # most people have one or two parts: a comprehension over nothing is a call all the same
        state.seq,
        {key: _consent(c.entry, c.until, c.max_per_week) for key, c in state.consents.items()},
        {key: _relationship(r.entry, r.expires) for key, r in held.items()} if held else {},
        {scope: _mask([s.reason for s in held]) for scope, held in state.suppressions.items() if held},
        {key: _preference(p.topics, p.max_per_week, p.hours) for key, p in kept.items()} if kept else {},
    )


def encode_raw(state: Mapping[str, Any]) -> bytes:
    """`encode` of a state given as the JSON object it is stored as (what equals its default may be left out).

    A rebuild reads millions of them: a tenth of what it costs to make the model first. Nothing is checked but that what
    is needed is there (LookupError, or TypeError): only for what `State` itself has written.
    """
    get = state.get
    return _form(
        state["seq"],
        {
            key: _consent(c["entry"], c.get("until", 0), c.get("max_per_week", 0))
            for key, c in get("consents", _NONE).items()
        },
        {key: _relationship(r["entry"], r.get("expires", 0)) for key, r in get("relationships", _NONE).items()},
        {scope: _mask(s["reason"] for s in held) for scope, held in get("suppressions", _NONE).items() if held},
        {
            key: _preference(p.get("topics"), p.get("max_per_week", 0), p.get("hours"))
            for key, p in get("preferences", _NONE).items()
        },
    )


def tombstone(seq: int) -> bytes:
    """What erasure leaves: nothing stands, and nothing older may come back."""
    return seq.to_bytes(SEQ_BYTES, "big")


def seq_of(raw: bytes) -> int:
    """The `seq` a written state stands for."""
    return int.from_bytes(raw[:SEQ_BYTES], "big")


def _form(
    seq: int,
    consents: dict[str, Any],
    relationships: dict[str, Any],
    suppressions: dict[str, int],
    preferences: dict[str, list[Any]],
) -> bytes:
    parts = [consents, relationships, suppressions, preferences]
    while parts and not parts[-1]:
        parts.pop()
    head = seq.to_bytes(SEQ_BYTES, "big")
    return head + _pack([part or None for part in parts]) if parts else head


def _consent(entry: int, until: int, max_per_week: int) -> int | list[int]:
    return [entry, until, max_per_week] if until or max_per_week else entry


def _relationship(entry: int, expires: int) -> int | list[int]:
    return [entry, expires] if expires else entry


def _mask(reasons: Iterable[int]) -> int:
    mask = 0
    for reason in reasons:
        mask |= 1 << reason
    return mask


def _preference(topics: Sequence[str] | None, max_per_week: int, hours: Sequence[int] | None) -> list[Any]:
    start, end = hours or (0, 0)
    return [topics or None, max_per_week, start, end]
