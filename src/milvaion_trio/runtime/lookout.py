"""A watch over the event loop: a job that blocks it is named, while it does.

Separate because it stands in a thread of its own: while the loop is blocked no task can tell. What the loop stands in
is read from its thread's stack, once and only then; a watch over every task would cost every job.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Final

import trio
from attrs import define

from milvaion_trio.runtime.definition import RunMode
from milvaion_trio.runtime.registry import Registry
from milvaion_trio.runtime.runs import Runs

__all__ = ["Lookout"]

INTERVAL: Final = 5.0
"""Seconds between two calls to the loop: so what blocks it for 7 s is told, well before RabbitMQ has missed it for two
heartbeats (20 s) and drops the connection."""

LOOK: Final = 0.5
"""Seconds of one wait for its answer, which takes a millisecond."""

LOOKS: Final = 4
"""Waits in a row: a process that was stopped meanwhile, or a machine that slept, has lost only one of them."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False, kw_only=True)
class Lookout:
    """Calls to the loop from a thread, and says who blocks it where no answer comes.

    Code that keeps Python's own lock, in C, blocks this thread too, and is not seen.
    """

    registry: Registry
    runs: Runs

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the loop that this is called in, while the context is open."""
        token, loop, left = trio.lowlevel.current_trio_token(), threading.get_ident(), threading.Event()
        thread = threading.Thread(target=self._watch, args=(token, loop, left), name="lookout", daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join(LOOK)  # it ends at once, unless it waits for an answer just now

    def _watch(self, token: trio.lowlevel.TrioToken, loop: int, left: threading.Event) -> None:
        while not left.wait(INTERVAL):
            answered, called = threading.Event(), time.monotonic()
            try:
                token.run_sync_soon(answered.set)
            except trio.RunFinishedError:
                return
            if any(answered.wait(LOOK) or left.is_set() for _ in range(LOOKS)):
                continue
            _log.warning(
                "the event loop has been blocked for %.0f s at least by %s: no other job or report goes on meanwhile; "
                "await instead, or make the job a plain `def`, which runs in a thread",
                time.monotonic() - called,
                self._who(sys._current_frames().get(loop)),  # documented, and the only way to see it
            )
            while not answered.wait(LOOK):
                if left.is_set():
                    return
            _log.info("the event loop goes on, after %.0f s at least", time.monotonic() - called)

    def _who(self, innermost: FrameType | None) -> str:
        """The job whose function is on this stack, and where it stands; or where it stands, and the jobs that run."""
        running = self._on_the_loop()
        codes, frame = self._codes(), innermost
        while frame is not None:
            # One that does not run was called by another, as a function.
            if names := [each for each in codes.get(frame.f_code, ()) if each in running]:
                inside = "" if frame is innermost else f", in {_place(innermost)}"
                return f"job {' or '.join(names)} ({_place(frame)}{inside})"
            frame = frame.f_back
        others = ", ".join(running) or "none"
        return f"{_place(innermost)}, which is in no job's own function (jobs that run on it: {others})"

    def _codes(self) -> Mapping[CodeType, list[str]]:
        """The names of the jobs with this code: a function may be several jobs, and its wrapper that of many."""
        found: dict[CodeType, list[str]] = {}
        for job in self.registry.jobs:
            function: object = job.definition.code
            while function is not None:
                if (code := getattr(function, "__code__", None)) is not None:
                    found.setdefault(code, []).append(job.name)
                function = getattr(function, "__wrapped__", None)
        return found

    def _on_the_loop(self) -> list[str]:
        """The jobs whose code runs in its thread."""
        here = (RunMode.TASK, RunMode.ASYNCIO)
        try:
            return sorted({run.registered.name for run in self.runs.ledger if run.registered.definition.mode in here})
        except RuntimeError:  # the loop goes on, and with it what runs has changed
            return []


def _place(frame: FrameType | None) -> str:
    return "code that has ended" if frame is None else f"{frame.f_code.co_filename}, line {frame.f_lineno}"
