"""One thread that does what a file asks for, in order, so that no disk stops the jobs for longer than a turn.

Separate from the stores, which know no threads, and from their owners, which never wait for it: they hand work over and
are called back in Trio's thread. A simulation puts a writer of its own in this place, without a thread.

Trio's thread stands still for a moment when it hands large work over, unless the disk is slow. Otherwise both want the
interpreter at the same time: each time that Trio's thread lets go of it, for every little system call, the other one
is woken on another core and comes too late. That was two futex calls for each job, and up to a tenth of its CPU.
"""

import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, TypeAlias

import trio
from attrs import define, field

__all__ = ["Done", "OpenWriter", "Work", "Writer", "open_writer"]

Work: TypeAlias = Callable[[], object]
Done: TypeAlias = Callable[[object, Exception | None], None]

LEAVE_TIMEOUT: Final = 0.5
"""Seconds to close the file on leaving. A disk that is slower keeps its thread, which ends with the process."""
TURN: Final = 0.005
"""Seconds for which Trio's thread stands still at most: the turn that the interpreter gives to any thread."""
PROMPT: Final = 0.002
"""Seconds that a disk may take to be waited for; a write without fsync needs no time, and with it 0.2 ms here."""
UNATTENDED: Final = 4
"""Pieces of large work that are not waited for after one for which that was in vain; after each more, twice as many."""
MOST_UNATTENDED: Final = 1_024
"""Of them: half a minute of full load, in which a disk that is slow costs a turn."""


class Writer(Protocol):
    """Does work in order, one after the other."""

    def submit(self, work: Work, done: Done, *, is_large: bool = False) -> None:
        """Do the work later, then call `done` in Trio's thread with what it returned, or with what it raised.

        `is_large`: it computes for a while, so it may pay to stand still until it is done.
        """


class _Attended:
    """A piece of work for which Trio's thread stands still."""

    def __init__(self) -> None:
        self._is_going_on = threading.Lock()
        self._is_going_on.acquire()
        self._waited = 0.0

    def until_over(self) -> bool:
        """Stand still until it is over, or a turn is; `False` where the disk is too slow to be waited for."""
        return self._is_going_on.acquire(timeout=TURN) and self._waited <= PROMPT

    def begin(self) -> None:
        """In the thread: what it does from now on is measured."""
        self._waited = time.thread_time() - time.perf_counter()

    def end(self) -> None:
        """In the thread: it is over. The time in which nothing was computed was the disk's, or another thread's."""
        self._waited += time.perf_counter() - time.thread_time()
        self._is_going_on.release()


OpenWriter: TypeAlias = Callable[[], AbstractAsyncContextManager[Writer]]


@define(eq=False)
class _Thread:
    """Implements `Writer` with a thread of its own: Trio's are for anybody, and may all be taken by jobs."""

    _token: trio.lowlevel.TrioToken
    _work: "queue.SimpleQueue[tuple[Work, Done, _Attended | None] | None]" = field(
        factory=queue.SimpleQueue, init=False
    )
    _unattended: int = field(default=0, init=False)
    """How many pieces of large work are not waited for."""
    _next_unattended: int = field(default=UNATTENDED, init=False)
    """How many it will be, should it be in vain again."""
    ended: trio.Event = field(factory=trio.Event, init=False)

    def submit(self, work: Work, done: Done, *, is_large: bool = False) -> None:
        """Hand it over. Large work may be done when this returns; `done` is called later in any case."""
        attended = None
        if is_large and self._unattended:
            self._unattended -= 1
        elif is_large:
            attended = _Attended()
        self._work.put((work, done, attended))
        if attended is None:
            return
        if attended.until_over():
            self._next_unattended = UNATTENDED
        else:
            self._unattended = self._next_unattended
            self._next_unattended = min(2 * self._next_unattended, MOST_UNATTENDED)

    def leave(self) -> None:
        """End when everything that was handed over is done."""
        self._work.put(None)

    def run(self) -> None:
        """Work until told to leave. The thread's function."""
        while (item := self._work.get()) is not None:
            work, done, attended = item
            if attended is not None:
                attended.begin()
            try:
                call = partial(done, work(), None)
            except Exception as error:
                call = partial(done, None, error)
            self._tell(call)
            if attended is not None:
                attended.end()
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
