"""GET /v1/purposes: what a client's developer reads first, drawn from the pack alone.

Pure. Everything shown is what is enforced: the same objects, written out.
"""

from typing import Any

from gateway.rules.pack import Pack, Purpose, Source, WindowRule
from gateway.rules.plan import window_name


def describe(pack: Pack) -> dict[str, Any]:
    """The pack as a JSON document: its notice, what holds for every text, and one entry for each purpose."""
    table = pack.table
    return {
        "pack": pack.version,
        "title": table.title,
        "title_zh": table.title_zh,
        "notice": pack.notice,
        "notice_zh": pack.notice_zh,
        "hours": {**_hours(pack), "source": _source(pack.source(table.hours.source))},
        "signature": {
            "form": f"{table.signature.open}…{table.signature.close}",
            "min": table.signature.min,
            "max": table.signature.max,
            "source": _source(pack.source(table.signature.source)),
        },
        "length": {"max": table.length.max, "source": _source(pack.source(table.length.source))},
        "refusal_text": {
            "added": pack.refusal_text,
            "accepted": list(table.refusal_text.accepted),
            "source": _source(pack.source(table.refusal_text.source)),
        },
        "refusal_words": list(table.refusal_words.words),
        "affirmative_words": list(table.affirmative_words.words),
        "keep_words": list(table.keep_words.words),
        "help_words": list(table.help_words.words),
        "reply_route": {
            "tested_within_s": pack.route_tested_ms // 1000,
            "source": _source(pack.source(table.reply_route.source)),
        },
        "relationships": [
            {
                "kind": kind.value,
                "title": row.title,
                "title_zh": row.title_zh,
                "life": row.life,
                "source": _source(pack.source(row.source)),
            }
            for kind, row in table.kinds.items()
        ],
        "purposes": [_purpose(purpose, pack) for purpose in pack.purposes.values()],
    }


def _purpose(purpose: Purpose, pack: Pack) -> dict[str, Any]:
    return {
        "purpose": purpose.name,
        "class": purpose.cls.value,
        "title": purpose.title,
        "title_zh": purpose.title_zh,
        "basis": purpose.basis.value,
        "relationships": [kind.value for kind in purpose.kinds],
        "consent_topics": list(purpose.topics),
        "request": {"valid_s": purpose.request_life_s, "single_use": True} if purpose.single_use else None,
        "refusal_text": purpose.refusal_text,
        "promotional_words": "allowed" if purpose.promotional else "refused",
        "hours": _hours(pack) if purpose.quiet else None,
        "windows": [_window(rule, purpose, pack) for rule in purpose.windows],
        "same_text_s": purpose.same_text_ms // 1000 or None,
        "port": purpose.port_use,
        "refused": purpose.refused,
        "asks": _asks(purpose),
        "example": purpose.example,
        "source": _source(purpose.source),
    }


def _asks(purpose: Purpose) -> dict[str, Any] | None:
    """What an exact yes in answer to it is consent to; none where it is no question."""
    asks = purpose.asks
    if asks is None:
        return None
    within_s = asks.within_ms // 1000
    return {
        "topics": list(asks.topics),
        "max_per_week": asks.max_per_week,
        "valid_s": asks.valid_s,
        "within_s": within_s,
    }


def _hours(pack: Pack) -> dict[str, str]:
    return {"start": pack.table.hours.start, "end": pack.table.hours.end, "zone": pack.zone_name}


_COUNTED = {
    "purpose": "recipient, sender and purpose",
    "sender": "recipient and sender",
    "all": "recipient, over all senders",
}


def _window(rule: WindowRule, purpose: Purpose, pack: Pack) -> dict[str, Any]:
    shared = pack.table.windows[rule.shared] if rule.shared else None
    return {
        "name": window_name(rule, purpose),
        "limit": rule.limit,
        "period_s": rule.period_ms // 1000,
        "calendar": rule.calendar,
        "counted_per": _COUNTED[rule.scope],
        "shared": {"name": rule.shared, "title": shared.title, "title_zh": shared.title_zh} if shared else None,
        "source": _source(rule.source),
    }


def _source(source: Source) -> dict[str, str]:
    return {"kind": source.kind, "title": source.title, "title_zh": source.title_zh}
