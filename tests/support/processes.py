"""Whether processes still run, as far as the system can tell, and waiting for what tells nobody that it happened."""

import os
from collections.abc import Callable
from pathlib import Path

import trio

__all__ = ["is_alive", "none_alive", "numbers_in", "until"]


async def until(happened: Callable[[], object]) -> None:
    """Return when it happened. If cancelled, nothing changes."""
    while not happened():  # noqa: ASYNC110  # by another process, which sets no event here
        await trio.sleep(0.01)


def is_alive(number: int) -> bool:
    """Whether the process runs; one that only nobody has reaped yet does not."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def none_alive(*numbers: int) -> None:
    """Return when none of them runs. If cancelled, nothing changes."""
    await until(lambda: not any(map(is_alive, numbers)))


async def numbers_in(path: Path) -> list[int]:
    """The numbers in a file, once it is there. If cancelled, nothing changes."""
    await until(path.exists)
    return [int(number) for number in (await trio.Path(path).read_text()).split()]
