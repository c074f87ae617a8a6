"""A writer of tiles killed at any moment: each last checkpoint still has all of its tiles, and they are right."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.ledger.growing import edge_of
from gateway.ledger.merkle import Frontier, leaf_hash
from gateway.ledger.tiles import Tiles

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

KILLS = 200 if os.environ.get("ASSENT_LONG") else 25
ROOT = Path(__file__).parents[2]
WRITER = """
import os, random, sys
from pathlib import Path
from gateway.ledger.growing import edge_of, grow
from gateway.ledger.tiles import Tiles

folder = Path(sys.argv[1])
tiles, head = Tiles(folder / "log"), folder / "head"
tiles.sweep()
edge = edge_of(int(head.read_text()), tiles.read)
print("began", flush=True)
while True:
    edge, writes = grow(edge, [b"%d" % n for n in range(edge.size, edge.size + random.choice([1, 7, 100, 256, 600]))])
    tiles.write(writes)
    (folder / "next").write_text(str(edge.size))
    os.replace(folder / "next", head)
"""


def test_a_killed_writer_leaves_the_tiles_of_its_last_checkpoint(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, head, tiles = random.Random(seed), tmp_path / "head", Tiles(tmp_path / "log")
    head.write_text("0")
    frontier, before = Frontier(), 0
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"began\n", writer.communicate()[1].decode()
        time.sleep(chance.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=10)
        assert writer.returncode == -signal.SIGKILL
        size = int(head.read_text())
        assert size >= before
        for n in range(before, size):
            frontier.append(leaf_hash(b"%d" % n))
        assert edge_of(size, tiles.read).frontier() == frontier
        before = size
    assert before > 0
    for index in range(before // 256):
        assert tiles.entries(index, before) == [b"%d" % n for n in range(index * 256, index * 256 + 256)]
