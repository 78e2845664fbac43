"""A reporter in a thread of its own, for programs that do not run Trio: their loop, if any, is not disturbed by it.

Separate from `embed.trio_thread`, which is awaited by asyncio programs; this one is entered and left by plain code.
"""

import logging
import threading
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.external.reporter import Reporter

__all__ = ["ReportingThread"]

STARTS: Final = 30.0
"""Seconds for a thread to start: milliseconds, on any machine that is not out of memory."""
CLOSING: Final = 2.0
"""Seconds beyond the time for the last reports in which the connection is closed."""

_log = logging.getLogger("milvaion_trio.external")


@define(eq=False)
class ReportingThread:
    """Runs a reporter from `start` to `leave`."""

    _reporter: Reporter
    _started: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """Return when it runs; it has not waited for a broker."""
        # A daemon: a program that forgets to leave must be able to end.
        self._thread = threading.Thread(target=self._run, name="milvaion-trio external", daemon=True)
        self._thread.start()
        self._started.wait(STARTS)

    def leave(self, patience: float) -> None:
        """Return when the last reports are told, or their time is over."""
        self._reporter.leave()
        self._thread.join(patience + CLOSING)
        if self._thread.is_alive():
            _log.warning("the thread that reports external runs does not end and is left behind")

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException:  # noqa: ASYNC103  # a defect of ours, which is not the program's
            _log.exception("external runs are not reported any more")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._reporter.serve)
            self._started.set()
