"""When a crashed child is started again."""

from gateway.local.restart import CALM_S, FIRST_S, LONGEST_S, Restarts


def crash(restarts: Restarts, now: float, lived_s: float) -> tuple[float, float]:
    """Start it again when due, let it live, let it end: the new delay and the time."""
    restarts.started(now)
    return restarts.ended(now + lived_s), now + lived_s


def test_the_first_crash_waits_little() -> None:
    restarts = Restarts()
    assert restarts.ended(100.0) == FIRST_S
    assert restarts.due_at == 100.0 + FIRST_S


def test_crash_after_crash_waits_twice_as_long_up_to_a_limit() -> None:
    restarts, now = Restarts(), 0.0
    delays = [restarts.ended(now)]
    for _ in range(8):
        delay, now = crash(restarts, now + delays[-1], 0.2)
        delays.append(delay)
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_S, LONGEST_S, LONGEST_S]


def test_a_calm_life_forgets_the_crashes_before_it() -> None:
    restarts = Restarts()
    restarts.ended(0.0)
    assert crash(restarts, 1.0, 1.0)[0] == 2 * FIRST_S
    assert crash(restarts, 3.0, CALM_S)[0] == FIRST_S


def test_time_away_counts_from_the_first_of_several_crashes() -> None:
    restarts = Restarts()
    restarts.ended(10.0)
    _, now = crash(restarts, 10.5, 0.5)
    restarts.started(now + 1)
    assert restarts.returning
    assert restarts.back(14.0) == 4.0
    assert not restarts.returning
