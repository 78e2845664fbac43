"""What is consumed at this moment, by whom, and how much has come of it.

Separate from those who consume, who only note it, and from the watch over silent queues, which only reads it.
"""

import contextlib
from collections.abc import Iterator

from attrs import define, field

from milvaion_trio.ports import Deliveries

__all__ = ["Consumption", "Consumptions"]

MOST_UNSETTLED = 65_535
"""A larger prefetch means no more than that: AMQP cannot say it."""


@define(eq=False)
class Consumption:
    """One consumer of one queue, from its start to its end."""

    queue: str
    prefetch: int
    deliveries: Deliveries
    received: int = 0
    """How many deliveries were taken from it; counted by who takes them."""

    @property
    def has_room(self) -> bool:
        """Whether the broker would hand it one more message."""
        return self.deliveries.unsettled < min(self.prefetch, MOST_UNSETTLED)


@define(eq=False)
class Consumptions:
    """Those of now."""

    _current: list[Consumption] = field(factory=list, init=False)

    def __contains__(self, consumption: Consumption) -> bool:
        return consumption in self._current

    def __iter__(self) -> Iterator[Consumption]:
        """Those of the moment in which it is asked for, in the order in which they began."""
        return iter(tuple(self._current))

    @contextlib.contextmanager
    def noted(self, queue: str, prefetch: int, deliveries: Deliveries) -> Iterator[Consumption]:
        """A consumption for as long as the context is open."""
        consumption = Consumption(queue, prefetch, deliveries)
        self._current.append(consumption)
        try:
            yield consumption
        finally:
            self._current.remove(consumption)
