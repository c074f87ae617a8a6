"""One clock for every request: what is late is cancelled once and told apart from any other cancellation."""

import asyncio

import pytest

from gateway.edge.deadlines import TICK_S, Deadlines


async def late(clock: Deadlines, seconds: float, work_s: float) -> str:
    """How it ends for a task that works so long."""
    clock.watch(seconds)
    try:
        await asyncio.sleep(work_s)
    except asyncio.CancelledError:
        if not clock.forget():
            raise
        return "late"
    clock.forget()
    await asyncio.sleep(seconds + 3 * TICK_S)
    return "in time"


async def test_what_is_late_is_cancelled_and_what_is_not_is_left_alone() -> None:
    clock = Deadlines()
    loop = asyncio.get_running_loop()
    start = loop.time()
    ends = await asyncio.gather(*(late(clock, 0.1, work) for work in (0.0, 0.02, 9.0, 9.0)))
    assert ends == ["in time", "in time", "late", "late"]
    assert loop.time() - start < 1
    assert clock._ticking is None
    assert not clock._due
    assert not clock._expired


async def test_a_new_deadline_replaces_the_old_one() -> None:
    clock = Deadlines()

    async def twice() -> str:
        clock.watch(0.05)
        clock.watch(5)
        await asyncio.sleep(0.2)
        return "alive" if not clock.forget() else "late"

    assert await asyncio.create_task(twice()) == "alive"


async def test_another_cancellation_is_not_taken_for_a_deadline() -> None:
    task = asyncio.create_task(late(Deadlines(), 5, 5))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_a_deadline_the_task_can_await_again() -> None:
    clock = Deadlines()

    async def answers() -> str:
        clock.watch(0.02)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            assert clock.forget()
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await asyncio.sleep(0.01)
        return "answered"

    assert await asyncio.create_task(answers()) == "answered"
