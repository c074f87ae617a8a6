"""Asks a time-stamping authority (RFC 3161) when a checkpoint was there: the one statement about time that is not ours.

The reply is kept as it came (`.tsr`): `openssl ts -verify` and any other tool can check it with the authority's
certificate. What is checked here is that it was granted, is over our bytes (SHA-256) and answers our own nonce.
"""

import asyncio

import httpx
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

LARGEST_REPLY = 1 << 16
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"


class TimestampError(Exception):
    """No timestamp, or none that holds; the text says why."""


class Timestamps:
    """An authority by its address; used by one loop."""

    def __init__(self, url: str, *, answer_within_s: float = 10.0) -> None:
        self._url, self._within_s = url, answer_within_s
        self._client = httpx.AsyncClient(timeout=answer_within_s, trust_env=False, follow_redirects=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def stamp(self, message: bytes) -> bytes:
        """The authority's reply over these bytes. Raises TimestampError."""
        asked = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
        try:
            async with asyncio.timeout(self._within_s):
                answer = await self._client.post(
                    self._url, content=asked.as_bytes(), headers={"content-type": QUERY, "accept": REPLY}
                )
        except (TimeoutError, httpx.HTTPError) as error:
            raise TimestampError(f"the authority cannot be reached: {type(error).__name__}") from error
        if answer.status_code != httpx.codes.OK or len(answer.content) > LARGEST_REPLY:
            raise TimestampError(f"the authority answered {answer.status_code}")
        reply = _decoded(answer.content)
        if PKIStatus(reply.status) not in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS):
            raise TimestampError("the authority did not grant the timestamp")
        if (
            reply.tst_info.message_imprint.message != asked.message_imprint.message
            or reply.tst_info.nonce != asked.nonce
        ):
            raise TimestampError("the reply is over other bytes, or to another request")
        return answer.content


def stamped_at_ms(reply: bytes) -> int:
    """What time the authority states, Unix milliseconds; not verified. Raises TimestampError."""
    return int(_decoded(reply).tst_info.gen_time.timestamp() * 1000)


def verify_timestamp(reply: bytes, message: bytes, certificate: bytes) -> None:
    """Check a reply over these bytes with the authority's root certificate (PEM). Raises TimestampError."""
    try:
        root = x509.load_pem_x509_certificate(certificate)
        VerifierBuilder().add_root_certificate(root).build().verify_message(_decoded(reply), message)
    except (VerificationError, ValueError) as error:
        raise TimestampError("the timestamp does not verify") from error


def _decoded(raw: bytes) -> TimeStampResponse:
    try:
        return decode_timestamp_response(raw)
    except ValueError as error:
        raise TimestampError("the reply cannot be read") from error
