"""Many seeds, on as many processes as one likes: which of them fail, and what was played altogether.

Separate from what one seed does. A seed is judged where it was played, so that only figures travel.
"""

import faulthandler
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final

from attrs import define, field, frozen

from torture.simulation.checks import problems
from torture.simulation.history import read
from torture.simulation.plan import Fault, Plan, drawn
from torture.simulation.planted import planted
from torture.simulation.trace import Trace
from torture.simulation.world import carried_out

__all__ = ["Figures", "Finding", "play", "play_all"]

CHUNK: Final = 25
"""Seeds that a process takes at a time: two seconds of work."""

_FAULTS: Final = sorted(Fault, key=len, reverse=True)  # one's name begins with another's

STUCK: Final = 120.0
"""Real seconds that one seed may take; then its process says where it is and ends."""


@frozen
class Finding:
    """A seed that fails."""

    seed: int
    problems: Sequence[str]


@define
class Figures:
    """What was played, and what was found."""

    seeds: int = 0
    simulated: float = 0.0
    """Seconds of virtual time."""
    events: int = 0
    occurrences: int = 0
    runs: int = 0
    extra_runs: int = 0
    """Runs of an attempt beyond its first."""
    faults: Counter[str] = field(factory=Counter)
    """Those that took place, by kind."""
    findings: list[Finding] = field(factory=list)

    def add(self, other: "Figures") -> None:
        """Take another's into these."""
        self.seeds += other.seeds
        self.simulated += other.simulated
        self.events += other.events
        self.occurrences += other.occurrences
        self.runs += other.runs
        self.extra_runs += other.extra_runs
        self.faults += other.faults
        self.findings += other.findings


def play(seed: int) -> tuple[Plan, Trace, list[str]]:
    """Play one seed and judge it."""
    plan = drawn(seed)
    trace = carried_out(plan)
    return plan, trace, problems(plan, trace)


def play_all(
    seeds: range,
    *,
    processes: int = 1,
    bug: str | None = None,
    stop_at: int = 10,
    on_progress: Callable[[Figures], None] = lambda figures: None,
) -> Figures:
    """Play them all, or until so many were found to fail; with a planted bug, if one is named.

    Raises `concurrent.futures.process.BrokenProcessPool` when a seed never ends.
    """
    figures = Figures()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    for played in _in_processes(chunks, processes, bug) if processes > 1 else (_chunk(chunk, bug) for chunk in chunks):
        figures.add(played)
        on_progress(figures)
        if len(figures.findings) >= stop_at:
            break
    figures.findings.sort(key=lambda finding: finding.seed)
    return figures


def _in_processes(chunks: Iterable[range], processes: int, bug: str | None) -> Iterator[Figures]:
    # New processes, not forks: nothing of this one must be in them.
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([executor.submit(_chunk, chunk, bug) for chunk in chunks]):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _chunk(seeds: range, bug: str | None) -> Figures:
    figures = Figures()
    with planted(bug):
        for seed in seeds:
            faulthandler.dump_traceback_later(STUCK, exit=True)
            try:
                figures.add(_judged(seed))
            finally:
                faulthandler.cancel_dump_traceback_later()
    return figures


def _judged(seed: int) -> Figures:
    plan, trace, found = play(seed)
    history = read(trace.events)
    runs = [len(attempt.began) for attempt in history.attempts.values() if attempt.began]
    return Figures(
        seeds=1,
        simulated=trace.events[-1].at,
        events=len(trace.events),
        occurrences=len(plan.fates),
        runs=sum(runs),
        extra_runs=sum(runs) - len(runs),
        faults=Counter(_kind(event.detail) for event in trace.events if event.what in ("fault", "trap")),
        findings=[Finding(seed, found)] if found else [],
    )


def _kind(detail: str) -> str:
    """The kind of fault that an event names."""
    return next(fault for fault in _FAULTS if detail.startswith(fault))
