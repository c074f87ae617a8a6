"""Slots: the window holds, the rate holds, urgent classes always find room."""

import asyncio
import time

import pytest

from gateway.contract.decision import Class
from gateway.deliver.slots import Slots

CODE, SHIP, AD = Class.VERIFICATION, Class.TRANSACTIONAL, Class.MARKETING


async def waits(slots: Slots, n: int, cls: Class) -> asyncio.Task[None]:
    task = asyncio.create_task(slots.take(n, cls))
    await asyncio.sleep(0)
    return task


async def test_a_campaign_leaves_a_third_for_codes() -> None:
    slots = Slots("c", window=100, rate=1e6)
    for _ in range(7):
        await slots.take(10, AD)
    ad = await waits(slots, 1, AD)
    assert not ad.done()
    await slots.take(10, CODE)
    await slots.take(20, SHIP)
    assert slots.used == 100
    code = await waits(slots, 1, CODE)
    assert not code.done()
    slots.free(10, AD)
    await asyncio.wait_for(code, 1)
    await asyncio.wait_for(ad, 1)
    assert slots.used == 92


async def test_the_urgent_are_served_first_and_a_big_take_is_not_starved() -> None:
    slots = Slots("c", window=10, rate=1e6)
    await slots.take(7, AD)
    ad = await waits(slots, 1, AD)
    code = await waits(slots, 9, CODE)
    slots.free(1, AD)
    await asyncio.sleep(0)
    assert not ad.done(), "a small patient take overtook a big urgent one"
    slots.free(6, AD)
    await asyncio.wait_for(code, 1)
    slots.free(9, CODE)
    await asyncio.wait_for(ad, 1)


async def test_a_cancelled_wait_leaks_nothing() -> None:
    slots = Slots("c", window=4, rate=1e6)
    await slots.take(4, CODE)
    waiting = [await waits(slots, 2, CODE) for _ in range(3)]
    waiting[0].cancel()
    slots.free(4, CODE)  # grants 1 and 2 while 0 is being cancelled
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert waiting[2].exception() is None
    assert slots.used == 2
    slots.free(2, CODE)
    await asyncio.wait_for(slots.take(4, CODE), 1)


async def test_the_rate_holds_and_a_batch_fits_it() -> None:
    slots = Slots("c", window=10_000, rate=2000)
    start, n, most = time.monotonic(), 0, slots.most(AD)
    while time.monotonic() - start < 0.5:
        await slots.take(most, AD)
        n += most
    # 70 % of the rate for half a second, a burst of a quarter's worth, and the last take's overdraft
    assert 0.5 * 1400 * 0.7 <= n <= 0.8 * 1400 + 2 * most


@pytest.mark.parametrize(("window", "rate", "cls", "most"), [
    (2000, 20_000, CODE, 64), (10, 20_000, CODE, 10), (10, 20_000, AD, 7), (2000, 10, CODE, 2), (1, 1, AD, 1),
])  # fmt: skip
def test_the_most_one_take_may_ask(window: int, rate: float, cls: Class, most: int) -> None:
    assert Slots("c", window=window, rate=rate).most(cls) == most


async def test_a_carrier_that_takes_nothing_is_left_alone_for_longer_and_longer() -> None:
    now = [0.0]
    slots = Slots("c", window=10, rate=1e6, clock=lambda: now[0])
    pauses = []
    for _ in range(8):
        slots.back_off()
        waiting = await waits(slots, 1, CODE)
        assert not waiting.done()
        start = now[0]
        while not waiting.done():
            now[0] += 0.05
            slots._serve()
            await asyncio.sleep(0)
        pauses.append(round(now[0] - start, 1))
        slots.free(1, CODE)
    assert pauses == sorted(pauses)
    assert pauses[0] <= 0.2
    assert pauses[-1] == pytest.approx(5.0, abs=0.2)
    slots.recovered()
    slots.back_off(0.3)
    waiting = await waits(slots, 1, CODE)
    assert not waiting.done()
    waiting.cancel()
