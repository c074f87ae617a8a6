"""What was refused since the last second, by sender and code: plain integers, for the board.

Bounded: a sender that is not in the registry counts as `-`, and codes are a closed set. A crash loses one second of it.
"""

from gateway.contract.codes import Code

NOBODY = "-"


class Refused:
    """The tally of one process."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Code], int] = {}

    def add(self, sender: str, code: Code, n: int = 1) -> None:
        """Count refusals. `sender`: a known one, or `NOBODY`."""
        named = (sender, code)
        self._seen[named] = self._seen.get(named, 0) + n

    def take(self) -> dict[tuple[str, Code], int]:
        """What gathered; it begins anew."""
        seen, self._seen = self._seen, {}
        return seen
