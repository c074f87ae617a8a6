"""CPU time and memory of running processes, from the kernel's own counters.

A process counts with everything it started, its ended children included: PostgreSQL is a server and its backends. The
kernel counts in ticks of 10 ms, so a figure needs seconds of work behind it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

TICKS_S = os.sysconf("SC_CLK_TCK")
STAT_AFTER_NAME = 11
"""Fields of /proc/<pid>/stat between the closing bracket and utime."""


def stat_cpu_s(line: str) -> float:
    """CPU time (utime + stime) of a process and of its ended, waited-for children, from a line of /proc/<pid>/stat."""
    fields = line.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[STAT_AFTER_NAME : STAT_AFTER_NAME + 4]) / TICKS_S


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used."""
    total = 0.0
    pids = [pid]
    with suppress(psutil.NoSuchProcess):
        pids += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    for one in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            total += stat_cpu_s(Path(f"/proc/{one}/stat").read_text())
    return total


def rss_mb(pid: int) -> float:
    """A process's resident memory, in MB (10^6 bytes)."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


class Meter:
    """What some processes used between two looks."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {name: cpu_s(pid) for name, pid in self._pids.items()}

    def spent(self) -> dict[str, float]:
        """Seconds of CPU by process since this meter was made."""
        return {name: cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}


def machine() -> str:
    """Cores, processor, kernel: one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        "unknown processor",
    )
    return f"{len(os.sched_getaffinity(0))} cores, {model}, {os.uname().sysname} {os.uname().release}"
