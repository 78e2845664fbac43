"""A keeper of leases, claims and schedules that is away, silent or forgetful when a test wants it to be."""

from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field

from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.coordination.sqlite.store import Store
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.testing.clock import clock_ns

__all__ = ["UnreliableKeeper"]


@define(eq=False)
class UnreliableKeeper(SqliteCoordination):
    """In memory, on the clock of the test."""

    is_away: bool = field(default=False, init=False)
    is_silent: bool = field(default=False, init=False)
    """Whether it takes requests and never answers."""
    delay: float = field(default=0.0, init=False)
    """Seconds before it answers."""
    answers_after: float = field(default=0.0, init=False)
    """Seconds for which an answer is on its way, once what was asked is done."""
    asked: list[str] = field(factory=list, init=False)
    """All requests, with what they are about."""

    told: dict[RunEnd, None] = field(factory=dict, init=False)
    """All ends that it was told, in order."""
    on_request: Callable[[str], object] = field(default=str, init=False)
    """Called with the name of each."""

    @classmethod
    def in_memory(cls) -> "UnreliableKeeper":
        """As tests use it."""
        return cls(clock=lambda: clock_ns() / 1e9)

    def forget(self) -> None:
        """Lose all data, as a server does that is started again without any."""
        self._store = Store(self.place, self.clock)

    async def _ask(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(f"{method.__name__} {args[0] if args else ''}")
        self.on_request(method.__name__)
        if self.delay:
            await trio.sleep(self.delay)
        if self.is_silent:
            await trio.sleep_forever()
        if self.is_away:
            raise LinkLost("nobody listens")
        answer = await SqliteCoordination._ask(self, method, *args, **kwargs)
        if method is Store.ended:
            self.told.update(dict.fromkeys(args))
        if self.answers_after:
            await trio.sleep(self.answers_after)
        return answer
