"""What happened and was not told yet: filled from any thread, without waiting, and bounded.

Separate from the telling, which may be away for long. Starts, lines and ends leave in waves of one kind, each only when
what came before it has been confirmed: of a run, the end is never told before the start.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field, frozen

from milvaion_trio.external.run import RunEnd, TrackedRun
from milvaion_trio.model.messages import LogEntry

__all__ = ["MOST_EVENTS", "MOST_LINES", "Unsent", "Wave"]

MOST_EVENTS: Final = 10_000
"""Starts and ends that wait; about 5 MB. Beyond that new runs are not told at all: half a run would stay open there."""
MOST_LINES: Final = 10_000
"""Log lines that wait; the oldest go first."""
WAVE: Final = 500
"""Ends or lines that are published together, half a megabyte."""
STARTS: Final = 20
"""Starts that are: when the connection dies, each of them is told again alone, which takes seconds."""

_log = logging.getLogger("milvaion_trio.external")


@frozen
class Wave:
    """Some of it, all of one kind."""

    starts: Sequence[TrackedRun] = ()
    lines: Sequence[tuple[TrackedRun, LogEntry]] = ()
    ends: Sequence[tuple[TrackedRun, RunEnd]] = ()


def _nothing() -> None:
    """Nobody listens yet."""


@define(eq=False)
class Unsent:
    """Starts, log lines and ends in the order in which they came."""

    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _number: int = field(default=0, init=False)
    _starts: deque[tuple[int, TrackedRun]] = field(factory=deque, init=False)
    _lines: deque[tuple[int, TrackedRun, LogEntry]] = field(factory=deque, init=False)
    _ends: deque[tuple[int, TrackedRun, RunEnd]] = field(factory=deque, init=False)
    _turn: int = field(default=0, init=False)
    _live: dict[TrackedRun, None] = field(factory=dict, init=False)
    """Runs that go on and were taken."""
    lost_runs: int = field(default=0, init=False)
    lost_lines: int = field(default=0, init=False)
    tell: Callable[[], None] = field(default=_nothing, init=False)
    """Called, in any thread, when there is something new. Must neither wait nor raise."""

    # --- from any thread ----------------------------------------------------------------------------------------------

    def began(self, run: TrackedRun) -> None:
        """A run began. Where there is no room it is not told, from start to end."""
        with self._lock:
            is_taken = len(self._starts) + len(self._ends) < MOST_EVENTS
            if is_taken:
                self._starts.append((self._next(), run))
                self._live[run] = None
            else:
                self.lost_runs += 1
        if is_taken:
            self.tell()
        elif self.lost_runs == 1:
            _log.warning(
                "%d events of external runs wait for the broker: runs that begin now are not told to Milvaion",
                MOST_EVENTS,
            )

    def took_over(self, run: TrackedRun) -> None:
        """A run goes on whose start was told by somebody else."""
        with self._lock:
            self._live[run] = None

    def let_go(self, run: TrackedRun) -> None:
        """Somebody else tells its end, or nobody ever will."""
        with self._lock:
            self._live.pop(run, None)

    def logged(self, run: TrackedRun, entry: LogEntry) -> None:
        """It wrote a line to its log."""
        with self._lock:
            if run not in self._live:
                self.lost_lines += 1
                return
            if len(self._lines) >= MOST_LINES:
                self._lines.popleft()
                self.lost_lines += 1
            self._lines.append((self._next(), run, entry))
        self.tell()

    def ended(self, run: TrackedRun, end: RunEnd) -> None:
        """It ended. There is room for the end of every run whose start was taken."""
        with self._lock:
            if run not in self._live:
                return
            del self._live[run]
            self._ends.append((self._next(), run, end))
        self.tell()

    @property
    def running(self) -> tuple[TrackedRun, ...]:
        """The runs that go on."""
        with self._lock:
            return tuple(self._live)

    @property
    def waiting(self) -> tuple[int, int]:
        """How many events and lines wait."""
        with self._lock:
            return len(self._starts) + len(self._ends), len(self._lines)

    def _next(self) -> int:
        self._number += 1
        return self._number

    # --- from the one that tells --------------------------------------------------------------------------------------

    def take(self, now: float) -> Wave | None:
        """What can be told next, which is the caller's from now on; the kinds take turns. `None` when nothing can be.

        Lines wait until the server has the start of their run: before, they would hold up those of all other jobs
        there (WIRE.md 4.6).
        """
        with self._lock:
            for _ in range(3):
                self._turn = (self._turn + 1) % 3
                wave = (self._some_starts, lambda: self._some_lines(now), self._some_ends)[self._turn]()
                if wave is not None:
                    return wave
        return None

    @property
    def lines_from(self) -> float:
        """When the next lines can be told; infinity when there are none, or not even the start of their run is told."""
        with self._lock:
            return self._lines[0][1].stored_at if self._lines else math.inf

    def _some_starts(self) -> Wave | None:
        starts = [self._starts.popleft()[1] for _ in range(min(len(self._starts), STARTS))]
        return Wave(starts=starts) if starts else None

    def _some_lines(self, now: float) -> Wave | None:
        first = self._starts[0][0] if self._starts else self._number + 1
        lines: list[tuple[TrackedRun, LogEntry]] = []
        while self._lines and len(lines) < WAVE:
            number, run, entry = self._lines[0]
            if number > first or run.stored_at > now:
                break
            self._lines.popleft()
            lines.append((run, entry))
        return Wave(lines=lines) if lines else None

    def _some_ends(self) -> Wave | None:
        first = min(
            self._starts[0][0] if self._starts else self._number + 1,
            self._lines[0][0] if self._lines else self._number + 1,
        )
        ends: list[tuple[TrackedRun, RunEnd]] = []
        while self._ends and self._ends[0][0] < first and len(ends) < WAVE:
            _, run, end = self._ends.popleft()
            ends.append((run, end))
        return Wave(ends=ends) if ends else None
