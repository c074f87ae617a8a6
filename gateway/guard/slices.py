"""How many items become calls: few enough in each that nobody waits long for the server, on a cluster one lane each."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
CALL = 64
"""Messages in one call: 500 would hold the server for 7 ms."""


async def sliced(
    items: Sequence[Any],
    lane: Callable[[Any], int],
    call: Callable[[Sequence[Any]], Awaitable[Sequence[T]]],
    *,
    most: int = CALL,
    mixes_lanes: bool,
) -> list[T]:
    """The answers of calls of at most `most` items, in order; where lanes do not mix, lanes go side by side."""
    if mixes_lanes:
        if len(items) <= most:
            return list(await call(items)) if items else []
        answers: list[T] = []
        for start in range(0, len(items), most):
            answers += await call(items[start : start + most])
        return answers
    lanes: dict[int, list[int]] = {}
    for at, item in enumerate(items):
        lanes.setdefault(lane(item), []).append(at)
    placed: list[Any] = [None] * len(items)

    async def one_lane(places: list[int]) -> None:
        for start in range(0, len(places), most):
            part = places[start : start + most]
            for at, answer in zip(part, await call([items[at] for at in part]), strict=True):
                placed[at] = answer

    await asyncio.gather(*(one_lane(places) for places in lanes.values()))
    return placed
