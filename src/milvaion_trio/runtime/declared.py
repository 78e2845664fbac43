"""All that a worker uses at the broker, made to exist: at the start, and again when some of it turns out to be gone.

Somebody may delete an exchange or a queue while the worker runs. What is published there comes back then, and would
be tried for ever.
"""

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import define, field

from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.ports import Confirmation, Consumer, Publisher, Topology
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["Declared", "DeclaringPublisher"]

PAUSE = 10.0
"""Seconds between two tries to make again what is gone: some of it may be another worker's, and be gone for good."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False)
class Declared:
    """What has to be there."""

    _topology: Topology
    _was_made: bool = field(default=False, init=False)
    _is_missing: trio.Event = field(factory=trio.Event, init=False)

    async def make(self, consumer: Consumer) -> None:
        """Make it exist; what exists already is left alone. Raises `LinkLost`; if cancelled, any part of it is made.

        Raises `SettingsError` at first. Later, a queue that somebody has declared otherwise meanwhile is told, and what
        is there is used: it must not keep the other jobs from running.
        """
        try:
            await consumer.declare(self._topology)
        except SettingsError as error:
            if not self._was_made:
                raise
            for problem in error.problems:
                _log.error("%s", problem)
        self._was_made = True

    def miss(self) -> None:
        """Say that some of it seems to be gone."""
        self._is_missing.set()

    async def keep(self, consuming: SupervisedLink[Consumer]) -> None:
        """Make it again whenever some of it is missed. Runs until cancelled."""
        while True:
            await self._is_missing.wait()
            try:
                await consuming.use(self.make)
            except Exception:  # a defect of ours; what is published there is tried on
                _log.exception("what is missing at the broker cannot be declared again")
            await trio.sleep(PAUSE)
            self._is_missing = trio.Event()


@define(eq=False)
class DeclaringPublisher:
    """Implements `ports.Publisher`: another one, after whose unroutable publications everything is declared again."""

    _publisher: Publisher
    _declared: Declared

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """As the other one; the answers are its. If cancelled, any prefix may have arrived."""
        answers = await self._publisher.publish(publications)
        if Confirmation.UNROUTABLE in answers:
            self._declared.miss()
        return answers

    async def lost(self) -> str:
        """As the other one. If cancelled, nothing changes."""
        return await self._publisher.lost()

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """As the other one."""
        self._publisher.on_blocked(tell)
