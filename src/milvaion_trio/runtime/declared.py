"""All that a worker uses at the broker, made to exist: at the start, and again when some of it turns out to be gone.

Somebody may delete an exchange or a queue while the worker runs. What is published there comes back then, and would
be tried for ever.
"""

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import define, field

from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import Confirmation, Consumer, Publisher, Topology

__all__ = ["Declared", "DeclaringPublisher"]

PAUSE = 10.0
"""Seconds between two tries to make again what is gone: some of it may be another worker's, and be gone for good."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False)
class Declared:
    """What has to be there."""

    _topology: Topology
    _was_made: bool = field(default=False, init=False)
    _made_at: float = field(default=0.0, init=False)

    async def make(self, consumer: Consumer) -> None:
        """Make it exist; what exists already is left alone. Raises `LinkLost`; if cancelled, any part of it is made.

        Raises `SettingsError` at first. Later, a queue that somebody has declared otherwise meanwhile is told, and what
        is there is used: it must not keep the other jobs from running.
        """
        self._made_at = trio.current_time()
        try:
            await consumer.declare(self._topology)
        except SettingsError as error:
            if not self._was_made:
                raise
            for problem in error.problems:
                _log.error("%s", problem)
        self._was_made = True

    async def make_again(self, consumer: Consumer | None) -> None:
        """Make it exist again, if there is a connection for that and the last time was not just now.

        If cancelled, any part of it is made.
        """
        if consumer is not None and trio.current_time() - self._made_at >= PAUSE:
            try:
                await self.make(consumer)
            except LinkLost:
                return  # whoever connects again makes it


@define(eq=False)
class DeclaringPublisher:
    """Implements `ports.Publisher`: another one, after whose unroutable publications everything is declared again."""

    _publisher: Publisher
    _declared: Declared
    _consumer: Callable[[], Consumer | None]
    """Who declares: the consuming connection of the moment."""

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """As the other one; the answers are its. If cancelled, any prefix may have arrived."""
        answers = await self._publisher.publish(publications)
        if Confirmation.UNROUTABLE in answers:
            await self._declared.make_again(self._consumer())
        return answers

    async def lost(self) -> str:
        """As the other one. If cancelled, nothing changes."""
        return await self._publisher.lost()

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """As the other one."""
        self._publisher.on_blocked(tell)
