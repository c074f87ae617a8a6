"""When a crashed child is started again: pure arithmetic over a clock that the caller reads."""

FIRST_S = 0.5
LONGEST_S = 30.0
CALM_S = 30.0
"""After living this long, a child's next crash waits the first delay again."""


class Restarts:
    """One child's crashes. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.due_at: float | None = None
        """When to start it, while it is down."""
        self.returning = False
        """Started again and not yet ready."""
        self._delay_s = FIRST_S
        self._started_at = float("-inf")
        self._ended_at = 0.0

    def ended(self, now: float) -> float:
        """It ended: returns in how many seconds it starts again."""
        calm = now - self._started_at >= CALM_S
        self._delay_s = FIRST_S if calm else min(self._delay_s * 2, LONGEST_S)
        self._ended_at = self._ended_at if self.returning else now
        self.due_at = now + self._delay_s
        return self._delay_s

    def started(self, now: float) -> None:
        """It was started again."""
        self.due_at, self.returning, self._started_at = None, True, now

    def back(self, now: float) -> float:
        """It is ready: returns how many seconds it was away."""
        self.returning = False
        return now - self._ended_at
