"""Ways in which a job takes its whole process with it, by the word in its data, and its neighbour that is innocent.

Separate from the other endings, as nothing after these happens: no `finally`, no report, no line in the effects file.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from milvaion_trio import JobContext
from torture.expectations import Act

__all__ = ["DEATHS", "live_beside"]

ROOM: Final = 64 * 1024 * 1024
"""Bytes that a job may take before its process runs out of memory."""
NEIGHBOUR: Final = {1: 10.0, 2: 1.0}
"""Seconds that an innocent job lasts in these runs: until poison has come, and come again; then a moment."""


async def leave(ctx: JobContext, act: Act) -> str:
    """Call `os._exit`, as a library in despair does. If cancelled, it ends."""
    os._exit(70)


async def kill_itself(ctx: JobContext, act: Act) -> str:
    """Die as the kernel kills where memory runs out. If cancelled, it ends."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


async def crash(ctx: JobContext, act: Act) -> str:
    """Read where no memory is, as broken native code does; without a core file. If cancelled, it ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return ctypes.string_at(0).decode()


async def run_out_of_memory(ctx: JobContext, act: Act) -> str:
    """Take memory up to a limit of the process, and leave when there is none. If cancelled, it ends."""
    limit = _size() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    taken: list[bytearray] = []
    try:
        while True:
            taken.append(bytearray(ROOM // 16))
    except MemoryError:
        os._exit(137)


async def live_beside(ctx: JobContext, act: Act) -> str:
    """Last long enough to be there when the process dies. If cancelled, it ends."""
    await trio.sleep(NEIGHBOUR.get(ctx.run_number, 0.1))
    return "innocent"


def _size() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


DEATHS: Final[Mapping[str, Callable[[JobContext, Act], Awaitable[str]]]] = {
    "exit": leave,
    "kill": kill_itself,
    "crash": crash,
    "memory": run_out_of_memory,
}
