"""Outboxes on disk for tests: with a thread as in life, or without one, so that a virtual clock never overtakes it."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

import trio
from attrs import define, field
from tests.support.folders import new_folder

from milvaion_trio.disk.writer import Done, OpenWriter, Work, Writer, open_writer
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.file import OutboxFile

__all__ = ["HeldWriter", "InPlaceWriter", "disk_outbox", "in_place", "outbox_file"]

_boots = count(1)


@define(eq=False)
class InPlaceWriter:
    """Does the work at once, and tells in the next pass of the scheduler, as a quick disk would."""

    _nursery: trio.Nursery
    works: int = field(default=0, init=False)

    def submit(self, work: Work, done: Done, *, is_large: bool = False) -> None:
        self.works += 1
        try:
            value, error = work(), None
        except Exception as raised:
            value, error = None, raised
        self._nursery.start_soon(_call, partial(done, value, error))


async def _call(done: Callable[[], None]) -> None:
    done()


@asynccontextmanager
async def in_place() -> AsyncIterator[Writer]:
    """An `OpenWriter` without a thread."""
    async with trio.open_nursery() as nursery:
        yield InPlaceWriter(nursery)


@define(eq=False)
class HeldWriter:
    """A disk that hangs when it is told to: what is handed over then waits until it is let go."""

    is_held: bool = False
    waiting: deque[tuple[Work, Done]] = field(factory=deque, init=False)
    large: list[bool] = field(factory=list, init=False)
    """Of all that was handed over, whether it was said to be."""
    _nursery: trio.Nursery | None = field(default=None, init=False)

    def submit(self, work: Work, done: Done, *, is_large: bool = False) -> None:
        self.waiting.append((work, done))
        self.large.append(is_large)
        if not self.is_held:
            self.let_go()

    def let_go(self, count: int | None = None) -> None:
        """Do what waits, or so many of it."""
        assert self._nursery is not None
        if count is None:
            self.is_held, count = False, len(self.waiting)
        for _ in range(count):
            InPlaceWriter(self._nursery).submit(*self.waiting.popleft())

    def work_late(self) -> None:
        """Do what waits, and tell nobody: the outbox was left long ago."""
        while self.waiting:
            self.waiting.popleft()[0]()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Writer]:
        """As an `OpenWriter`. On leaving nothing is waited for: whoever asks may be told that it hangs."""
        async with trio.open_nursery() as self._nursery:
            yield self


def outbox_file(path: Path | None = None, *, durability: str = "NORMAL") -> OutboxFile:
    """A file as a new process would open it; in a folder of its own unless said."""
    path = path or new_folder() / "tests.outbox.db"
    return OutboxFile(path, durability, f"boot {next(_boots)}")


def disk_outbox(
    path: Path | None = None, *, writer: OpenWriter = open_writer, durability: str = "NORMAL"
) -> DiskOutbox:
    """An outbox of a new process."""
    return DiskOutbox(outbox_file(path, durability=durability), open_writer=writer)
