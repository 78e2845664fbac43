"""T24 on the command line: seeds from `--seed` on, as many as `--jobs` says, and a report like those of all scenarios.

A seed that fails is printed with what is wrong, and with the command that plays it alone and shows its trace.
"""

import platform
import sqlite3
import sys
import time
from importlib.metadata import version
from typing import Any, Final

from torture.simulation.planted import PLANTED
from torture.simulation.seeds import Figures, play, play_all

__all__ = ["BUGS", "FULL", "SHORT", "TITLE", "main"]

TITLE: Final = "simulation: whole workers in virtual time, all faults at random, by seed"
FULL: Final = 10_000
SHORT: Final = 300
BUGS: Final = tuple(PLANTED)
SHOWN: Final = 10
TOLD_EVERY: Final = 500


def main(seed: int, seeds: int, *, processes: int = 2, sabotage: str | None = None) -> dict[str, Any]:
    """Play the seeds and return the report; one seed alone is shown with its trace if it fails.

    With a planted bug it stops at the first seed that notices.
    """
    began = time.monotonic()
    _say(f"T24 seed={seed} jobs={seeds} sabotage={sabotage or 'none'}")
    told = 0

    def progress(figures: Figures) -> None:
        nonlocal told
        if figures.seeds - told >= TOLD_EVERY:
            told = figures.seeds
            _say(f"{figures.seeds} seeds, {len(figures.findings)} fail, {time.monotonic() - began:.0f} s")

    figures = play_all(
        range(seed, seed + seeds),
        processes=1 if seeds == 1 else processes,
        bug=sabotage,
        stop_at=1 if sabotage else SHOWN,
        on_progress=progress,
    )
    for finding in figures.findings[:SHOWN]:
        with_bug = f" --sabotage {sabotage}" if sabotage else ""
        _say(
            f"seed {finding.seed} fails; to see it: python -m torture run T24 --seed {finding.seed} --jobs 1{with_bug}"
        )
        for problem in finding.problems:
            _say(f"  {problem}")
    if seeds == 1 and figures.findings:
        show(seed, sabotage)
    return _report(seed, sabotage, figures, time.monotonic() - began)


def show(seed: int, sabotage: str | None = None) -> None:
    """Print the trace of a seed."""
    from torture.simulation.planted import planted

    with planted(sabotage):
        plan, trace, _ = play(seed)
    print(plan)
    for line in trace.lines():
        print(line)


def _report(seed: int, sabotage: str | None, figures: Figures, seconds: float) -> dict[str, Any]:
    about = [(finding.seed, problem) for finding in figures.findings for problem in finding.problems]
    return {
        "scenario": "T24",
        "seed": seed,
        "jobs": figures.seeds,
        "sabotage": sabotage,
        "passed": not figures.findings,
        "faults": dict(sorted(figures.faults.items())),
        "lost": sum(" was lost" in problem for _, problem in about),
        "duplicated": sum("different ends" in problem for _, problem in about),
        "raw_duplicates": 0,
        "raw_duplicates_unexplained": 0,
        "unconfirmed_at_lost_links": 0,
        "extra_runs": figures.extra_runs,
        "recovery_median": None,
        "recovery_most": None,
        "seconds": round(seconds, 1),
        "facts": {
            "simulated_hours": round(figures.simulated / 3600, 1),
            "occurrences": figures.occurrences,
            "runs": figures.runs,
            "events": figures.events,
            "failing_seeds": [finding.seed for finding in figures.findings],
        },
        "violations": [{"invariant": f"seed {failing}", "about": problem} for failing, problem in about],
        "versions": {
            "milvaion-trio": version("milvaion-trio"),
            "python": platform.python_version(),
            "trio": version("trio"),
            "sqlite": sqlite3.sqlite_version,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
