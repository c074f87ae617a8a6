"""What webhooks keep in PostgreSQL, sealed and opened: addresses, bodies, secrets. Each opens only as what it is.

A body can be moved to no other notice, a secret to no other client, and an address to no other name: what each is bound
to is given again when it is opened. Opening raises KeyMismatchError.
"""

from uuid import UUID

from gateway.contract.webhook import Told, body_of
from gateway.ledger.keys import Keys


def seal_address(keys: Keys, name: bytes, url: str) -> bytes:
    """An address, which may hold a secret of the receiver's."""
    return keys.seal_webhook(url.encode(), b" address" + name)


def open_address(keys: Keys, name: bytes, sealed: bytes) -> str:
    """The address of this name."""
    return keys.open_webhook(sealed, b" address" + name).decode()


def seal_body(keys: Keys, notice: UUID, told: Told) -> bytes:
    """The exact bytes to be sent, which may hold a person's words."""
    return keys.seal_webhook(body_of(told), b" body" + notice.bytes)


def open_body(keys: Keys, notice: UUID, sealed: bytes) -> bytes:
    """The bytes of this notice."""
    return keys.open_webhook(sealed, b" body" + notice.bytes)


def seal_secret(keys: Keys, client: str, secret: str) -> bytes:
    """A client's signing secret, `whsec_…`."""
    return keys.seal_webhook(secret.encode(), b" secret" + client.encode())


def open_secret(keys: Keys, client: str, sealed: bytes) -> str:
    """The secret of this client."""
    return keys.open_webhook(sealed, b" secret" + client.encode()).decode()


def notice_id(keys: Keys, *what: str) -> UUID:
    """A notice's id, made of what it tells and to whom: of the form of a UUIDv8 (RFC 9562 §5.8)."""
    number = int.from_bytes(keys.webhook_name("id", *what), "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
