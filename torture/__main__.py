"""The command line: `list`, `run`, `table`."""

import argparse
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from tests.support.brokers import DRIVERS

from torture.report import rows
from torture.runner import run_in_trio
from torture.scenario import scenario_named, scenarios
from torture.simulation import command as simulation

SHOWN = 20
"""Violations that are printed; the report has all."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m torture", description="Hurts workers and servers, and looks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the scenarios, with their sabotages")
    runner = commands.add_parser("run", help="play one scenario")
    runner.add_argument("scenario", help="its id, e.g. T04")
    runner.add_argument("--seed", type=int, help="where all chance comes from; a new one if absent")
    runner.add_argument("--jobs", type=int)
    runner.add_argument("--faults", type=int)
    runner.add_argument("--short", action="store_true", help="as small as in the tests")
    runner.add_argument("--sabotage", help="a defect to order, see list")
    runner.add_argument("--driver", choices=DRIVERS, default=DRIVERS[0], help="what workers speak AMQP with")
    runner.add_argument("--processes", type=int, default=2, help="of the simulation (T24), whose jobs are seeds")
    runner.add_argument("--report", type=Path, metavar="FILE", help="where to write the report as JSON")
    table = commands.add_parser("table", help="reports as rows of a table in Markdown")
    table.add_argument("reports", type=Path, nargs="+", metavar="FILE")
    told = parser.parse_args(arguments)
    if told.command == "list":
        return _list()
    if told.command == "table":
        print(rows(told.reports))
        return 0
    return _run(told)


def _list() -> int:
    for scenario in scenarios().values():
        full = scenario.full
        print(f"{scenario.id}  {scenario.title}: {full.jobs} jobs, {full.faults} faults; short: {scenario.short.jobs}")
        for sabotage, broken in scenario.sabotages.items():
            print(f"     --sabotage {sabotage}  must break {' or '.join(sorted(broken))}")
    print(f"T24  {simulation.TITLE}: {simulation.FULL} seeds; short: {simulation.SHORT}")
    for sabotage in simulation.BUGS:
        print(f"     --sabotage {sabotage}  must make a seed fail")
    return 0


def _run(told: argparse.Namespace) -> int:
    if told.report is not None and not told.report.absolute().parent.is_dir():
        print(f"There is no folder for the report {told.report}.", file=sys.stderr)
        return 2
    try:
        return _simulate(told) if told.scenario.upper() == "T24" else _play(told)
    except KeyboardInterrupt:
        print("Interrupted; nothing was judged.", file=sys.stderr)
        return 130


def _play(told: argparse.Namespace) -> int:
    try:
        scenario = scenario_named(told.scenario)
    except LookupError as unknown:
        print(unknown, file=sys.stderr)
        return 2
    if told.sabotage is not None and told.sabotage not in scenario.sabotages:
        known = ", ".join(scenario.sabotages) or "none"
        print(f"{scenario.id} has no sabotage {told.sabotage}; it has {known}.", file=sys.stderr)
        return 2
    size = scenario.short if told.short else scenario.full
    changes = {name: value for name in ("jobs", "faults") if (value := getattr(told, name)) is not None}
    seed = secrets.randbelow(10**6) if told.seed is None else told.seed
    ran = run_in_trio(scenario, evolve(size, **changes), seed, told.sabotage, told.driver)
    if not _told(ran.report, told.report):
        print(ran.logs, file=sys.stderr)
        wanted = scenario.sabotages.get(told.sabotage or "", frozenset())
        how = ", which the sabotage must break" if wanted & ran.broken else ""
        print(f"Violated: {', '.join(sorted(ran.broken))}{how}.", file=sys.stderr)
        return 1
    return 0


def _simulate(told: argparse.Namespace) -> int:
    """T24 has neither servers nor processes of workers, and so nothing of what the other scenarios are played with."""
    seeds = told.jobs or (simulation.SHORT if told.short else simulation.FULL)
    seed = secrets.randbelow(10**6) if told.seed is None else told.seed
    try:
        report = simulation.main(seed, seeds, processes=told.processes, sabotage=told.sabotage)
    except LookupError as unknown:
        print(unknown, file=sys.stderr)
        return 2
    return 0 if _told(report, told.report) else 1


def _told(report: dict[str, Any], file: Path | None) -> bool:
    """Tell what was found, and whether all is well."""
    if file is not None:
        file.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({**report, "violations": report["violations"][:SHOWN]}, indent=2))
    return bool(report["passed"])


if __name__ == "__main__":
    sys.exit(main())
