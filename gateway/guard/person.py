"""How a person's state is written in Redis: small, absolute, and ordered by `seq` without decoding it.

Five bytes of `seq` (big endian), then nothing (a tombstone, or a person about whom nothing stands), or a msgpack array

    [consents, relationships, suppressions, preferences]      trailing empty parts left out

    consents       {"acme/marketing": entry | [entry, until_s, max_per_week]}   the bare entry where there are no terms
    relationships  {"acme/order": entry | [entry, expires_s]}
    suppressions   {"acme#marketing": bit mask of 1 << Reason}
    preferences    {"acme" | "*": [topics | nil, max_per_week, from_minute, to_minute]}   0, 0: no hours

Only what an admission looks at is here; when a consent was given, and the evidence, stay in PostgreSQL.
"""

from typing import Any

import msgpack

from gateway.contract.consent import Preference, State

SEQ_BYTES = 5
_pack = msgpack.Packer().pack


def encode(state: State) -> bytes:
    """A state as the scripts read it."""
    parts: list[Any] = [
        {
            key: [c.entry, c.until, c.max_per_week] if c.until or c.max_per_week else c.entry
            for key, c in state.consents.items()
        },
        {key: [r.entry, r.expires] if r.expires else r.entry for key, r in state.relationships.items()},
        {scope: _mask(s.reason for s in held) for scope, held in state.suppressions.items() if held},
        {key: _preference(p) for key, p in state.preferences.items()},
    ]
    while parts and not parts[-1]:
        parts.pop()
    head = state.seq.to_bytes(SEQ_BYTES, "big")
    return head + _pack([part or None for part in parts]) if parts else head


def tombstone(seq: int) -> bytes:
    """What erasure leaves: nothing stands, and nothing older may come back."""
    return seq.to_bytes(SEQ_BYTES, "big")


def seq_of(raw: bytes) -> int:
    """The `seq` a written state stands for."""
    return int.from_bytes(raw[:SEQ_BYTES], "big")


def _mask(reasons: Any) -> int:
    mask = 0
    for reason in reasons:
        mask |= 1 << reason
    return mask


def _preference(preference: Preference) -> list[Any]:
    start, end = preference.hours or (0, 0)
    return [preference.topics or None, preference.max_per_week, start, end]
