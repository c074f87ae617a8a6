"""Calls that gather: every item answered, in order, whoever asks when."""

import asyncio

import pytest

from gateway.intake.coalesce import Coalescer


async def test_what_gathers_during_a_call_goes_out_together() -> None:
    calls: list[list[int]] = []
    going = asyncio.Event()

    async def call(items: list[int]) -> list[int]:
        calls.append(items)
        await going.wait()
        return [-item for item in items]

    one: Coalescer[int, int] = Coalescer(call)
    first = one.ask([1])
    await asyncio.sleep(0)
    later = [one.ask([2, 3]), one.ask([4])]
    going.set()
    async with asyncio.timeout(1):
        assert [await first, *[await future for future in later]] == [[-1], [-2, -3], [-4]]
    assert calls == [[1], [2, 3, 4]]


async def test_an_answer_may_be_followed_by_another_question_at_once() -> None:
    async def call(items: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return items

    one: Coalescer[int, int] = Coalescer(call)

    async def twice(n: int) -> list[int]:
        return await one.ask([*await one.ask([n]), n])

    async with asyncio.timeout(1):
        assert await twice(7) == [7, 7]
        assert await asyncio.gather(*(twice(n) for n in range(200))) == [[n, n] for n in range(200)]


async def test_a_fault_reaches_everyone_it_concerns_and_nobody_else() -> None:
    async def call(items: list[int]) -> list[int]:
        if 13 in items:
            raise OSError("away")
        return items

    one: Coalescer[int, int] = Coalescer(call)
    with pytest.raises(OSError, match="away"):
        await one.ask([13])
    assert await one.ask([14]) == [14]


async def test_who_has_gone_is_not_asked_for() -> None:
    asked: list[int] = []
    going = asyncio.Event()

    async def call(items: list[int]) -> list[int]:
        asked.extend(items)
        await going.wait()
        return items

    one: Coalescer[int, int] = Coalescer(call)
    first = one.ask([1])
    await asyncio.sleep(0)
    gone, stays = one.ask([2]), one.ask([3])
    gone.cancel()
    going.set()
    assert [await first, await stays] == [[1], [3]]
    assert asked == [1, 3]
