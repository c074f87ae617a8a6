"""One call of a client's address over HTTP, to an IP address that was looked at first.

Owns connections and the resolver's threads. Promises: a name is resolved here, right before connecting; every address
it has must be one we call (`rules.reach`), else nothing is connected to; the connection goes to one of exactly these
addresses (no second look-up that could answer otherwise), with the receiver's own name in `Host`, in SNI and in the
check of its certificate. Redirects are not followed, no proxy and no .netrc is used, and a call ends within
`DEADLINE_S` from the look-up to the end of the answer, of which 64 KiB are read and nothing is believed but its status
and Retry-After. A hanging look-up holds one thread a name, however many wait for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address

import httpx

from gateway import __version__
from gateway.rules.reach import Place, Reach, allowed, fault, place
from gateway.settle.webhooks.schedule import Outcome, read

DEADLINE_S = 10.0
CONNECT_S = 5.0
MOST_READ = 64 * 1024
THREADS = 64
FORBIDDEN = Outcome("forbidden")
HEADERS = {
    "content-type": "application/json",
    "user-agent": f"assent/{__version__}",
    "accept-encoding": "identity",
}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to every IP address it has, best first. Raises OSError."""


class Resolver:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Ask; whoever asks for the same name meanwhile gets the same answer. Nothing is remembered after it."""
        key = (host, port)
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._asked[key] = asked
            asked.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(asked)

    def close(self) -> None:
        """Let the threads go; one that hangs ends with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen by whoever waited; by nobody, where they had to go


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Wire:
    """Calls addresses."""

    def __init__(
        self, reach: Reach, *, resolve: Resolve, trust: ssl.SSLContext | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        """`trust`: whose certificates are believed; none: those of the system or of SSL_CERT_FILE, else certifi's."""
        self._reach, self._resolve, self._deadline_s = reach, resolve, deadline_s
        self._trust = trust or httpx.create_ssl_context()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, attempt: int = 1) -> Outcome:
        """Send one body. `attempt` chooses among a name's addresses, so that the next try asks another."""
        try:
            async with asyncio.timeout(self._deadline_s):
                found = place(url)
                if found is None or fault(url, self._reach) is not None:
                    return FORBIDDEN
                addresses = await self._resolve(found.host, found.port)
                if not addresses or not all(allowed(ip_address(one), self._reach) for one in addresses):
                    return FORBIDDEN
                return await self._exchange(found, addresses[(attempt - 1) % len(addresses)], headers, body)
        except (TimeoutError, httpx.TimeoutException):
            return Outcome("timeout")
        except (httpx.HTTPError, OSError, ValueError) as wrong:
            return Outcome("unreachable", type(wrong).__name__)

    async def _exchange(self, to: Place, address: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        request = httpx.Request(
            "POST",
            httpx.URL(scheme=to.scheme, host=address, port=to.port, raw_path=to.target.encode("ascii")),
            headers={**HEADERS, **headers, "host": to.authority()},
            content=body,
            extensions={
                "sni_hostname": to.host,
                "timeout": httpx.Timeout(self._deadline_s, connect=CONNECT_S).as_dict(),
            },
        )
        async with (
            httpx.AsyncHTTPTransport(verify=self._trust, trust_env=False) as transport,
            aclosing(await transport.handle_async_request(request)) as response,
        ):
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > MOST_READ:
                    break
            after_s = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
            return read(response.status_code, after_s)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After, a number or a date (RFC 9110 §10.2.3); none where it cannot be read."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds(), 0.0)
