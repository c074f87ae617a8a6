"""Asks a time-stamping authority (RFC 3161) when a checkpoint was there: the one statement about time that is not ours.

The reply is kept as it came (`.tsr`): `openssl ts -verify` and any other tool can check it with the authority's
certificate. What is checked here is that it was granted, is over our bytes (SHA-256) and answers our own nonce.
"""

import asyncio
import hashlib
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimeStampRequest,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

LARGEST_REPLY = 1 << 16
_TIME = rb"\x02[\x01-\x15].{1,21}?\x18[\x0f-\x13](\d{14})(?:\.\d{1,3})?Z"
"""What follows the digest in a TSTInfo (RFC 3161 2.4.2): the serial number, then the time (GeneralizedTime)."""
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
        _check(answer.content, asked)
        return answer.content


def stamped_at_ms(reply: bytes, message: bytes) -> int:
    """What time the authority states of these bytes, Unix milliseconds. Raises TimestampError.

    Good only of a reply that `verify_timestamp` has taken. Where the library cannot read it, a reply that has the
    digest and a time more than once is refused: what surrounds the token (a status in words) is signed by nobody.
    """
    read = _decoded(reply)
    if read is not None:
        return int(read.tst_info.gen_time.timestamp() * 1000)
    stated = re.findall(re.escape(hashlib.sha256(message).digest()) + _TIME, reply, re.DOTALL)
    if len(stated) != 1:
        raise TimestampError("the reply states no time, or more than one")
    try:
        at = datetime.strptime(stated[0].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise TimestampError("the reply states no time") from None
    return int(at.timestamp() * 1000)


def verify_timestamp(reply: bytes, message: bytes, certificate: bytes) -> None:
    """Check a reply over these bytes with the authority's root certificate (PEM). Raises TimestampError."""
    read = _decoded(reply)
    if read is None:
        _verify_with_openssl(reply, message, certificate)
        return
    try:
        root = x509.load_pem_x509_certificate(certificate)
        VerifierBuilder().add_root_certificate(root).build().verify_message(read, message)
    except (VerificationError, ValueError) as error:
        raise TimestampError("the timestamp does not verify") from error


def _check(raw: bytes, asked: TimeStampRequest) -> None:
    """A reply that the library cannot read must at least hold our digest and our nonce; it is verified by OpenSSL."""
    read = _decoded(raw)
    digest, nonce = asked.message_imprint.message, asked.nonce
    if read is None:
        if digest not in raw or nonce is None or nonce.to_bytes((nonce.bit_length() + 7) // 8, "big") not in raw:
            raise TimestampError("the reply cannot be read")
        return
    if PKIStatus(read.status) not in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS):
        raise TimestampError("the authority did not grant the timestamp")
    if (read.tst_info.message_imprint.message, read.tst_info.nonce) != (digest, nonce):
        raise TimestampError("the reply is over other bytes, or to another request")


def _verify_with_openssl(reply: bytes, message: bytes, certificate: bytes) -> None:
    """OpenSSL reads what authorities send in practice, such as two certificates in no order."""
    program = shutil.which("openssl")
    if program is None:
        raise TimestampError("this timestamp needs the program openssl to be verified")
    with tempfile.TemporaryDirectory() as folder:
        files = {"-in": reply, "-data": message, "-CAfile": certificate}
        words = [program, "ts", "-verify"]
        for n, (option, content) in enumerate(files.items()):
            file = Path(folder, str(n))
            file.write_bytes(content)
            words += [option, str(file)]
        try:
            done = subprocess.run(words, capture_output=True, timeout=20, check=False)  # noqa: S603 - our own words
        except (OSError, subprocess.TimeoutExpired):
            raise TimestampError("the program openssl does not answer") from None
    if done.returncode:
        raise TimestampError("the timestamp does not verify")


def _decoded(raw: bytes) -> TimeStampResponse | None:
    """The reply; none where the library does not read what may be one all the same."""
    try:
        return decode_timestamp_response(raw)
    except ValueError:
        return None
