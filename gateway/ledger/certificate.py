"""The certificate a demand for erasure is answered with: what was erased, what is kept, under which law, until when.

One JSON object of strings, integers, lists and null, signed with Ed25519 (RFC 8032) over its canonical bytes (RFC
8785, `events.canonical`): whoever has the object and the key checks it with any implementation of both. It names the
person by their subject and the ledger's entry by its `seq`; no number is in it. Pure but for the key.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.ledger.erasing import Done
from gateway.ledger.events import canonical
from gateway.ledger.keys import Keys
from gateway.rules.retention import Kept, due_ms

SCHEMA: Final = "assent certificate 1"

PERMISSIONS: Final = {
    "what": "permissions",
    "title": "Every consent, relationship and preference: nothing may be sent on them any more",
    "title_zh": "全部同意、关系与偏好（不再据此发送）",
}
RECORDS: Final = {
    "what": "records",
    "title": "The number and every record; the key that opened them is destroyed",
    "title_zh": "号码与全部记录（解密密钥已销毁，无法恢复）",
}
REPLIES: Final = {
    "what": "replies",
    "title": "What was noted about messages received from the number, and the words of its complaints",
    "title_zh": "关于该号码上行短信的记录及其投诉内容",
}
WHY: Final[Mapping[str, tuple[str, str]]] = {
    "consent_records": (
        "The law asks for them until this day after the consent or relationship ended. Stored only, used for nothing.",
        "法律要求在同意或关系终止后保存至该日；期间仅存储，不作他用。",
    ),
    "send_records": (
        "The law asks for them until this day after the last message, with its number and consent. Stored only.",
        "法律要求在最后一次收发后保存至该日，包括相应号码与订阅情况；期间仅存储，不作他用。",
    ),
    "refusals": (
        "Without it the same number could be imported and messaged again.",
        "如不保留，同一号码可能被再次导入并收到短信。",
    ),
}


class Signed(NamedTuple):
    """A certificate, its signature (64 bytes) and the key that checks it (32 bytes), both in hex."""

    certificate: dict[str, Any]
    signature: str
    key: str


def certify(keys: Keys, done: Done) -> Signed:
    """The signed certificate of what a demand came to."""
    erased = [PERMISSIONS] if done.status == "restricted" else [PERMISSIONS, RECORDS, REPLIES]
    due = due_ms(done.kept)
    stated = {
        "schema_version": SCHEMA,
        "status": done.status,
        "subject": done.subject.hex(),
        "seq": done.seq,
        "event_id": done.event_id,
        "at": written(done.at_ms),
        "erased": [dict(one) for one in erased],
        "kept": [_kept(one) for one in done.kept],
        "erasure_due": None if due is None else written(due),
    }
    return Signed(stated, keys.sign_record(canonical(stated)).hex(), keys.record_verify_key().hex())


def holds(certificate: Mapping[str, Any], signature: str, key: str) -> bool:
    """Whether the key signed exactly this certificate. `signature` and `key` in hex."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), canonical(certificate))
    except (InvalidSignature, ValueError):
        return False
    return True


def written(at_ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kept(kept: Kept) -> dict[str, Any]:
    rule = kept.rule
    why, why_zh = WHY[rule.what]
    return {
        "what": rule.what,
        "title": rule.title,
        "title_zh": rule.title_zh,
        "law": rule.source.title,
        "law_zh": rule.source.title_zh,
        "since": None if kept.since_ms is None else written(kept.since_ms),
        "until": None if kept.until_ms is None else written(kept.until_ms),
        "why": why,
        "why_zh": why_zh,
    }
