"""The processes of a worker as the system sees them: who they are, what CPU and memory they took, how they end.

CPU is read from the clock that Linux keeps for every process, to the nanosecond, ended threads included.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["cpu_seconds", "end", "family", "resident_megabytes", "until"]

KILLING = 5.0
"""Seconds for the system to end what was killed."""


def family(pid: int) -> list[int]:
    """The process and all that it started, children of children included, as far as they live."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            found.append(pid)
            for task in tasks:
                with contextlib.suppress(OSError):
                    waiting += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of those that live."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of a process, clock_getcpuclockid(3)
    return total


def resident_megabytes(pids: Iterable[int]) -> float:
    """Resident memory; what several processes share is counted in parts that make one whole."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 1024


def until(happened: Callable[[], bool], deadline: float, interval: float = 0.01) -> bool:
    """Whether it happened before that reading of the monotonic clock."""
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def end(leader: subprocess.Popen[bytes], patience: float = 15.0) -> bool:
    """Ask it to leave, wait, and kill what of its family is still there; whether it left by itself."""
    members = {pid: _born(pid) for pid in family(leader.pid)}
    if leader.poll() is None:
        leader.send_signal(signal.SIGTERM)
    left = until(lambda: leader.poll() is not None, time.monotonic() + patience)
    remaining = [pid for pid, born in members.items() if born and _born(pid) == born]
    for pid in remaining:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    leader.wait()
    until(lambda: all(_born(pid) != members[pid] for pid in remaining), time.monotonic() + KILLING)
    return left


def _born(pid: int) -> str:
    """When the process was started, which tells it from a later one of the same number; nothing when it is no more."""
    with contextlib.suppress(OSError):
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if facts[0] != "Z":
            return facts[19]  # starttime, proc(5)
    return ""
