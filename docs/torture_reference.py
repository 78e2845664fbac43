"""What RELIABILITY.md shows of the torture suite: its scenarios, invariants and controls, and the runs that are kept.

Separate from the suite, which needs servers; here only its docstrings, its sizes and reports as JSON are read.
"""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from docs.prose import table_row
from torture.invariants import INVARIANTS
from torture.report import rows
from torture.sabotages import SABOTAGES
from torture.scenario import Scenario, scenarios
from torture.simulation import command as simulation

__all__ = [
    "REPORTS",
    "SIMULATION",
    "controls_table",
    "facts_list",
    "invariants_list",
    "measured_table",
    "scenarios_table",
]

REPORTS = Path(__file__).parents[1] / "torture" / "reports"
"""A file of JSON for each run that is kept."""

SIMULATION = "T24"


def scenarios_table() -> str:
    """What is done in which scenario, how often in a full run, and the command."""
    lines = [table_row("", "what is done", "full run", "again"), table_row(*["---"] * 4)]
    told = dict(_scenario_rows(scenarios()))
    lines += [told[name] for name in sorted(told)]
    return "\n".join(lines)


def invariants_list() -> str:
    """What is looked for in the evidence of every run."""
    lines = [f"- **{name}**: {_sentence(inspect.getdoc(check) or '', name)}" for name, check in INVARIANTS.items()]
    return "\n".join(lines)


def controls_table() -> str:
    """Which safeguards can be taken out, and what each of them must violate; below, runs without one that are kept."""
    lines = [table_row("", "taken out", "that is", "must violate"), table_row(*["---"] * 4)]
    told = []
    for scenario in scenarios().values():
        for sabotage, violated in scenario.sabotages.items():
            what = _sentence(inspect.getdoc(SABOTAGES[sabotage]) or "")
            told.append((scenario.id, f"`{sabotage}`", what, " or ".join(sorted(violated))))
    bugs = ", ".join(f"`{bug}`" for bug in simulation.BUGS)
    told.append((SIMULATION, bugs, "Bugs that pass every job of a calm day, one at a time.", "any check of some seed"))
    lines += [table_row(*row) for row in sorted(told)]
    if kept := _kept(has_sabotage=True):
        lines += ["", "Measured without them, in full size:", "", rows(kept)]
    return "\n".join(lines)


def measured_table() -> str:
    """The runs that are kept, in the order of their names."""
    kept = _kept(has_sabotage=False)
    return rows(kept) if kept else "No full run is kept yet."


def facts_list() -> str:
    """What else the runs that are kept counted, each in its own way."""
    lines = []
    for path in _kept(has_sabotage=False):
        told = json.loads(path.read_text(encoding="utf-8"))
        facts = [f"took {told['seconds']:,.0f} s", *_facts(told["facts"])]
        lines.append(f"- **{told['scenario']}**, seed {told['seed']}: {'; '.join(facts)}.")
    return "\n".join(lines)


def _facts(facts: Mapping[str, object]) -> Iterator[str]:
    """Those that say something, each in a few words."""
    for name, value in facts.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            if inner := ", ".join(_facts(value)):
                yield f"{words} ({inner})"
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if value:
                yield f"{words} {value:,}"
        elif value:
            yield f"{words} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _scenario_rows(known: Mapping[str, Scenario]) -> Iterator[tuple[str, str]]:
    for name, scenario in known.items():
        doc = inspect.getdoc(sys.modules[scenario.play.__module__]) or ""
        yield name, _scenario_row(name, _sentence(doc, name), _size(scenario.full.jobs, scenario.full.faults))
    title = simulation.TITLE.partition(": ")[2]
    yield SIMULATION, _scenario_row(SIMULATION, _sentence(f"Simulation: {title}."), f"{simulation.FULL:,} seeds")


def _scenario_row(name: str, what: str, size: str) -> str:
    return table_row(f"**{name}**", what, size, f"`python -m torture run {name}`")


def _size(jobs: int, faults: int) -> str:
    counts = (f"{jobs:,} jobs" if jobs else "", f"{faults:,} {'fault' if faults == 1 else 'faults'}" if faults else "")
    return ", ".join(filter(None, counts))


def _sentence(docstring: str, label: str = "") -> str:
    """Its first paragraph, without the label that stands before it, as a sentence of its own."""
    text = " ".join(docstring.partition("\n\n")[0].split()).removeprefix(f"{label}: ")
    return text[:1].upper() + text[1:]


def _kept(*, has_sabotage: bool) -> list[Path]:
    return [
        path
        for path in sorted(REPORTS.glob("*.json"))
        if bool(json.loads(path.read_text(encoding="utf-8"))["sabotage"]) is has_sabotage
    ]
