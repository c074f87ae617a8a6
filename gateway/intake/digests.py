"""Keyed names of what must be recognised again and never read: a person's used request, a text, a key and its body.

Pure. Everything is under the pepper, so that neither Redis nor Kafka holds anything that could be guessed back.
"""

import hashlib
import hmac

from gateway.contract.message import SendRequest
from gateway.guard import Binding
from gateway.intake.prepare import Route

_KEY = {"idempotency_key"}


def binding(pepper: bytes, client: str, request: SendRequest, message_id: str) -> Binding:
    """What ties a client's idempotency key to this message; the body without the key is its fingerprint."""
    key = f"{client}\0{request.idempotency_key}".encode()
    # the bytes of `model_dump_json`, for half of its price
    body = request.__pydantic_serializer__.to_json(request, exclude=_KEY, exclude_none=True)
    return Binding(
        digest=hmac.digest(pepper, b"key\0" + key, hashlib.sha256)[:16],
        id=message_id,
        fingerprint=hmac.digest(pepper, b"body\0" + body, hashlib.sha256)[:16],
    )


def used_digest(pepper: bytes, subject: bytes, route: Route, ref: str) -> bytes:
    """The name under which a person's request is remembered as used."""
    return request_digest(pepper, subject, route.sender.id, route.purpose.name, ref)


def request_digest(pepper: bytes, subject: bytes, sender: str, purpose: str, ref: str) -> bytes:
    """`used_digest` by names; its first byte keeps it in the person's lane."""
    name = f"{sender}\0{purpose}\0{ref}".encode()
    return subject[:1] + hmac.digest(pepper, b"ref\0" + subject + name, hashlib.sha256)[:15]


def text_hash(pepper: bytes, text: str) -> bytes:
    """8 bytes that tell equal texts (signature included) from others, and nothing else."""
    return hashlib.blake2b(text.encode(), key=pepper[:32], digest_size=8).digest()
