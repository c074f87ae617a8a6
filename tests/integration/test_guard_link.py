"""The one connection many callers share: lost for good when it is lost, over TLS too, with what its address says."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.exceptions import RedisError

from gateway.guard.link import LinkLost, address, open_link

pytestmark = pytest.mark.integration


async def test_a_lost_link_stays_lost(redis_url: str) -> None:
    link, other = await open_link(address(redis_url)), await open_link(address(redis_url))
    number = await link.call(("CLIENT", "ID"))
    waiting = [asyncio.ensure_future(link.call(("BLPOP", "nothing", 5))) for _ in range(3)]
    await asyncio.sleep(0)
    assert await other.call(("CLIENT", "KILL", "ID", number)) == 1
    assert {type(fault) for fault in await asyncio.gather(*waiting, return_exceptions=True)} == {LinkLost}
    assert link.lost
    for dropped in (link, other):
        dropped.drop()
        with pytest.raises(LinkLost):
            await dropped.call(("PING",))  # redis-py's connection would open itself again
        await dropped.close()


async def test_replies_are_those_of_the_calls_large_and_small(redis_url: str) -> None:
    link = await open_link(address(redis_url))
    texts = [b"x" * (n * 4999 % 300_000) for n in range(100)]  # larger than the buffers, so that writing waits too
    assert await asyncio.gather(*(link.call(("ECHO", text)) for text in texts)) == texts
    assert await link.call(("SET", "k", 1), ("INCR", "k"), ("GET", "k")) == b"2"
    await link.close()


async def test_an_address_names_the_client_and_the_database(redis_url: str) -> None:
    link = await open_link(address(f"{redis_url.rpartition('/')[0]}/15?client_name=assent"))
    said = await link.call(("CLIENT", "INFO"))
    assert b" name=assent " in said
    assert b" db=15 " in said
    await link.close()
    with pytest.raises(ValueError, match="scheme"):
        address("http://127.0.0.1")


# --- TLS -----------------------------------------------------------------------------------------------------------


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "tls.pem"
    file.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def tls_before(url: str, pem: Path) -> AsyncIterator[int]:
    """A port where TLS ends in front of a server that speaks none."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        await asyncio.gather(copy(reader, beyond[1]), copy(beyond[0], writer), return_exceptions=True)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_tls_is_checked_against_the_named_authority(redis_url: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    async with tls_before(redis_url, pem) as port:
        link = await open_link(address(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={pem}"))
        assert await asyncio.gather(*(link.call(("ECHO", str(n))) for n in range(20))) == [b"%d" % n for n in range(20)]
        await link.close()
        with pytest.raises(RedisError, match="CERTIFICATE_VERIFY_FAILED"):
            await open_link(address(f"rediss://127.0.0.1:{port}/0"))


class Ended:
    """A writer whose transport ended: what uvloop says to whoever writes before the reader has heard of it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def writelines(self, _pieces: list[bytes]) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


async def test_a_transport_that_ended_unnoticed_is_an_outage(redis_url: str) -> None:
    link = await open_link(address(redis_url))
    assert await link.call(("PING",)) == b"PONG"
    link._connection._writer = Ended(link._connection._writer)
    with pytest.raises(LinkLost):
        await link.call(("PING",))
    assert link.lost
