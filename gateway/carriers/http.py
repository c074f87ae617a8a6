"""The generic HTTP carrier: POST {messages:[{ref,to,from,text}]}, answered 200 {results:[{ref,carrier_id,code}]}.

What a failure means depends on one fact, whether a byte of the request left this process, and that fact is observed (a
trace hook on the connection), not guessed from the exception. Nothing written: `Retry` or `Unwritten`. Written, and no
answer that can be read: `Doubtful`, for the carrier may have taken it. An answer that says it was not taken: by table.
Concurrency is bounded before the connection pool, whose own queue is slow and knows no fence. On a crash requests in
flight are lost with their answers; their messages are doubtful to whoever takes over.

With a query address it can be asked about them: POST {refs:[…]}, read by `query`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import orjson

from gateway.carriers.carrier import (
    Doubtful,
    Known,
    QueryFailed,
    Rejected,
    Retry,
    Submit,
    Submitted,
    Taken,
    Unwritten,
)
from gateway.carriers.query import read_answers
from gateway.carriers.receipts import RETRYABLE, fold_id, known_cause
from gateway.contract.decision import Cause
from gateway.telemetry import logger

BATCH = 100
ANSWER_AT_MOST = 1 << 20
RETRY_AFTER_AT_MOST_S = 3600.0
KEEP_ALIVE_S = 3.0
"""Shorter than a common server keeps an idle connection (5 s): a request that crosses its end stays in doubt."""
QUERY_WITHIN_S = 10.0

_OK = 200
_REFUSED = frozenset({400, 413, 422})
"""The request itself is at fault, so one message in it may be: halve until it stands alone."""
_LATER = frozenset({429, 503})
_FIRST_BYTE = "http11.send_request_headers.started"

_log = logger("carriers")


class _Late(Exception):  # noqa: N818 - not an error
    """The fence has passed before the first byte."""


class _Answer(NamedTuple):
    status: int
    after_s: float | None
    body: bytes


class _Wire:
    """Watches one request: notes its first byte, and stops it when the fence has passed."""

    __slots__ = ("_write_by", "written")

    def __init__(self, write_by: float | None) -> None:
        self._write_by = write_by
        self.written = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == _FIRST_BYTE:
            if self._write_by is not None and time.monotonic() > self._write_by:
                raise _Late
            self.written = True


class HttpCarrier:
    """`window` is the most requests at once; `answer_within_s` bounds one from start to whole answer.

    `query_url`: where it may be asked; `query_final`: whether its NOTFOUND means that it never took the message.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        name: str = "http",
        window: int = 32,
        connect_within_s: float = 2.0,
        answer_within_s: float = 30.0,
        query_url: str | None = None,
        query_final: bool = False,
    ) -> None:
        self._url, self._query_url, self._query_final = url, query_url, query_final
        self._name = name
        self._window = asyncio.Semaphore(window)
        self._answer_within_s = answer_within_s
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(answer_within_s, connect=connect_within_s),
            limits=httpx.Limits(
                max_connections=window + 1, max_keepalive_connections=window, keepalive_expiry=KEEP_ALIVE_S
            ),
            trust_env=False,
            follow_redirects=False,
        )

    @property
    def name(self) -> str:
        """The name in routes, results, receipts and metrics."""
        return self._name

    async def submit(self, messages: Sequence[Submit], *, write_by: float | None = None) -> list[Submitted]:
        """Submit in requests of at most 100, in order of `messages`."""
        chunks = [messages[at : at + BATCH] for at in range(0, len(messages), BATCH)]
        answers = await asyncio.gather(*(self._post(chunk, write_by) for chunk in chunks))
        return [answer for chunk in answers for answer in chunk]

    @property
    def can_query(self) -> bool:
        """Whether a query address was given."""
        return self._query_url is not None

    async def query(self, refs: Sequence[str]) -> list[Known]:
        """Ask in requests of at most 100, one after the other, outside the window of submits."""
        known: list[Known] = []
        for at in range(0, len(refs), BATCH):
            part = refs[at : at + BATCH]
            known += read_answers(part, await self._ask(part), self._name, final=self._query_final)
        return known

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, refs: Sequence[str]) -> bytes:
        """One query's body; raises QueryFailed. A query may be repeated, so nothing of it is in doubt."""
        if self._query_url is None:
            raise QueryFailed("query.none")
        body = orjson.dumps({"refs": list(refs)})
        try:
            async with (
                asyncio.timeout(QUERY_WITHIN_S),
                self._client.stream("POST", self._query_url, content=body) as response,
            ):
                after_s = read_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
                read = await _bounded(response)
                if response.status_code != _OK:
                    raise QueryFailed(f"http {response.status_code}", after_s)
                if read is None:
                    raise QueryFailed("answer.too_large")
                return read
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as fault:
            raise QueryFailed(type(fault).__name__) from None

    async def _post(self, messages: Sequence[Submit], write_by: float | None) -> list[Submitted]:
        async with self._window:
            answered = await self._exchange(messages, write_by)
        if not isinstance(answered, _Answer):
            return [answered] * len(messages)
        status, after_s, body = answered
        if status == _OK:
            return read_results(messages, body, self._name)
        if status in _REFUSED and len(messages) > 1:
            middle = len(messages) // 2
            first = await self._post(messages[:middle], write_by)
            return first + await self._post(messages[middle:], write_by)
        _log.warning("carrier_refused_request", carrier=self._name, status=status, messages=len(messages))
        return [read_status(status, after_s)] * len(messages)

    async def _exchange(self, messages: Sequence[Submit], write_by: float | None) -> _Answer | Submitted:
        """One request: its answer, or what its failure means for all of its messages."""
        wire = _Wire(write_by)
        body = orjson.dumps(
            {"messages": [{"ref": m.ref, "to": m.to, "from": m.sender_port, "text": m.text} for m in messages]}
        )
        try:
            async with (
                asyncio.timeout(self._answer_within_s),
                self._client.stream("POST", self._url, content=body, extensions={"trace": wire.trace}) as response,
            ):
                read = await _bounded(response)
                if read is None:
                    return self._lost("answer.too_large")
                after_s = read_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
                return _Answer(response.status_code, after_s, read)
        except _Late:
            return Unwritten()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as fault:
            if not wire.written:
                _log.warning("carrier_unreachable", carrier=self._name, error=type(fault).__name__)
                return Retry("connect.failed", Cause.FLOW)
            timed_out = isinstance(fault, httpx.TimeoutException | TimeoutError)
            return self._lost("answer.timeout" if timed_out else "answer.cut")

    def _lost(self, why: str) -> Doubtful:
        _log.warning("carrier_answer_lost", carrier=self._name, why=why)
        return Doubtful(why)


async def _bounded(response: httpx.Response) -> bytes | None:
    """The body; None where it is larger than an answer may be."""
    read = bytearray()
    async for part in response.aiter_raw():
        read += part
        if len(read) > ANSWER_AT_MOST:
            return None
    return bytes(read)


def read_status(status: int, after_s: float | None) -> Submitted:
    """What an answer other than 200 means for every message of its request (RFC 9110 §15).

    429, and 503 with Retry-After, say that nothing was taken. 400, 413, 422: the message itself is refused. Other 3xx
    and 4xx (address, key, method): not taken, and an operator can mend it. The rest may hide a carrier that took it.
    """
    code = f"http {status}"
    if status in _REFUSED:
        return Rejected(code, Cause.OTHER)
    if 300 <= status < 500 or (status in _LATER and after_s is not None):  # noqa: PLR2004 - 3xx and 4xx
        return Retry(code, Cause.FLOW, after_s)
    return Doubtful(code)


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After (a number or a date), within an hour; None where it cannot be read."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_AT_MOST_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), RETRY_AFTER_AT_MOST_S)


def read_results(messages: Sequence[Submit], body: bytes, connector: str) -> list[Submitted]:
    """One answer a message, by `ref`. What is missing, contradicted or not understood is doubtful, item by item."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [Doubtful("answer.malformed")] * len(messages)
    items = document.get("results") if isinstance(document, dict) else None
    if not isinstance(items, list):
        return [Doubtful("answer.malformed")] * len(messages)
    by_ref: dict[str, Submitted] = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(ref := item.get("ref"), str):
            continue
        answer = read_item(item, connector)
        if by_ref.setdefault(ref, answer) != answer:
            by_ref[ref] = Doubtful("answer.contradicted")
    return [by_ref.get(message.ref, Doubtful("answer.missing")) for message in messages]


def read_item(item: Mapping[str, Any], connector: str) -> Submitted:
    """One item of the answer: code `0` is taken; other codes by the tables; numbers are read as their digits."""
    code, carrier_id = (_word(item.get(field)) for field in ("code", "carrier_id"))
    if code is None:
        return Doubtful("answer.malformed")
    if code.strip("0") == "":
        return Taken(fold_id(carrier_id)) if carrier_id else Doubtful("answer.no_id")
    cause = known_cause(connector, code.upper()) or Cause.OTHER
    if cause in RETRYABLE:
        return Retry(code, cause)
    return Rejected(code, Cause.OTHER if cause is Cause.NONE else cause)


def _word(value: object) -> str | None:
    """A short string, or an integer's digits; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value and len(value) <= 128:  # noqa: PLR2004 - as long as an id may be
        return value
    return None
