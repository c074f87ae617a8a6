"""One partition of one assignment: records in order through slots, claim and commit; then side by side to the carrier.

Order (MECHANISMS 6): room in the window -> slots -> claim -> commit past the batch -> still ours -> submit. Claims and
commits go one after another, so that what lies below a commit has been claimed; submits overlap. At most `window`
offsets lie between the oldest unresolved record and the commit: a new owner begins that far back and reviews each.

- A crash: everything claimed below the commit and not `done` is doubtful to the next owner; what lies above is new.
- An orderly revocation: running submits are awaited, what was not written goes back as `unwritten`, but only after one
  more commit has proved that the group still counts this member in.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.contract.wire import Accepted
from gateway.deliver.claiming import AGAIN_S, Claims, claim_all
from gateway.deliver.means import Item, Means
from gateway.deliver.submission import Watch, carry, finish
from gateway.deliver.takeover import forbid, take_over
from gateway.guard import GuardUnavailable, RecordView
from gateway.guard.record import TAKEN
from gateway.stream.codec import Undecodable, decode
from gateway.stream.group import GroupReader
from gateway.stream.reader import Message, Place
from gateway.telemetry import logger

WINDOW = 256
HUNGRY = 512
CLOSE_WITHIN_S = 6.0

_log = logger("deliver")


@dataclass(eq=False, slots=True)
class Batch:
    """Records from offset `first` on, until all of them are resolved."""

    first: int
    open: bool = True


class Lost(Exception):  # noqa: N818 - it names what happened
    """The group has given the partition away."""


class Partition:
    """`committed`: the group's offset at assignment; records below it are reviewed, the rest delivered."""

    def __init__(
        self,
        means: Means,
        reader: GroupReader,
        place: Place,
        epoch: int,
        committed: int,
        *,
        window: int = WINDOW,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._means, self._reader, self._place, self._epoch = means, reader, place, epoch
        self._reviewed_to = self._committed = committed
        self._window = window
        self._failed = failed
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._open: deque[Batch] = deque()
        self._resolved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = Watch(owned=lambda: reader.still_owned(place, epoch))
        self._runner = asyncio.create_task(self._run(), name=f"deliver-{means.cls.value}-{place.partition}")
        self._runner.add_done_callback(self._note)

    @property
    def hungry(self) -> bool:
        """Whether more records should be read."""
        return len(self._waiting) < HUNGRY

    def feed(self, messages: Sequence[Message]) -> None:
        """Records as read, in order."""
        self._waiting.extend(messages)
        self._arrived.set()

    async def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Stop in order; see the module. Bounded by `within_s` and two calls."""
        self._watch.closing.set()
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._watch.unwritten:
            await self._give_back(list(self._watch.unwritten.values()))

    async def _give_back(self, items: Sequence[Item]) -> None:
        """Mark claims that never reached a carrier, if the group still counts us in and the claims are these items'."""
        guard = self._means.guard
        if not await self._reader.commit({self._place: self._committed}, self._epoch, deadline_s=1.0):
            return  # somebody else may own them already: theirs to judge
        try:
            views = await asyncio.gather(*(guard.record(item.id) for item in items))
            ours = [item.id for item, view in zip(items, views, strict=True) if _claimed_as(item, view)]
            await guard.unwritten(ours)
        except GuardUnavailable:
            _log.warning("unwritten_not_marked", messages=len(items))

    # --- one after another -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                messages = await self._next()
                first, end = messages[0].offset, messages[-1].offset + 1
                if first < self._reviewed_to:
                    await self._dispatch(first, await take_over(self._means, messages), None)
                else:
                    await self._room(end)
                    await self._dispatch(first, await self._items(messages), end)
        except Lost:
            _log.warning("partition_lost", partition=self._place.partition)

    async def _next(self) -> list[Message]:
        """The next records, at most a batch, on one side of the reviewed offset."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        below = self._waiting[0].offset < self._reviewed_to
        most = self._means.batch
        messages: list[Message] = []
        while self._waiting and len(messages) < most and (self._waiting[0].offset < self._reviewed_to) == below:
            messages.append(self._waiting.popleft())
        return messages

    async def _room(self, end: int) -> None:
        """Wait until no unresolved record would lie more than the window below a commit at `end`."""
        while True:
            while self._open and not self._open[0].open:
                self._open.popleft()
            if not self._open or end - self._open[0].first <= self._window:
                return
            self._resolved.clear()
            await self._resolved.wait()

    async def _items(self, messages: Sequence[Message]) -> list[Item]:
        """Decode; what nobody can read goes to the dead letters, what nobody may send any more is cancelled."""
        items = []
        for message in messages:
            try:
                accepted = decode(Accepted, message.value)
            except Undecodable as fault:
                await self._means.outbox.dead(message, "deliver", type(fault).__name__, self._means.now_ms())
                continue
            await self._means.fresh()
            item = self._means.item(accepted, message.key, message.place, message.offset)
            if item is None:
                await forbid(self._means, accepted)
            else:
                items.append(item)
        return items

    async def _dispatch(self, first: int, items: Sequence[Item], end: int | None) -> None:
        """Slots, claim, commit (none for records below it); then the batch is on its own."""
        means = self._means
        batch = Batch(first)
        self._open.append(batch)
        counts = Counter(item.route for item in items if item.route is not None)
        taken: Counter[str] = Counter()
        try:
            for route, n in sorted(counts.items()):
                await means.slots[route].take(n, means.cls)
                taken[route] = n
            self._watch.claimed(items)
            claims = await claim_all(means, items)
            going = {item.id for item in claims.go}
            self._watch.released([item for item in items if item.id not in going])
            if end is not None:
                await self._commit(end)
        except BaseException:
            for route, n in taken.items():
                means.slots[route].free(n, means.cls)
            raise
        task = asyncio.create_task(self._finish(batch, claims, taken))
        self._tasks.add(task)
        task.add_done_callback(self._note)

    async def _commit(self, end: int) -> None:
        while True:
            if not self._watch.owned():
                raise Lost
            if await self._reader.commit({self._place: end}, self._epoch):
                self._committed = end
                return
            await asyncio.sleep(AGAIN_S[0])

    # --- side by side ----------------------------------------------------------------------------------------------

    async def _finish(self, batch: Batch, claims: Claims, taken: Counter[str]) -> None:
        """Everything of one batch that follows its commit."""
        groups: dict[str | None, list[Item]] = {route: [] for route in taken}
        for item in claims.go:
            groups.setdefault(item.route, []).append(item)
        await asyncio.gather(
            finish(self._means, claims.ended, ()),
            *(self._carry(route, items, claims.began, taken) for route, items in groups.items()),
        )
        batch.open = False
        self._resolved.set()

    async def _carry(self, route: str | None, items: Sequence[Item], began: float, taken: Counter[str]) -> None:
        try:
            await carry(self._means, route, items, began, self._watch)
        finally:
            if route is not None:
                self._means.slots[route].free(taken[route], self._means.cls)

    def _note(self, task: asyncio.Task[None]) -> None:
        """A task that fails is a fault of ours: the process stops in order and is started again."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._failed(fault)


def _claimed_as(item: Item, view: RecordView | None) -> bool:
    """Whether the record is this item's claim, and not that of a copy elsewhere, which may have been written."""
    if view is None or view.state != TAKEN or view.attempt != item.attempt:
        return False
    return (view.partition, view.offset) == (item.place.partition, item.offset)
