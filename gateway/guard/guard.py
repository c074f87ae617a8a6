"""Everything the gateway asks of Redis or Valkey: one object per process, safe for many tasks.

Owns the keys of `keys.py` and nothing else. Promises: a decision is all or nothing and takes at most 64 messages a
call; every call ends within `timeout_s` or raises `GuardUnavailable`; no call is repeated by itself.

After `GuardUnavailable` nobody knows whether the call was carried out. What a caller may do:

- `admit`: ask again *with the same id*: it meets its own record and answers `replay`, state `reserved` (publish it), so
  nothing is consumed twice; or `void` the id and answer 503. Never ask under a new id without voiding the old one.
- `bind`, `apply`, `block`, `void`, `refund`, `done`, `unwritten`: call again, they are idempotent (a binding that was
  made meanwhile is found again, with the same id).
- `claim`: again with the same partition and offset, before committing past it.
- `requeue`: again; when it answers false, `record` says whether the attempt moved on.

A crash between two calls leaves what the records say; the headers of the scripts give every state's next step.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgpack

from gateway.contract.codes import Code
from gateway.contract.consent import State
from gateway.contract.ids import LANES, lane_of, lane_of_id
from gateway.contract.registry import Registry
from gateway.guard import admission, bindings, claims, keys, person, readiness, record, restoring
from gateway.guard.admission import Ask, Mode, Verdict
from gateway.guard.bindings import Binding, Bound, bound
from gateway.guard.cfg import told, written
from gateway.guard.claims import Attempt, Claim, Claimed, Review, VoidAsk
from gateway.guard.cluster import Cluster
from gateway.guard.cursors import Cursors
from gateway.guard.link import Argument
from gateway.guard.plans import Plans
from gateway.guard.record import RecordView
from gateway.guard.restoring import Person, Rebound, Restored, Stamps
from gateway.guard.scripts import script
from gateway.guard.server import Server, Standalone
from gateway.guard.slices import CALL, sliced

T = TypeVar("T")
FILL = 256
"""States in one call of `fill`: a fraction of a millisecond where nothing is there, one where something is."""
FLIGHTS = 4
"""Calls of one `restore` on the way at once: the server works while the next are packed."""
DONE_MS = 3_600_000
"""Life of an unbound record after `done`; later refunds use PostgreSQL."""
BLOCK_MS = 7 * 86_400_000


class Guard:
    """See the module. `now_ms` replaces the server's clock in tests; 0 is the real one."""

    def __init__(self, server: Server, *, vouched: bool = False) -> None:
        self._server = server
        self._vouched = vouched
        self._plans = Plans()
        self.now_ms = 0

    @classmethod
    async def connect(cls, url: str, *, timeout_s: float = 1.0, vouched: bool = False) -> "Guard":
        """`redis://`, `rediss://`, `unix://` or `redis+cluster://host:port,host:port`. Does not wait for the server.

        `vouched`: the operator answers for settings that the server will not tell (`readiness.py`).
        """
        server: Server = Cluster(url, timeout_s) if "+cluster://" in url else Standalone(url, timeout_s)
        return cls(server, vouched=vouched)

    @property
    def server(self) -> Server:
        """For `Cfg` and `Lease`, which share the connections."""
        return self._server

    async def close(self) -> None:
        """Close every connection."""
        await self._server.close()

    async def verify(self) -> list[str]:
        """What keeps this server from being trusted; empty when nothing does. Raises GuardUnavailable."""
        return await readiness.problems(self._server, vouched=self._vouched)

    # --- idempotency keys ------------------------------------------------------------------------------------------

    async def bind(self, items: Sequence[Binding]) -> list[Bound]:
        """Tie keys to ids; the first one wins. In order."""

        async def call(part: Sequence[Binding]) -> list[Bound]:
            reply = await self._server.run(script("bind"), *bindings.pack(part))
            return [bound(item, earlier) for item, earlier in zip(part, reply, strict=True)]

        return await self._sliced(items, lambda item: lane_of(item.digest), call)

    async def unbind(self, items: Sequence[Binding]) -> None:
        """Forget bindings that still stand as given: only accepted and held messages are remembered."""

        async def call(part: Sequence[Binding]) -> list[Any]:
            names = [keys.BINDING[item.digest[0]] + item.digest for item in part]
            reply: list[Any] = await self._server.run(script("unbind"), names, [item.value() for item in part])
            return reply

        await self._sliced(items, lambda item: lane_of(item.digest), call)

    # --- admission -------------------------------------------------------------------------------------------------

    async def admit(self, items: Sequence[Ask], min_seq: int) -> list[Verdict]:
        """Decide, in order; two messages to one recipient in one call see each other. `min_seq`: `Cfg.min_seq`."""

        async def call(part: Sequence[Ask]) -> list[Verdict]:
            names, args = admission.pack(part, min_seq, self._plans, self.now_ms)
            return admission.parse(await self._server.run(script("admit"), names, args), part)

        async def check(part: Sequence[Ask]) -> list[Verdict]:
            names, args = admission.pack(part, min_seq, self._plans, self.now_ms)
            return admission.parse_trace(await self._server.run(script("check"), names, args), part)

        if not any(item.mode == Mode.CHECK for item in items):
            return await self._sliced(items, lambda item: lane_of(item.subject), call)
        if not all(item.mode == Mode.CHECK for item in items):
            raise ValueError("CHECK is asked alone")
        return await self._sliced(items, lambda item: lane_of(item.subject), check)

    async def void(self, items: Sequence[VoidAsk], code: Code) -> list[str]:
        """End reservations and holds, giving windows back: the state found, `void` when it is now, or `absent`."""

        async def call(part: Sequence[VoidAsk]) -> list[str]:
            reply = await self._server.run(script("void"), _lane_keys(part), ["void", code.value, claims.FORGOTTEN_MS])
            return [record.STATES.get(state, "absent") for state in reply]

        return await self._sliced(items, lambda item: lane_of(item.subject), call)

    async def refund(self, items: Sequence[VoidAsk]) -> list[bool]:
        """Give back what messages consumed, whatever their state, once; whether this call did."""

        async def call(part: Sequence[VoidAsk]) -> list[bool]:
            reply = await self._server.run(script("void"), _lane_keys(part), ["refund", "", 0])
            return [given == 1 for given in reply]

        return await self._sliced(items, lambda item: lane_of(item.subject), call)

    # --- delivery --------------------------------------------------------------------------------------------------

    async def claim(self, items: Sequence[Claim], min_seq: int) -> list[Claimed]:
        """The last look before the wire; see `claim.lua`. Read the monotonic clock *before* calling."""

        async def call(part: Sequence[Claim]) -> list[Claimed]:
            names, args = claims.pack(part, min_seq, self._plans, self.now_ms)
            return claims.parse(await self._server.run(script("claim"), names, args))

        return await self._sliced(items, lambda item: lane_of(item.subject), call)

    async def done(self, ids: Sequence[str]) -> list[bool]:
        """After `results` has been acknowledged: taken -> done."""
        return await self._mark("done", [Attempt(one, 0) for one in ids])

    async def unwritten(self, ids: Sequence[str]) -> list[bool]:
        """On an orderly revocation: taken, and nothing of it was written."""
        return await self._mark("unwritten", [Attempt(one, 0) for one in ids])

    async def requeue(self, items: Sequence[Attempt]) -> list[bool]:
        """taken(n) -> reserved(n + 1), before a retry or a parking is published; false: do not publish."""
        return await self._mark("requeue", items)

    async def review(self, items: Sequence[Attempt]) -> list[Review]:
        """What became of attempts below the committed offset."""

        async def call(part: Sequence[Attempt]) -> list[Review]:
            raws = await self._server.command("MGET", *(keys.record(keys.raw_id(item.id)) for item in part))
            return [claims.reviewed(raw, item.attempt) for raw, item in zip(raws, part, strict=True)]

        return await self._sliced(items, lambda item: lane_of_id(item.id), call)

    async def record(self, message_id: str) -> RecordView | None:
        """What is known of a recent message."""
        raw = await self._server.command("GET", keys.record(keys.raw_id(message_id)))
        return None if raw is None else record.decode(raw)

    async def _mark(self, what: str, items: Sequence[Attempt]) -> list[bool]:
        async def call(part: Sequence[Attempt]) -> list[bool]:
            names = [keys.record(keys.raw_id(item.id)) for item in part]
            args: list[Argument] = [what, DONE_MS, *(item.attempt for item in part)]
            return [moved == 1 for moved in await self._server.run(script("mark"), names, args)]

        return await self._sliced(items, lambda item: lane_of_id(item.id), call)

    # --- the projection --------------------------------------------------------------------------------------------

    async def apply(self, states: Sequence[tuple[bytes, State]], *, blocking: bool = False) -> list[int]:
        """Write whole states, each only over an older `seq`; the fences (Unix ms, 0 none) to wait out, in order.

        `blocking`: one replica has it before this returns, where there is one. A state without parts is a tombstone.
        """
        return await self.apply_encoded(
            [(subject, person.encode(state)) for subject, state in states], blocking=blocking
        )

    async def apply_encoded(self, states: Sequence[tuple[bytes, bytes]], *, blocking: bool = False) -> list[int]:
        """`apply` of states already encoded by `person.encode`."""
        run = self._server.run_replicated if blocking else self._server.run

        async def call(part: Sequence[tuple[bytes, bytes]]) -> list[int]:
            names = [keys.PERSON[subject[0]] + subject for subject, _ in part]
            names += [keys.FENCE[subject[0]] + subject for subject, _ in part]
            fences: list[int] = await run(script("apply"), names, [raw for _, raw in part])
            return fences

        return await self._sliced(states, lambda state: lane_of(state[0]), call)

    async def fill(self, states: Sequence[tuple[bytes, bytes]]) -> None:
        """`apply_encoded`, confirmed by a replica where there is one, for a rebuild: of each person one state.

        Several times cheaper where nothing is there yet, and as guarded where something is. It tells no fences: nobody
        waits for a rebuild's states to hold.
        """

        async def call(part: Sequence[tuple[bytes, bytes]]) -> list[None]:
            names = [keys.PERSON[subject[0]] + subject for subject, _ in part]
            await self._server.run_replicated(script("fill"), names, [raw for _, raw in part])
            return [None] * len(part)

        await self._sliced(states, lambda state: lane_of(state[0]), call, FILL)

    async def restore(self, items: Sequence[Restored]) -> list[bool]:
        """Put records and the windows they consumed back; of each whether it was written. See `restoring.py`."""
        written = [False] * len(items)

        async def call(part: Sequence[Person]) -> list[None]:
            names, packed = restoring.pack_records(part)
            reply = await self._server.run(script("restore"), names, ["records", *packed])
            places = [at for person in part for at, _ in person]
            for at, new in zip(places, reply, strict=True):
                written[at] = new == 1
            return [None] * len(part)

        persons = restoring.people(items, CALL)
        flights = asyncio.Semaphore(FLIGHTS)

        async def some(part: Sequence[Person]) -> None:
            async with flights:
                await self._sliced(part, lambda person: lane_of(person[0][1].subject), call)

        size = CALL if self._server.mixes_lanes else CALL * LANES
        await asyncio.gather(*(some(persons[at : at + size]) for at in range(0, len(persons), size)))
        return written

    async def rebind(self, items: Sequence[Rebound]) -> None:
        """Put bindings back."""

        async def call(part: Sequence[Rebound]) -> list[None]:
            await self._server.run(script("rebind"), *restoring.pack_bindings(part))
            return [None] * len(part)

        await self._sliced(items, lambda item: lane_of(item.digest), call)

    async def restore_stamps(self, items: Sequence[Stamps]) -> list[bool]:
        """Complete window fields with everything PostgreSQL holds of each; after `restore`, before the cursors."""

        async def call(part: Sequence[Stamps]) -> list[bool]:
            names, packed = restoring.pack_stamps(part)
            return [new == 1 for new in await self._server.run(script("restore"), names, ["stamps", packed])]

        return await self._sliced(items, lambda item: lane_of(item.subject), call)

    async def block(self, subject: bytes, scopes: Sequence[str], token: str = "") -> int:
        """Stop these scopes at once, until `unblock`; the fence to wait out before acknowledging.

        `token` names the act that is to stand in its place: while another one's is there, `unblock` lifts nothing.
        """
        first = subject[0]
        names = [keys.BLOCK[first] + subject, keys.FENCE[first] + subject]
        args: list[Argument] = [msgpack.packb(list(scopes)), BLOCK_MS, token]
        fence: int = await self._server.run_replicated(script("block"), names, args)
        return fence

    async def unblock(self, subject: bytes, token: str = "") -> None:
        """Lift the provisional block, once an applied event stands in its place; without a token whatever follows."""
        await self._server.run(script("unblock"), [keys.BLOCK[subject[0]] + subject], [token])

    async def cursors(self) -> list[int | None]:
        """The last event applied to each lane; none where the lane is cold."""
        return await Cursors(self._server).read()

    async def set_cursors(self, seq: int, lanes: Iterable[int] = range(LANES)) -> None:
        """For tests: open lanes without looking. Who fills them moves their cursors by compare-and-set (`Cursors`)."""
        await asyncio.gather(*(self._server.command("SET", keys.CURSOR[lane], seq) for lane in lanes))

    async def write_cfg(self, beat: int, min_seq: int, registry: Registry) -> None:
        """The ledger process's sign of life, each 500 ms."""
        await self._server.command("HSET", keys.CFG, *written(beat, min_seq, registry))

    async def tell_registry(self, registry: Registry) -> None:
        """Who may send, without a sign of life: nothing is allowed by it."""
        await self._server.command("HSET", keys.CFG, *told(registry))

    # --- how calls are cut -----------------------------------------------------------------------------------------

    async def _sliced(
        self, items: Sequence[Any], lane: Callable[[Any], int], call: Callable[[Sequence[Any]], Any], most: int = CALL
    ) -> list[T]:
        return await sliced(items, lane, call, most=most, mixes_lanes=self._server.mixes_lanes)


def _lane_keys(items: Sequence[VoidAsk]) -> list[bytes]:
    names: list[bytes] = []
    for item in items:
        first = item.subject[0]
        record_key = keys.RECORD[first] + keys.raw_id(item.id)
        used = record_key if item.request is None else keys.REQUEST[first] + item.request
        names += (record_key, keys.WINDOWS[first] + item.subject, used)
    return names
