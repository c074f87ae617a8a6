"""The bench's recipients and messages: who may be written to, and request bodies that meet no window by chance.

Recipients come in two groups. *Consenting*: one marketing consent each, as many as the memory figure asks for; nobody
writes to them. *Ordering*: an order relationship each; message k goes to the k-th of them, round after round, with a
text of its own. Ten rounds fill the transactional window (10 in 24 h).
Bench only: states are put straight into PostgreSQL by COPY, without events, so the ledger proves nothing about them.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice

import asyncpg

from gateway.contract.consent import Consent, Relationship, State
from gateway.contract.ids import subject_of
from gateway.contract.registry import Client
from gateway.ledger.rows import STATED, stated
from gateway.records import registry
from loadtests.generator import post

KEY = "bench-key"
FIRST = 13_800_000_000
ROUNDS = 10
PAGE = 50_000
TABLE = "subject_states"
BODY = '{"to":"+86%d","sender":"acme","purpose":"transaction.shipping","text":"您的订单 %d 已发货。"'.encode()
"""Open at its end, for a key."""

Tell = Callable[[int, int], None]
Row = tuple[bytes, int, int, bytes, int, bytes]
"""As `ledger.rows.stated` makes it."""


def consenting(count: int) -> Iterator[Row]:
    """Rows of people with one consent each; their subjects are random, as HMACs are."""
    draw, now = random.Random(1), int(time.time())
    for seq in range(1, count + 1):
        subject = draw.randbytes(16)
        state = State(seq=seq, consents={"acme/marketing": Consent(at=now, entry=seq)})
        yield stated(subject, state)


def ordering(pepper: bytes, count: int, after_seq: int) -> Iterator[Row]:
    """Rows of people with an order each."""
    now = int(time.time())
    for at in range(count):
        seq = after_seq + at + 1
        subject = subject_of(pepper, number(at))
        state = State(
            seq=seq, relationships={"acme/order": Relationship(at=now, expires=now + 180 * 86_400, entry=seq)}
        )
        yield stated(subject, state)


def number(at: int) -> str:
    """The E.164 number of an ordering recipient."""
    return f"+86{FIRST + at}"


EVENTS = """
INSERT INTO consent_events (seq, event_id, at, subject, kind, version, tag, commitment)
SELECT n, n::text, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 millisecond', NULL, 'grant', 1,
    substring(sha256(('t' || n)::bytea) FOR 16), sha256(('c' || n)::bytea)
FROM generate_series($1::bigint, $2::bigint) AS n
"""
"""Events that nobody can read: to the log, and to whoever counts them, an event is nothing else."""


async def put(
    connection: "asyncpg.Connection[asyncpg.Record]",
    rows: Iterator[Row],
    total: int,
    tell: Tell,
) -> None:
    """COPY rows in pages, then events up to their last `seq`: the log is signed over each."""
    done = last = 0
    while page := list(islice(rows, PAGE)):
        await connection.copy_records_to_table(TABLE, records=page, columns=STATED, timeout=60)
        done, last = done + len(page), page[-1][1]
        tell(done, total)
    async with connection.transaction():
        head = await connection.fetchval("SELECT seq FROM ledger_head FOR UPDATE")
        await connection.execute(EVENTS, head + 1, last, timeout=600)
        await connection.execute("UPDATE ledger_head SET seq = $1, at = clock_timestamp() WHERE seq < $1", last)


async def put_client(connection: "asyncpg.Connection[asyncpg.Record]", pepper: bytes) -> None:
    """A client whose quota nobody reaches."""
    await registry.put_client(
        connection,
        Client(
            id="bench",
            key_digests=(registry.key_digest(pepper, KEY),),
            senders=("*",),
            quota_per_minute=2_000_000_000,
        ),
    )


class Messages:
    """Request bytes without end, or rather until the recipients' windows would be full."""

    def __init__(self, people: int) -> None:
        self._people = people
        self.made = 0

    @property
    def left(self) -> int:
        """How many more may be made."""
        return self._people * ROUNDS - self.made

    def _message(self) -> bytes:
        at = self.made
        if at >= self._people * ROUNDS:
            raise RuntimeError("the bench's recipients have all had their messages of the day: seed more of them")
        self.made = at + 1
        return BODY % (FIRST + at % self._people, at)

    def single(self, *, keyed: bool) -> Iterator[bytes]:
        """POST /v1/messages, with an idempotency key of its own or without one."""
        while True:
            body = self._message()
            tail = b',"idempotency_key":"bench-%d"}' % self.made if keyed else b"}"
            yield post("/v1/messages", body + tail, KEY)

    def batches(self, size: int = 500) -> Iterator[bytes]:
        """POST /v1/messages/batch."""
        while True:
            items = b"},".join(self._message() for _ in range(size))
            yield post("/v1/messages/batch", b'{"messages":[' + items + b"}]}", KEY)
