"""What processes used, as Linux counts it: CPU time of all their threads, and memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CPU_OF_PROCESS = 2
_PROC = Path("/proc")
_RESET_PEAK = "5"  # proc_pid_clear_refs(5)


def is_available() -> bool:
    """Tell whether this system counts as Linux does."""
    return (_PROC / "self" / "clear_refs").exists()


def cores() -> int:
    """Return how many cores this process, and so everything that it starts, may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all its threads since its start, exact to a microsecond.

    /proc counts in hundredths of a second, which is more than a trickle costs. clock_getcpuclockid(3) makes the
    number of a process's own clock in this way.
    """
    return time.clock_gettime(~pid << 3 | _CPU_OF_PROCESS)


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process now."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the most resident memory that a process had since its start or the last `reset_peak`."""
    return _status_mib(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Let the peak begin again at what is resident now."""
    (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)


def _status_mib(pid: int, field: str) -> float:
    lines = (_PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


class Meter:
    """CPU seconds of named groups of processes since it was made."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._started = self._read()

    def used(self) -> dict[str, float]:
        """Return the CPU seconds by name."""
        now = self._read()
        return {name: now[name] - self._started[name] for name in now}

    def _read(self) -> dict[str, float]:
        return {name: sum(cpu_seconds(pid) for pid in pids) for name, pids in self._pids.items()}
