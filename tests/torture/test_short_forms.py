"""Every torture scenario, as small as it makes sense: real servers, real worker processes, all invariants."""

import pytest
from attrs import evolve
from torture.crash_points import POINTS
from torture.runner import run
from torture.scenario import Scenario, scenario_named, scenarios

CASES = [
    pytest.param(scenario, id=scenario.id, marks=[pytest.mark.long] if scenario.slow_short else [])
    for scenario in scenarios().values()
]


@pytest.mark.parametrize("scenario", CASES)
async def test_no_invariant_is_violated(scenario: Scenario) -> None:
    """The seed is fixed, so that a failure here is played again by `python -m torture run ID --short --seed 1`."""
    ran = await run(scenario, scenario.short, seed=1)

    assert ran.violations == [], ran.logs


@pytest.mark.parametrize(
    "name", ["T01", pytest.param("T04", marks=pytest.mark.long), pytest.param("T09", marks=pytest.mark.long)]
)
async def test_no_invariant_is_violated_with_the_other_driver(name: str) -> None:
    """aio-pika's connections are used, die and fall silent as well."""
    scenario = scenario_named(name)

    ran = await run(scenario, scenario.short, seed=1, driver="aio-pika")

    assert ran.report["driver"] == "aio-pika"
    assert ran.violations == [], ran.logs


@pytest.mark.long
async def test_every_crash_point_is_passed_and_survived() -> None:
    """By one outcome each; `python -m torture run T02` plays every outcome."""
    scenario = scenario_named("T02")

    ran = await run(scenario, evolve(scenario.full, jobs=len(POINTS)), seed=1)

    assert ran.violations == [], ran.logs
    assert {line.facts["point"] for line in ran.evidence.effects if line.what == "crash"} == POINTS.keys()
