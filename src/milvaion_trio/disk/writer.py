"""One thread that does what a file asks for, in order, so that no disk ever stops the jobs.

Separate from the stores, which know no threads, and from their owners, which never wait for it: they hand work over and
are called back in Trio's thread. A simulation puts a writer of its own in this place, without a thread.
"""

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol, TypeAlias

import trio
from attrs import define, field

__all__ = ["Done", "OpenWriter", "Work", "Writer", "open_writer"]

Work: TypeAlias = Callable[[], object]
Done: TypeAlias = Callable[[object, Exception | None], None]

LEAVE_TIMEOUT = 0.5
"""Seconds to close the file on leaving. A disk that is slower keeps its thread, which ends with the process."""


class Writer(Protocol):
    """Does work in order, one after the other."""

    def submit(self, work: Work, done: Done) -> None:
        """Do the work later, then call `done` in Trio's thread with what it returned, or with what it raised."""


OpenWriter: TypeAlias = Callable[[], AbstractAsyncContextManager[Writer]]


@define(eq=False)
class _Thread:
    """Implements `Writer` with a thread of its own: Trio's are for anybody, and may all be taken by jobs."""

    _token: trio.lowlevel.TrioToken
    _work: "queue.SimpleQueue[tuple[Work, Done] | None]" = field(factory=queue.SimpleQueue, init=False)
    ended: trio.Event = field(factory=trio.Event, init=False)

    def submit(self, work: Work, done: Done) -> None:
        """Hand it over."""
        self._work.put((work, done))

    def leave(self) -> None:
        """End when everything that was handed over is done."""
        self._work.put(None)

    def run(self) -> None:
        """Work until told to leave. The thread's function."""
        while (item := self._work.get()) is not None:
            work, done = item
            try:
                call = partial(done, work(), None)
            except Exception as error:
                call = partial(done, None, error)
            self._tell(call)
        self._tell(self.ended.set)

    def _tell(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # a disk that was too slow for the shutdown: nobody waits
            self._token.run_sync_soon(call)


@asynccontextmanager
async def open_writer() -> AsyncIterator[Writer]:
    """A writer for as long as the context is open. On leaving, cancelled or not, what was handed over is done first."""
    worker = _Thread(trio.lowlevel.current_trio_token())
    # A daemon: a disk that answers nothing must not keep the process from ending.
    thread = threading.Thread(target=worker.run, name="disk", daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.leave()
        with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
            await worker.ended.wait()
            thread.join()  # it is on its last line; a host may count its threads
