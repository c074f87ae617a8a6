"""The signature of a webhook, as Standard Webhooks 1.0 says, by the library that its authors publish.

Pure but for the keys. Receivers verify `webhook-id`, `webhook-timestamp` (Unix seconds of this try) and the exact body
under their `whsec_…`; while a rotation lasts there are two signatures, and one that fits is enough.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from standardwebhooks import Webhook

from gateway.ledger.keys import Keys
from gateway.records.webhooks import Due
from gateway.settle.seals import open_secret

ROTATION_MS = 24 * 3_600_000
"""How long a former secret signs too."""


def headers(notice: UUID, body: bytes, secrets: Sequence[str], now_ms: int) -> dict[str, str]:
    """The three headers; `secrets`: the new one first."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC)
    name, text = str(notice), body.decode()
    return {
        "webhook-id": name,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(Webhook(secret).sign(name, at, text) for secret in secrets),
    }


def secrets_of(keys: Keys, due: Due, now_ms: int) -> list[str]:
    """What signs now: nothing where the client has no secret. Raises KeyMismatchError."""
    if due.secret is None:
        return []
    found = [open_secret(keys, due.client, due.secret)]
    if due.former is not None and due.former_until is not None and now_ms < due.former_until:
        found.append(open_secret(keys, due.client, due.former))
    return found
