"""The last checkpoint that was signed, kept outside of PostgreSQL so that a restored or forked database is noticed.

One SQLite file, one row a log. It moves by compare-and-set: whoever signs says what was signed before, and of two
sequencers that both believe to be the only one, one is told no. What `swap` says is done is on disk.

A crash leaves the old row or the new one. A lost file is a lost log: see `opening`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PATIENCE_S = 5.0
TABLE = "CREATE TABLE IF NOT EXISTS signed (origin TEXT PRIMARY KEY, note BLOB NOT NULL) STRICT"
FIRST = "INSERT INTO signed (origin, note) VALUES (?, ?) ON CONFLICT DO NOTHING"
NEXT = "UPDATE signed SET note = ? WHERE origin = ? AND note = ?"


class Signed:
    """The file. Calls block for some fsyncs: not for the event loop. Raises sqlite3.Error, e.g. on a full disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, origin: str) -> bytes | None:
        """The signed note of this log; none when it never signed, or its memory is lost."""
        if not self._path.exists():
            return None
        with self._open() as database:
            row = database.execute("SELECT note FROM signed WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else row[0]

    def swap(self, origin: str, old: bytes | None, new: bytes) -> bool:
        """Make `new` the last one if `old` still is; whether it was. `old` none: nothing was ever signed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            if old is None:
                return database.execute(FIRST, (origin, new)).rowcount == 1
            return database.execute(NEXT, (new, origin, old)).rowcount == 1

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = EXTRA")
            database.execute(TABLE)
            yield database
