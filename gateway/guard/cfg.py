"""The `cfg` value: who may send, what is stopped, how far every lane is, and whether the ledger process lives.

One hash: `n` beat, `s` least cursor applied to all lanes, `v` version of the body, `b` the registry as JSON. The ledger
process writes it each 500 ms; every process polls it with `Cfg` and parses the body only when its version changed.
A beat that has not moved for 10 s (a crash, a partition, a paused process) makes it not `fresh`: an opt-out might go
unrecorded, so nothing is admitted or claimed. A beat is believed once it was *seen* to move; a stale value found at
start is not fresh.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress

from gateway import telemetry
from gateway.contract.decision import Class
from gateway.contract.registry import Client, Registry, Sender, Trickle
from gateway.contract.scope import of_sender
from gateway.guard import keys
from gateway.guard.link import Argument
from gateway.guard.server import GuardUnavailable, Server

POLL_S = 0.5
FRESH_S = 10.0


def told(registry: Registry) -> list[Argument]:
    """The fields of the registry alone, which are no sign of life."""
    body = registry.model_dump_json().encode()
    return ["v", hashlib.sha256(body).digest()[:12], "b", body]


def written(beat: int, min_seq: int, registry: Registry) -> list[Argument]:
    """The fields of one beat."""
    return ["n", beat, "s", min_seq, *told(registry)]


class Cfg:
    """The registry as this process sees it. `start` polls until `close`; until the first beat nothing is allowed."""

    def __init__(self, server: Server, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._monotonic = monotonic
        self._task: asyncio.Task[None] | None = None
        self._beat: int | None = None
        self._version: bytes | None = None
        self._moved_at: float | None = None
        self._clients: dict[str, Client] = {}
        self._senders: dict[str, Sender] = {}
        self._stopped: dict[str, Trickle | None] = {}
        self.registry: Registry | None = None
        self.min_seq = 0

    async def start(self) -> None:
        """Read once, then keep polling. A server that does not answer is no error here: the value is not fresh."""
        with suppress(GuardUnavailable):
            await self.poll()
        self._task = asyncio.create_task(self._keep_polling(), name="cfg")

    async def close(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def poll(self) -> None:
        """Read the value once. Raises GuardUnavailable; ValueError when the body is not a registry."""
        beat, seq, version = await self._server.command("HMGET", keys.CFG, "n", "s", "v")
        if version is not None and version != self._version:
            beat, seq, version, body = await self._server.command("HMGET", keys.CFG, "n", "s", "v", "b")
            if body is None:
                return
            self._adopt(Registry.model_validate_json(body), version)
        if beat is None or version is None:
            return
        self.min_seq = int(seq)
        if self._beat is not None and int(beat) != self._beat:
            self._moved_at = self._monotonic()
        self._beat = int(beat)

    def _adopt(self, registry: Registry, version: bytes) -> None:
        self.registry, self._version = registry, version
        self._clients = {digest: client for client in registry.clients for digest in client.key_digests}
        self._senders = {sender.id: sender for sender in registry.senders}
        self._stopped = {one.scope: one for one in registry.trickles} | dict.fromkeys(registry.breakers)

    async def _keep_polling(self) -> None:
        log = telemetry.logger("guard")
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
            except GuardUnavailable:
                pass  # its age says it
            except Exception as fault:  # noqa: BLE001 - polling must outlive a bad value; it is not fresh meanwhile
                log.warning("cfg.unreadable", error=type(fault).__name__)
            telemetry.BEAT_AGE.set(min(self.age_s, 1e6))

    @property
    def age_s(self) -> float:
        """Seconds since the beat was last seen to move; infinite until it was."""
        return float("inf") if self._moved_at is None else self._monotonic() - self._moved_at

    @property
    def fresh(self) -> bool:
        """Whether anything may be sent."""
        return self.registry is not None and self.age_s < FRESH_S

    def client_by_digest(self, digest: str) -> Client | None:
        """The client whose key has this digest (hex)."""
        return self._clients.get(digest)

    def sender(self, sender_id: str) -> Sender | None:
        """A sender by its id."""
        return self._senders.get(sender_id)

    def open_scope(
        self,
        sender: str,
        cls: Class,
        campaign: str | None = None,
        port: str | None = None,
        list_source: str | None = None,
        *,
        subject: bytes | None = None,
    ) -> str | None:
        """The breaker that stops a message, the widest first; none when nothing does.

        `subject`: its recipient, for breakers that let a share through; without one they stop it.
        """
        if not self._stopped:
            return None
        every = ["all", f"class:{cls.value}", f"sender:{sender}"]
        if port:
            every.append(f"port:{port}")
        for kind, name in (("campaign", campaign), ("list_source", list_source)):
            if name:
                every += (f"{kind}:{name}", of_sender(kind, sender, name))
        return next((scope for scope in every if scope in self._stopped and self._stops(scope, subject)), None)

    def _stops(self, scope: str, subject: bytes | None) -> bool:
        trickle = self._stopped[scope]
        return trickle is None or subject is None or not trickle.passes(subject)
