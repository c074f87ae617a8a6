"""How far a partition may be committed while its records finish in any order. Pure."""

from collections import deque


class Progress:
    """The records of one partition that are begun and not yet committed past.

    Offsets begin in rising order; they need not be dense.
    """

    __slots__ = ("_done", "_next", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None

    def __len__(self) -> int:
        """Records begun and not finished, or finished behind one that is not."""
        return len(self._open)

    @property
    def position(self) -> int | None:
        """The offset to commit: everything below it is finished. None before the first record."""
        return self._open[0] if self._open else self._next

    def begin(self, offset: int) -> None:
        """A record is handed to its work."""
        if self._next is not None and offset < self._next:
            raise ValueError("offsets begin in rising order")
        self._open.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """A record's work is done, or the record is buried."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())
