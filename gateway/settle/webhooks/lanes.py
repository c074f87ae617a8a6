"""How much of each lane is under way: a lane is one client at one receiver.

Owns counts in memory. Promises: at most `WIDEST` calls of a lane at once, and one only while it fails, so that a
receiver that hangs holds one place of many and delays nobody but itself. A lane that answers again widens again, each
success by one. A crash loses the widths; they are learned anew.
"""

from collections import OrderedDict

WIDEST = 32
NEW = 2
"""Calls at once at first."""
MOST_KEPT = 1_000


class Lane:
    """One lane: calls under way, and how many there may be."""

    __slots__ = ("under_way", "width")

    def __init__(self) -> None:
        self.under_way, self.width = 0, NEW

    def __repr__(self) -> str:
        """Show both."""
        return f"Lane({self.under_way} of {self.width})"


class Lanes:
    """All of them."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[bytes, Lane] = OrderedDict()
        self.under_way = 0

    def rooms(self) -> dict[bytes, int]:
        """How many more may begin in each lane that is known; a lane that is not known has `NEW`."""
        return {name: max(0, lane.width - lane.under_way) for name, lane in self._lanes.items()}

    def begin(self, name: bytes) -> None:
        """A call begins."""
        lane = self._lanes.setdefault(name, Lane())
        self._lanes.move_to_end(name)
        lane.under_way += 1
        self.under_way += 1
        if len(self._lanes) > MOST_KEPT:
            self._forget()

    def end(self, name: bytes, *, answered: bool) -> None:
        """A call ended. `answered`: the receiver took it in."""
        lane = self._lanes[name]
        lane.under_way -= 1
        self.under_way -= 1
        lane.width = min(lane.width + 1, WIDEST) if answered else 1

    def _forget(self) -> None:
        """Drop the lane that was used longest ago and is quiet."""
        for name, lane in self._lanes.items():
            if not lane.under_way:
                del self._lanes[name]
                return
