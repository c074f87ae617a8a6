"""What permissions cost in Redis: bytes a recipient, recipients a second of a rebuild, server CPU of an admission."""

import hashlib
import secrets
import time
from dataclasses import dataclass

import asyncpg

from gateway.contract.ids import lane_of, new_id
from gateway.contract.registry import Sender
from gateway.guard import Ask, Binding, Guard
from gateway.ledger.rebuild import rebuild
from gateway.rules import hours
from gateway.rules.pack import load
from gateway.rules.plan import Plan, plan
from loadtests import people
from loadtests.figures import Figure
from loadtests.say import Teller
from loadtests.stack import Stack

CALL = 64
WARM_CALLS = 50
STEP_MS = 61_000
"""Between two codes to one person: the shortest window is a minute."""
CODES_AN_HOUR = 5
BYTES_A_RECIPIENT = 100
REBUILD_S = 50_000
ADMISSION_US = 18


async def info(guard: Guard, section: str) -> dict[str, str]:
    """A section of the server's INFO."""
    text = (await guard.server.command("INFO", section)).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def server_cpu_s(guard: Guard) -> float:
    """The server's CPU time, user and system."""
    found = await info(guard, "cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def fill(stack: Stack, teller: Teller, recipients: int, ordering: int) -> list[Figure]:
    """Put people into PostgreSQL, rebuild the cache from it, and measure both; then add those who are written to."""
    guard = await Guard.connect(stack.valkey.endpoint, timeout_s=10.0)
    connection = await asyncpg.connect(stack.postgres.endpoint)
    try:
        await people.put_client(connection, stack.pepper)
        teller.step(f"{recipients:,} recipients with one consent each, into PostgreSQL")
        rows = people.consenting(recipients)
        await people.put(
            connection, rows, recipients, lambda done, total: teller.progress(f"{done:,} of {total:,} copied")
        )
        before = int((await info(guard, "memory"))["used_memory"])
        teller.step("the cache, rebuilt from PostgreSQL")
        start = time.perf_counter()
        filled = await rebuild(
            stack.postgres.endpoint,
            guard,
            lambda _stage, done, total: teller.progress(f"{done:,} of {total:,} rebuilt"),
        )
        took, done = time.perf_counter() - start, filled.recipients
        used = int((await info(guard, "memory"))["used_memory"]) - before
        teller.step(f"{ordering:,} recipients with an order each")
        await _add_ordering(stack, connection, guard, teller, recipients, ordering)
    finally:
        await connection.close()
        await guard.close()
    return [
        Figure(
            f"Redis memory per recipient, one consent, {done:,} recipients",
            used / done,
            "B",
            BYTES_A_RECIPIENT,
            gates=recipients >= 1_000_000,
        ),
        Figure("rebuild of the cache", done / took, "recipients/s", REBUILD_S, least=True),
    ]


async def _add_ordering(
    stack: Stack,
    connection: "asyncpg.Connection[asyncpg.Record]",
    guard: Guard,
    teller: Teller,
    after: int,
    count: int,
) -> None:
    rows = list(people.ordering(stack.pepper, count, after))
    await people.put(connection, iter(rows), count, lambda done, total: teller.progress(f"{done:,} of {total:,}"))
    for start in range(0, count, people.PAGE // 10):
        part = rows[start : start + people.PAGE // 10]
        await guard.apply_encoded([(subject, encoded) for subject, *_, encoded in part])
        teller.progress(f"{start + len(part):,} of {count:,} in the cache")


@dataclass(slots=True)
class _Codes:
    """Codes to the same people, a minute and a second apart: three windows, with what came before in their logs."""

    guard: Guard
    plan: Plan
    subjects: list[bytes]

    async def round(self, now_ms: int, teller: Teller) -> None:
        """One code to everybody."""
        zone = load("cn").zone
        midnights, minute = hours.midnights(zone, now_ms), hours.minute_of_day(zone, now_ms)
        self.guard.now_ms = now_ms
        for start in range(0, len(self.subjects), CALL):
            part = self.subjects[start : start + CALL]
            bindings = [
                Binding(secrets.token_bytes(16), new_id(lane_of(subject), now_ms), secrets.token_bytes(16))
                for subject in part
            ]
            bound = await self.guard.bind(bindings)
            asks = [
                Ask(
                    id=one.id,
                    subject=subject,
                    plan=self.plan,
                    text_hash=hashlib.blake2b(one.id.encode(), digest_size=8).digest(),
                    midnights=midnights,
                    minute_of_day=minute,
                    answer=b"\x93\xc0\x01\xaacn@2026.11",
                    bound=True,
                    request=subject[:1] + secrets.token_bytes(15),
                    request_ttl_ms=600_000,
                )
                for subject, one in zip(part, bound, strict=True)
            ]
            verdicts = await self.guard.admit(asks, 0)
            refused = {verdict.code for verdict in verdicts if verdict.code is not None}
            if refused:
                raise RuntimeError(f"the bench's codes were refused: {sorted(code.value for code in refused)}")
            teller.progress(f"{start + len(part):,} of {len(self.subjects):,}")


async def admissions(stack: Stack, teller: Teller, count: int) -> Figure:
    """Server CPU of one admission at 64 a call, its binding included."""
    sender = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
    guard = await Guard.connect(stack.valkey.endpoint, timeout_s=5.0)
    try:
        codes = plan(load("cn"), sender, "verification.code")
        now_ms, rounds = time.time_ns() // 1_000_000, CODES_AN_HOUR - 1
        warm = _Codes(guard, codes, [secrets.token_bytes(16) for _ in range(CALL * WARM_CALLS)])
        await warm.round(now_ms, teller)
        measured = _Codes(guard, codes, [secrets.token_bytes(16) for _ in range(max(CALL, count // rounds))])
        teller.step(f"{len(measured.subjects) * rounds:,} admissions with {len(codes.windows)} windows and a binding")
        before = await server_cpu_s(guard)
        for at in range(rounds):
            await measured.round(now_ms + at * STEP_MS, teller)
        used = await server_cpu_s(guard) - before
    finally:
        guard.now_ms = 0
        await guard.close()
    return Figure(
        "Redis server CPU per admission",
        used / (len(measured.subjects) * rounds) * 1e6,
        "µs",
        ADMISSION_US,
        note=f"64 a call, {len(codes.windows)} true windows, binding included",
    )
