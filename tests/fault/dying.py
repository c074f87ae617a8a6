"""Dies at the n-th thing it does to the disk: `python -m tests.fault.dying DSN FOLDER SKEY TRIALS`.

A forked child opens the log and signs, and an audit hook of the interpreter kills it with SIGKILL just before its n-th
opening, linking, renaming, removing or making of a file, or of the SQLite memory: each write is so reached from both
sides, since the next number dies after it. Prints, for each child, how it ended.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg

from gateway import telemetry
from gateway.ledger import sequencer as module
from gateway.ledger.note import Signer
from gateway.ledger.sequencer import Log, Sequencer

WRITES = frozenset({"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect"})
AT_MOST = 45
"""Writes of an opening and two checkpoints; a number beyond them ends by itself."""
A_CHECKPOINT = 3


def arm(n: int) -> None:
    """From now on, die before the n-th write."""
    left = n

    def watch(event: str, values: tuple[object, ...]) -> None:
        nonlocal left
        flags = values[2] if event == "open" and len(values) > 2 else 0
        if event in WRITES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


async def sign(dsn: str, log: Log) -> None:
    """Open, and sign twice."""
    connection = await asyncpg.connect(dsn)
    one = Sequencer(dsn, log)
    await one.open(connection)
    for _ in range(2):
        await one.sequence(connection)


def main(dsn: str, folder: str, skey: str, trials: int) -> None:
    """So many children, one after the other."""
    module.MOST = A_CHECKPOINT
    telemetry.configure_logging("error")
    for trial in range(trials):
        child = os.fork()
        if child == 0:
            arm(trial % AT_MOST + 1)
            asyncio.run(sign(dsn, Log(Path(folder), [Signer(skey)])))
            os._exit(0)
        _, how = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(how), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
