"""What is told about a run: a report as JSON, and rows for the table of all runs.

Separate because other programs read the one and people the other, long after the run.
"""

import json
import platform
import sqlite3
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torture.counting import (
    copies,
    copies_of_one_run,
    extra_runs,
    finals,
    lost,
    median_and_most,
    recoveries,
    unconfirmed,
)
from torture.evidence import Evidence
from torture.invariants import Violation

__all__ = ["passed", "report", "rows"]


def report(
    scenario: str,
    *,
    seed: int,
    jobs: int,
    seconds: float,
    sabotage: str | None,
    driver: str,
    evidence: Evidence,
    violations: list[Violation],
    facts: dict[str, Any],
    broker: str,
) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    raw = copies(evidence.statuses)
    at_risk = unconfirmed(evidence.effects)
    times = [seconds for _, seconds in recoveries(evidence) if seconds is not None]
    kinds: dict[str, int] = {}
    for fault in evidence.faults:
        kinds[fault.kind] = kinds.get(fault.kind, 0) + 1
    median, most = median_and_most(times) or (None, None)
    return {
        "scenario": scenario,
        "seed": seed,
        "jobs": jobs,
        "sabotage": sabotage,
        "driver": driver,
        "passed": not violations,
        "faults": kinds,
        "lost": len(lost(evidence)),
        "duplicated": sum(len({one.message_id for one in seen}) - 1 for seen in finals(evidence).values()),
        "raw_duplicates": sum(raw.values()),
        "raw_duplicates_of_second_runs": sum(raw.values()) - sum(copies_of_one_run(evidence).values()),
        "unconfirmed_at_lost_links": sum(at_risk.values()),
        "extra_runs": extra_runs(evidence.effects),
        "recovery_median": median,
        "recovery_most": most,
        "seconds": round(seconds, 1),
        "facts": facts,
        "violations": [{"invariant": one.invariant, "about": one.about} for one in violations],
        "versions": {
            "milvaion-trio": version("milvaion-trio"),
            "python": platform.python_version(),
            "trio": version("trio"),
            "sqlite": sqlite3.sqlite_version,
            "rabbitmq": broker,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def passed(reports: Iterable[dict[str, Any]]) -> bool:
    """Whether every one did."""
    return all(one["passed"] for one in reports)


HEAD = (
    "| Scenario | Jobs | Faults | Lost | Duplicated | Raw duplicates (unconfirmed) | Extra runs "
    "| Recovery median / most | Seed | Versions |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def rows(files: Iterable[Path]) -> str:
    """A table in Markdown, a row for each report."""
    lines = [HEAD]
    for path in files:
        one = json.loads(path.read_text())
        faults = ", ".join(f"{count} x {kind}" for kind, count in one["faults"].items()) or "none"
        recovery = (
            "none" if one["recovery_median"] is None else f"{one['recovery_median']} s / {one['recovery_most']} s"
        )
        name = one["scenario"] + (f" with {one['sabotage']}" if one["sabotage"] else "")
        driver = f"driver {one['driver']}, " if "driver" in one else ""  # a simulation has none
        versions = driver + ", ".join(f"{what} {which}" for what, which in one["versions"].items() if what != "system")
        lines.append(
            f"| {name} | {one['jobs']:,} | {faults} | {one['lost']} | {one['duplicated']} "
            f"| {one['raw_duplicates']} ({one['unconfirmed_at_lost_links']}) | {one['extra_runs']} | {recovery} "
            f"| {one['seed']} | {versions} |"
        )
    return "\n".join(lines)
