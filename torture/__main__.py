"""The command line: `list`, `run`, `table`."""

import argparse
import json
import secrets
import sys
from pathlib import Path

from attrs import evolve

from torture.report import rows
from torture.runner import run_in_trio
from torture.scenario import scenario_named, scenarios

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
    return 0


def _run(told: argparse.Namespace) -> int:
    try:
        scenario = scenario_named(told.scenario)
    except LookupError as unknown:
        print(unknown, file=sys.stderr)
        return 2
    size = scenario.short if told.short else scenario.full
    changes = {name: value for name in ("jobs", "faults") if (value := getattr(told, name)) is not None}
    seed = secrets.randbelow(10**6) if told.seed is None else told.seed
    ran = run_in_trio(scenario, evolve(size, **changes), seed, told.sabotage)
    text = json.dumps(ran.report, indent=2)
    if told.report is not None:
        told.report.write_text(text + "\n")
    print(json.dumps({**ran.report, "violations": ran.report["violations"][:SHOWN]}, indent=2))
    if not ran.report["passed"]:
        print(ran.logs, file=sys.stderr)
    return 0 if ran.report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
