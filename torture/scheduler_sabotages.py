"""Defects to order in how a scheduler leads and dispatches.

Separate from the other sabotages because nothing in them is about jobs or links.
"""

import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from torture.wrapping import replace

__all__ = ["SCHEDULER_SABOTAGES"]


def leads_for_ever() -> None:
    """Take no notice of the own clock: lead until somebody says that another one does."""

    def make(_: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(term: Any, asked_at: float) -> None:
            term.scope.deadline = math.inf

        return wrong

    replace("milvaion_trio.scheduler.leading:Term.renewed", make)


def ticks_by_chance() -> None:
    """Give each message of a tick an occurrence id of its own, as dispatchers usually do."""
    replace("milvaion_trio.scheduler.ticks:occurrence_id_of", lambda _: lambda *__: str(uuid.uuid4()))


SCHEDULER_SABOTAGES: Final[Mapping[str, Callable[[], None]]] = {
    "leads-for-ever": leads_for_ever,
    "ticks-by-chance": ticks_by_chance,
}
