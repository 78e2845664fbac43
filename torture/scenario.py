"""What a scenario is: a name, its sizes, what is played, and which sabotages must break what.

Separate from the scenarios, one module each in `torture.scenarios`, which are found here by their ids.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from torture.evidence import Evidence
    from torture.play import Play

__all__ = ["Scenario", "Size", "scenario_named", "scenarios"]


@frozen(kw_only=True)
class Size:
    """How much is played."""

    jobs: int
    faults: int = 0
    patience: float = 10.0
    """Seconds without anything new after which what is missing is lost; more than the longest delay of a retry."""
    limit: float = 120.0
    """Seconds for all of it; a run that takes longer fails."""


@frozen(kw_only=True)
class Scenario:
    """One kind of torture."""

    id: str
    """`T01` …, as RELIABILITY.md counts them."""
    title: str
    full: Size
    short: Size
    """For the tests."""
    bite: Size | None = None
    """For the tests of its sabotages, where they need less than the short form."""
    play: "Callable[[Play], Awaitable[None]]"
    """Returns when what is to be judged has happened; the frame brings the servers and collects the evidence."""
    hurts_broker: bool = False
    """Whether it needs a broker of its own; others share one."""
    hurts_redis: bool = False
    api: Mapping[str, Any] = field(factory=dict)
    """Members of `ApiSettings` other than `runner.API`."""
    claims: "Mapping[str, Callable[[Evidence], Iterable[str]]]" = field(factory=dict)
    """What it is judged by besides the invariants: by name, a function as those of `torture.invariants`."""
    agrees: bool = False
    """Whether a monitor that is given what the API was given must know the same (`agreement`); violates `history`."""
    sabotages: Mapping[str, frozenset[str]] = field(factory=dict)
    """By name of `torture.sabotages`, the invariants and claims of which it must break at least one."""
    slow_short: bool = False
    """Whether the short form is too long for every run of the tests."""
    slow_bites: frozenset[str] = frozenset()
    """The sabotages that take too long for every run of the tests."""


def scenarios() -> dict[str, Scenario]:
    """All there are, by id."""
    return {scenario.id: scenario for scenario in map(_scenario, sorted(_modules()))}


def scenario_named(id: str) -> Scenario:
    """The one of this id. Raises `LookupError` with a sentence for people when there is none."""
    names = sorted(_modules())
    for name in names:
        if name.partition("_")[0].lower() == id.lower():
            return _scenario(name)
    known = ", ".join(name.partition("_")[0].upper() for name in names)
    raise LookupError(f"There is no scenario {id}; there are {known}, and T24.")


def _modules() -> list[str]:
    return [found.name for found in pkgutil.iter_modules(importlib.import_module("torture.scenarios").__path__)]


def _scenario(module: str) -> Scenario:
    found = importlib.import_module(f"torture.scenarios.{module}").SCENARIO
    assert isinstance(found, Scenario)
    return found
