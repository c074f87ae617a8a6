"""One way to send: prepare, bind, admit, publish; void what Kafka did not take. Used by the edge and by releases.

Order (MECHANISMS 1): bind the key (another body: 409) -> admit under the bound id -> publish -> answer. Nothing is
confirmed afterwards. Dying after *bind* leaves a binding whose retry admits under the same id; after *admit*, a
reservation whose retry publishes the same id (the claim drops a copy), at worst a window slot too many used, never one
too few; after *publish*, a message that will be sent and whose retry gets the same answer.
A publish that is not acknowledged in time may still land: its reservation is voided, and the claim refuses `void`; but
not once its key was repeated, for the repeat may have been acknowledged: then the reservation and the key stay.
What a key was answered stands for its life: what only became impossible since (time, quota, breaker) is recalled.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from gateway import telemetry
from gateway.contract.codes import Code
from gateway.contract.decision import Basis, Class, Refusal
from gateway.contract.ids import lane_of, new_id, subject_of
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client
from gateway.guard import Ask, Binding, Bound, Cfg, Guard, GuardUnavailable, Lease, Mode, Verdict, VoidAsk
from gateway.intake.accepted import accepted
from gateway.intake.answer import Answer, basis_of, recall, store
from gateway.intake.coalesce import Coalescer
from gateway.intake.digests import binding, text_hash, used_digest
from gateway.intake.job import Job
from gateway.intake.prepare import DAY_MS, Prepared, Routes, due, ms, prepare, uncallable
from gateway.intake.refused import NOBODY, Refused
from gateway.rules import hours
from gateway.rules.pack import Pack
from gateway.rules.reach import OPEN, Reach
from gateway.stream import Producer, StreamBusy, Topics

UNAVAILABLE = Refusal(Code.UNAVAILABLE, "", 1)
STALE = Refusal(Code.UNAVAILABLE, "the permission projection shows no sign of life", 5)
COLD_RETRY_S = 2
COLD = Refusal(Code.CACHE_COLD, "", COLD_RETRY_S)
PUBLISH_S = 1.3
"""Leaves time to void what Kafka did not acknowledge before the edge's own deadline."""
BREAKER_RETRY_S = 60


class Intake:
    """Admits and publishes. One object a process; safe for any number of concurrent callers of one loop."""

    def __init__(
        self,
        *,
        guard: Guard,
        cfg: Cfg,
        lease: Lease,
        producer: Producer,
        topics: Topics,
        packs: Mapping[str, Pack],
        pepper: bytes,
        reach: Reach = OPEN,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`reach`: which addresses messages may give as `callback_url`."""
        self.reach = reach
        self.guard, self.cfg, self.lease, self.producer, self.topics = guard, cfg, lease, producer, topics
        self.packs, self.pepper, self._now_ms = packs, pepper, now_ms
        self._admitting = {cls: Coalescer(self.admit, flights=2) for cls in Class}
        self._binding: Coalescer[Binding, Bound] = Coalescer(guard.bind)
        self.refused = Refused()
        """What was refused and not yet told to the board."""
        self._routes = Routes({}, packs)
        self._registry: object = None

    def routes(self) -> Routes:
        """The routes of the registry now in force."""
        registry = self.cfg.registry
        if registry is not self._registry:
            self._registry = registry
            self._routes = Routes({s.id: s for s in registry.senders} if registry else {}, self.packs)
        return self._routes

    async def send(
        self, client: Client, requests: Sequence[SendRequest | Refusal], trace: str | None = None
    ) -> list[Answer | Refusal]:
        """Each message accepted, held or refused, in order, as if it had been sent alone. Never raises for one of them.

        An `Answer` is durable in Kafka (acks=all). A refused message has consumed nothing.
        """
        out: list[Answer | Refusal] = [UNAVAILABLE] * len(requests)
        if not self.cfg.fresh:
            return [STALE] * len(requests)
        now = self._now_ms()
        asked = self._prepare(client, requests, now, out)
        paid = await self._afford(client, [job for job in asked if job.late is None], now, out)
        jobs = paid if len(paid) == len(asked) else self._left(asked, paid, out)
        try:
            if any(job.binding is not None for job in jobs):
                jobs = await self._bind(jobs, out)
            await self._admit(jobs, now, out)
            await self._publish(jobs, trace, now, out)
            await self._unbind(jobs, out)
        except (GuardUnavailable, StreamBusy):
            pass  # what has no answer yet keeps UNAVAILABLE
        self._give_back(client, paid, now, out)
        _count(out, requests, self)
        return out

    def _left(self, asked: list[Job], paid: list[Job], out: list[Answer | Refusal]) -> list[Job]:
        """The jobs that go on: those paid for, and those that may have been answered before."""
        places = {job.at for job in paid}
        for job in asked:
            found = out[job.at]
            if job.at not in places and isinstance(found, Refusal) and found.code is Code.CLIENT_QUOTA:
                self._ends(job, found, out)
        return [job for job in asked if job.late is not None or job.at in places]

    # --- before any I/O ------------------------------------------------------------------------------------------

    def _prepare(
        self, client: Client, requests: Sequence[SendRequest | Refusal], now: int, out: list[Answer | Refusal]
    ) -> list[Job]:
        jobs = []
        routes, cfg = self.routes(), self.cfg
        for at, request in enumerate(requests):
            if isinstance(request, Refusal):
                out[at] = request
                continue
            route = routes.find(client, request.sender, request.purpose)
            if request.callback_url is not None and not isinstance(route, Refusal):
                route = uncallable(request.callback_url, self.reach) or route
            prepared = route if isinstance(route, Refusal) else prepare(request, route, now)
            if isinstance(prepared, Refusal):
                out[at] = prepared
                continue
            job = self._job(at, prepared, client, now)
            stopped = cfg.open_scope(
                prepared.route.sender.id,
                prepared.route.purpose.cls,
                request.campaign,
                prepared.route.port,
                request.list_source,
                subject=job.subject,
            )
            late = prepared.late
            if stopped is not None and late is None:
                late = Refusal(Code.BREAKER_OPEN, f"stopped: {stopped}", BREAKER_RETRY_S)
            if late is None or not self._ends(job, late, out):
                jobs.append(job)
        return jobs

    @staticmethod
    def _ends(job: Job, late: Refusal, out: list[Answer | Refusal]) -> bool:
        """Whether the refusal is the last word: without a key nothing was answered before; with one that is asked."""
        if job.binding is None:
            out[job.at] = late
            return True
        out[job.at], job.late, job.mode = UNAVAILABLE, late, Mode.RECALL
        return False

    def _job(self, at: int, prepared: Prepared, client: Client, now: int) -> Job:
        subject = subject_of(self.pepper, prepared.number)
        job = Job(at, prepared, subject, new_id(lane_of(subject), now), due_ms=prepared.due_ms)
        if prepared.due_ms is not None:
            job.mode = Mode.HOLD
        if prepared.request.idempotency_key is not None:
            job.binding = binding(self.pepper, client.id, prepared.request, job.id)
        return job

    async def _afford(self, client: Client, jobs: list[Job], now: int, out: list[Answer | Refusal]) -> list[Job]:
        """Keep the jobs that the client's quota and the senders' caps pay for."""
        if not jobs:
            return jobs
        try:
            paid = jobs
            if not self.lease.at_hand(client.id, len(jobs)):
                paid = await self._pay(client.id, client.quota_per_minute, jobs, None, out)
            if not any(job.prepared.route.sender.cap_per_day for job in paid):
                return paid
            return await self._pay_caps(client, paid, now, out)
        except GuardUnavailable:
            return []

    async def _pay(
        self, name: str, limit: int, jobs: list[Job], day: tuple[int, int] | None, out: list[Answer | Refusal]
    ) -> list[Job]:
        """The jobs that fit, all at once where they do, else the first ones."""
        wait = await self.lease.take(name, limit, len(jobs), day=day)
        if wait is None:
            return jobs
        paid: list[Job] = []
        if len(jobs) > 1:
            for job in jobs:
                if await self.lease.take(name, limit, day=day) is not None:
                    break
                paid.append(job)
        detail = f"cap: {name}" if day is not None else ""
        for job in jobs[len(paid) :]:
            out[job.at] = Refusal(Code.CLIENT_QUOTA, detail, max(1, math.ceil(wait)))
        return paid

    async def _pay_caps(self, client: Client, jobs: list[Job], now: int, out: list[Answer | Refusal]) -> list[Job]:
        kept = [job for job in jobs if job.prepared.route.sender.cap_per_day is None]
        capped: dict[str, list[Job]] = {}
        for job in jobs:
            if job.prepared.route.sender.cap_per_day is not None:
                capped.setdefault(job.prepared.route.sender.id, []).append(job)
        for sender_id, group in capped.items():
            route = group[0].prepared.route
            _, today, tomorrow = hours.midnights(route.pack.zone, now)
            limit = route.sender.cap_per_day or 1
            kept += await self._pay(f"sender/{sender_id}", limit, group, (today // 1000, tomorrow // 1000), out)
        self.lease.give(client.id, len(jobs) - len(kept), now / 1000)
        return sorted(kept, key=lambda job: job.at)

    def _give_back(self, client: Client, jobs: list[Job], now: int, out: list[Answer | Refusal]) -> None:
        """What was paid for and then refused costs nothing."""
        refused = [job for job in jobs if isinstance(out[job.at], Refusal)]
        if refused:
            self.lease.give(client.id, len(refused), now / 1000)
            for job in refused:
                if job.prepared.route.sender.cap_per_day is not None:
                    self.lease.give(f"sender/{job.prepared.route.sender.id}", 1, now / 1000)

    # --- Redis ---------------------------------------------------------------------------------------------------

    async def _bind(self, jobs: list[Job], out: list[Answer | Refusal]) -> list[Job]:
        keyed = [job for job in jobs if job.binding is not None]
        found = await self._binding.ask([job.binding for job in keyed if job.binding is not None])
        for job, bound in zip(keyed, found, strict=True):
            job.id, job.bound = bound.id, True
            if job.binding is not None:
                job.binding = job.binding._replace(id=bound.id, repeats=bound.repeats)
            if bound.conflict or bound.cold:
                out[job.at] = COLD if bound.cold else Refusal(Code.IDEMPOTENCY_CONFLICT)
                job.binding = None
        return [job for job in jobs if not job.bound or job.binding is not None]

    async def admit(self, asks: list[Ask]) -> list[Verdict]:
        """One call of the admission script, measured."""
        start = time.perf_counter()
        verdicts = await self.guard.admit(asks, self.cfg.min_seq)
        telemetry.ADMIT_BATCH.observe(len(asks))
        telemetry.ADMIT_CALL_SECONDS.observe(time.perf_counter() - start)
        return verdicts

    async def _admit(self, jobs: list[Job], now: int, out: list[Answer | Refusal]) -> None:
        groups: dict[Class, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.prepared.route.purpose.cls, []).append(job)
        for cls, group in groups.items():
            verdicts = await self._admitting[cls].ask([self._ask(job, now) for job in group])
            again = []
            for job, verdict in zip(group, verdicts, strict=True):
                if verdict.code is Code.QUIET_HOURS and verdict.hours is not None:
                    if self._postpone(job, verdict.hours, now, out):
                        again.append(job)
                else:
                    self._take(job, verdict, out)
            if again:
                for job, verdict in zip(
                    again, await self._admitting[cls].ask([self._ask(j, now) for j in again]), strict=True
                ):
                    self._take(job, verdict, out)

    def _ask(self, job: Job, now: int) -> Ask:
        prepared, request = job.prepared, job.prepared.request
        route, used, used_ttl = prepared.route, self._used(job), 0
        if request.request is not None and used is not None:
            used_ttl = max(1000, ms(request.request.occurred_at) + (route.purpose.request_life_s or 600) * 1000 - now)
        return Ask(
            id=job.id,
            subject=job.subject,
            plan=route.plan,
            text_hash=text_hash(self.pepper, prepared.content.text),
            mode=job.mode,
            bound=job.bound,
            approved=request.approval is not None,
            request=used,
            request_ttl_ms=used_ttl,
            answer=store(job.due_ms, prepared.content.parts, route.plan.pack),
            record_ttl_ms=max(prepared.expires_ms - now, 0) + DAY_MS,
            midnights=hours.midnights(route.pack.zone, now),
            minute_of_day=hours.minute_of_day(route.pack.zone, now),
        )

    def _used(self, job: Job) -> bytes | None:
        """The digest of the person's request that the message uses up."""
        request, route = job.prepared.request.request, job.prepared.route
        if request is None or route.plan.basis is not Basis.REQUEST:
            return None
        return used_digest(self.pepper, job.subject, route, request.ref)

    def _postpone(self, job: Job, wanted: tuple[int, int], now: int, out: list[Answer | Refusal]) -> bool:
        """The person's own hours forbid it now: hold until they open, or refuse where the caller asked for that."""
        release, refusal = due(job.prepared.request, job.prepared.route, now, wanted)
        if refusal is not None:
            out[job.at] = refusal
            return False
        job.due_ms, job.mode = release, Mode.HOLD
        job.prepared = job.prepared._replace(
            due_ms=release, expires_ms=max(job.prepared.expires_ms, (release or now) + DAY_MS)
        )
        return True

    def _take(self, job: Job, verdict: Verdict, out: list[Answer | Refusal]) -> None:
        if verdict.code is None:
            job.verdict = verdict
            return
        if job.late is not None and verdict.code is Code.UNAVAILABLE:
            out[job.at] = job.late
            return
        wait = None
        if verdict.code is Code.CACHE_COLD:
            telemetry.COLD.add()
            wait = COLD_RETRY_S
        elif verdict.retry_after_ms:
            wait = max(1, -(-verdict.retry_after_ms // 1000))
        out[job.at] = Refusal(verdict.code, f"window: {verdict.window}" if verdict.window else "", wait)

    async def _unbind(self, jobs: list[Job], out: list[Answer | Refusal]) -> None:
        """Refusals are not remembered: their key may be used again at once."""
        refused = [j.binding for j in jobs if j.binding is not None and isinstance(out[j.at], Refusal)]
        if refused:
            await self.guard.unbind(refused)

    # --- Kafka ---------------------------------------------------------------------------------------------------

    async def _publish(self, jobs: list[Job], trace: str | None, now: int, out: list[Answer | Refusal]) -> None:
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            if job.verdict is None:
                continue
            if job.verdict.replay and job.verdict.state in ("taken", "done", "void"):
                out[job.at] = self._replayed(job, job.verdict)
                continue
            cls = job.prepared.route.purpose.cls
            topic = self.topics.held if job.verdict.state == "held" else self.topics.messages(cls)
            groups.setdefault(topic, []).append(job)
        if len(groups) == 1:
            ((topic, group),) = groups.items()
            await self._publish_to(topic, group, trace, now, out)
        elif groups:
            tasks = [self._publish_to(t, g, trace, now, out) for t, g in groups.items()]
            for fault in await asyncio.gather(*tasks, return_exceptions=True):
                if fault is not None:
                    raise fault

    async def _publish_to(
        self, topic: str, group: list[Job], trace: str | None, now: int, out: list[Answer | Refusal]
    ) -> None:
        records = [(job.subject, accepted(job, trace, now)) for job in group]
        try:
            acks = await self.producer.publish(topic, records, deadline_s=PUBLISH_S)
        except StreamBusy:
            acks = [None] * len(group)
        missed = []
        for job, ack in zip(group, acks, strict=True):
            if ack is None:
                missed.append(job)
            else:
                out[job.at] = self._answer(job)
        if missed:
            await self._void(missed, out)

    async def _void(self, missed: list[Job], out: list[Answer | Refusal]) -> None:
        """Take back what Kafka did not acknowledge; what deliver already took was published after all.

        What was repeated meanwhile may have been acknowledged to somebody else: it stays, and its key with it.
        """
        telemetry.VOIDED.add(len(missed))
        asks = [VoidAsk(job.id, job.subject, self._used(job)) for job in missed]
        states = await self.guard.void(asks, Code.UNAVAILABLE)
        for job, state in zip(missed, states, strict=True):
            if state in ("taken", "done"):
                out[job.at] = self._answer(job)
            elif state in ("reserved", "held"):
                job.binding = None

    def _answer(self, job: Job) -> Answer:
        if job.verdict is not None and job.verdict.replay:
            return self._replayed(job, job.verdict)
        route, verdict = job.prepared.route, job.verdict
        return Answer(
            job.id,
            "held" if job.due_ms is not None else "accepted",
            job.due_ms,
            job.prepared.content.parts,
            basis_of(route, verdict),
            verdict.entry if verdict else None,
            route.plan.pack,
        )

    def _replayed(self, job: Job, verdict: Verdict) -> Answer:
        telemetry.REPLAYS.add()
        release_at, parts, pack = recall(verdict.answer)
        status = "accepted" if release_at is None else "held"
        return Answer(
            job.id, status, release_at, parts, basis_of(job.prepared.route, verdict), verdict.entry, pack, True
        )


def _count(out: list[Answer | Refusal], requests: Sequence[SendRequest | Refusal], intake: Intake) -> None:
    routes = intake.routes()
    for result, request in zip(out, requests, strict=True):
        code = result.status if isinstance(result, Answer) else result.code
        cls = "none" if isinstance(request, Refusal) else routes.cls_of(request.sender, request.purpose)
        telemetry.ADMISSIONS.add(1, code, cls)
        if isinstance(result, Refusal):
            sender = NOBODY if isinstance(request, Refusal) else request.sender
            intake.refused.add(sender if intake.cfg.sender(sender) is not None else NOBODY, result.code)
