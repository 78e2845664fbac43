"""RELIABILITY.md shows the runs that are kept, and each is what it says: in full size, of a scenario there is."""

import json
import re
from typing import Any

import pytest
from docs.torture_reference import REPORTS, SIMULATION
from tests.docs.markdown import ROOT
from torture.invariants import INVARIANTS
from torture.scenario import scenarios

TEXT = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
KEPT = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(REPORTS.glob("*.json"))}


def test_what_must_be_violated_is_explained() -> None:
    """The invariants by their numbers, what one scenario alone is judged by in a word."""
    named = {name for scenario in scenarios().values() for names in scenario.sabotages.values() for name in names}
    explained = [
        name
        for line in re.findall(r"^- (\*\*.+?): ", TEXT, re.MULTILINE)
        for name in re.findall(r"\*\*(\w+)\*\*", line)
    ]

    assert [name for name in INVARIANTS if explained.count(name) != 1] == []
    assert sorted(named - set(explained)) == []


def test_every_scenario_has_its_command() -> None:
    commands = re.findall(r"\| `python -m torture run (T\d+)` \|", TEXT)

    assert commands == sorted([*scenarios(), SIMULATION])


@pytest.mark.parametrize("name", KEPT)
def test_a_run_that_is_kept_is_of_a_scenario_and_passed(name: str) -> None:
    """Unless a safeguard was taken out of it: then it must not have."""
    report: dict[str, Any] = KEPT[name]

    assert name.startswith(report["scenario"])
    assert report["scenario"] in {*scenarios(), SIMULATION}
    assert report["passed"] is not bool(report["sabotage"])


@pytest.mark.parametrize("name", [name for name in KEPT if KEPT[name]["scenario"] in scenarios()])
def test_a_run_that_is_kept_has_the_full_size(name: str) -> None:
    report, full = KEPT[name], scenarios()[KEPT[name]["scenario"]].full

    assert report["jobs"] >= 0.95 * full.jobs  # of a few jobs nobody knows whether they were dispatched
