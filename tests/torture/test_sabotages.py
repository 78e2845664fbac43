"""Each torture scenario notices the sabotages it names: without a safeguard, what it protects is violated."""

import subprocess
import sys

import pytest
from torture.disk_sabotages import PRETENCES
from torture.runner import run
from torture.sabotages import SABOTAGES
from torture.scenario import Scenario, scenarios

CASES = [
    pytest.param(
        scenario,
        sabotage,
        id=f"{scenario.id} {sabotage}",
        marks=[pytest.mark.long] if sabotage in scenario.slow_bites else [],
    )
    for scenario in scenarios().values()
    for sabotage in scenario.sabotages
]


@pytest.mark.parametrize(("scenario", "sabotage"), CASES)
async def test_the_sabotage_is_noticed(scenario: Scenario, sabotage: str) -> None:
    """What it violates is among what the scenario names."""
    ran = await run(scenario, scenario.bite or scenario.short, seed=1, sabotage=sabotage)

    assert ran.broken & scenario.sabotages[sabotage], ran.logs


INSTALL_EACH = """
import os, sys
from torture.sabotages import install

for name in sys.argv[1:]:
    if not os.fork():
        install(name)
        os._exit(0)
    if os.wait()[1]:
        print(name)
"""
"""Each in a process of its own, as nothing puts back what it takes out."""


def test_every_sabotage_finds_what_it_takes_out() -> None:
    """Whether it is noticed takes minutes to see, and so is seldom looked at: a renamed function is told here."""
    names = [*SABOTAGES, *PRETENCES]

    ended = subprocess.run(
        [sys.executable, "-c", INSTALL_EACH, *names], capture_output=True, text=True, check=False, timeout=60
    )

    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_every_scenario_names_a_sabotage_that_there_is() -> None:
    for scenario in scenarios().values():
        assert scenario.sabotages, scenario.id
        assert scenario.sabotages.keys() <= SABOTAGES.keys(), scenario.id


def test_every_sabotage_is_named_by_a_scenario() -> None:
    named = {sabotage for scenario in scenarios().values() for sabotage in scenario.sabotages}

    assert named == SABOTAGES.keys()
