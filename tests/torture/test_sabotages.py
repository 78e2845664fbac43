"""Each torture scenario notices the sabotages it names: without a safeguard, what it protects is violated."""

import pytest
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


def test_every_scenario_names_a_sabotage_that_there_is() -> None:
    for scenario in scenarios().values():
        assert scenario.sabotages, scenario.id
        assert scenario.sabotages.keys() <= SABOTAGES.keys(), scenario.id


def test_every_sabotage_is_named_by_a_scenario() -> None:
    named = {sabotage for scenario in scenarios().values() for sabotage in scenario.sabotages}

    assert named == SABOTAGES.keys()
