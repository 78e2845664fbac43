"""Every torture scenario, as small as it makes sense: real servers, real worker processes, all invariants."""

import pytest
from torture.runner import run
from torture.scenario import Scenario, scenarios

CASES = [
    pytest.param(scenario, id=scenario.id, marks=[pytest.mark.long] if scenario.slow_short else [])
    for scenario in scenarios().values()
]


@pytest.mark.parametrize("scenario", CASES)
async def test_no_invariant_is_violated(scenario: Scenario) -> None:
    """The seed is fixed, so that a failure here is played again by `python -m torture run ID --short --seed 1`."""
    ran = await run(scenario, scenario.short, seed=1)

    assert ran.violations == [], ran.logs
