"""The sequencer killed at each of its writes, two hundred times: what was signed stays signed, and is one history."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.ledger.checking import Checking
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.sequencer import CHECKPOINT
from tests.integration.tree_rig import KEYS, SKEY, consistent, ground

pytestmark = pytest.mark.fault

TRIALS = int(os.environ.get("ASSENT_KILLS", "200"))
ROOT = Path(__file__).parents[2]


async def test_killed_at_each_write_it_signs_one_history(
    postgres_url: str, migrated: str, redis_url: str, tmp_path: Path
) -> None:
    async with ground(postgres_url, migrated, redis_url, tmp_path) as here:
        await here.append(500)
        await here.append(TRIALS * 6 - 500)
        roots = await here.roots()
        words = [sys.executable, "-m", "tests.fault.dying", here.dsn, str(here.folder), SKEY, str(TRIALS)]
        child = await asyncio.create_subprocess_exec(
            *words, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        ends: Counter[str] = Counter()
        signed: list[Checkpoint] = []
        published: list[Checkpoint] = []
        async for line in child.stdout:
            ends[line.decode().strip()] += 1
            if (one := here.signed()) is not None:
                signed.append(one)
            if (here.folder / CHECKPOINT).exists():
                published.append(here.published())
            child.stdin.write(b"\n")
        assert await child.wait() == 0
        assert sum(ends.values()) == TRIALS
        assert ends[str(-signal.SIGKILL)] >= TRIALS // 2, ends
        assert set(ends) <= {"0", str(-signal.SIGKILL)}, ends
        assert consistent(roots, signed)
        assert consistent(roots, published)
        last = await here.sequenced()
        assert (last.size, last.root) == (len(roots) - 1, roots[-1])
        async with here.connection() as connection:
            checking = Checking(connection, here.log(), lambda _stage, _done, _total: None)
            await checking.run()
            assert (await checking.deep(KEYS)).told == []
        print(f"{dict(ends)}, {len({one.size for one in signed})} sizes signed")
