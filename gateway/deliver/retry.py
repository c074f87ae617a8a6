"""When a message that the carrier certainly did not take is tried again. Pure: time and chance come in as arguments.

A schedule belongs to a cause, because causes pass at their own pace: a full window in a second, a frequency cap in an
hour. The carrier's own word (`after_s`) can only make the wait longer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from gateway.contract.decision import Cause

WAIT_HERE_S = 1.0
"""Retries due sooner wait in the process that has the message; later ones go to `messages.held`."""


class Schedule(NamedTuple):
    """Waits of `first_s * factor^k`, none above `at_most_s`, for `attempts` attempts in all."""

    attempts: int
    first_s: float
    factor: float
    at_most_s: float


SCHEDULES: Mapping[Cause, Schedule] = MappingProxyType(
    {
        Cause.FLOW: Schedule(attempts=24, first_s=0.25, factor=2.0, at_most_s=900.0),
        Cause.TRANSIENT: Schedule(attempts=5, first_s=5.0, factor=4.0, at_most_s=900.0),
        Cause.FREQUENCY: Schedule(attempts=4, first_s=3600.0, factor=2.0, at_most_s=14_400.0),
        Cause.QUIET_HOURS: Schedule(attempts=16, first_s=3600.0, factor=1.0, at_most_s=3600.0),
    }
)
"""Flow: about four hours in all, so an hour of a carrier's outage rejects nobody. Other causes are not tried again."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again at `due_ms`; `here_s` is the wait where it is short enough to stay in this process, else None."""

    due_ms: int
    here_s: float | None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt; `expired` when the message's own end came first, otherwise the schedule's."""

    expired: bool


def next_attempt(
    attempt: int, cause: Cause, after_s: float | None, *, now_ms: int, expires_at_ms: int, chance: float
) -> Again | GiveUp:
    """What follows a failed `attempt` (counted from 1). `chance` in 0..1 spreads the waits by up to a fifth."""
    schedule = SCHEDULES.get(cause)
    if schedule is None or attempt >= schedule.attempts:
        return GiveUp(expired=False)
    wait_s = min(schedule.first_s * schedule.factor ** (attempt - 1), schedule.at_most_s)
    wait_s = max(wait_s * (1 + chance / 5), after_s or 0.0)
    due_ms = now_ms + round(wait_s * 1000)
    if due_ms >= expires_at_ms:
        return GiveUp(expired=True)
    return Again(due_ms, wait_s if wait_s <= WAIT_HERE_S else None)
