"""Links that come back: open, hold until lost, open again with backoff and jitter.

What runs above a link asks it for the connection of the moment, so that a lost connection ends nothing but itself:
jobs run on, reports wait. No library's own "robust" mode is used (RELIABILITY.md 0, LIBRARIES.md 2.3).
"""

import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio
from attrs import frozen

from milvaion_trio.model.errors import BrokerUnreachable, LinkLost, LinkRefused
from milvaion_trio.model.events import LinkDown, LinkUp
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.ports import Link
from milvaion_trio.runtime.observers import Observers

__all__ = ["Startup", "SupervisedLink"]

L = TypeVar("L", bound=Link)
T = TypeVar("T")

REFUSAL_PATIENCE = 5.0
"""Seconds for which the start goes on when the broker refuses it.

RabbitMQ listens once the users and virtual hosts of its configuration are there, so a refusal is a person's mistake,
and 30 s of tries would only hide it. But scripts make users right after the broker has come up, a second for each.
"""


@frozen
class Startup:
    """How long the first connections may take, all together."""

    timeout: float
    """Seconds; 0 or less for ever."""
    began: float
    """On Trio's clock."""
    limit: str = "Worker:StartupConnectionTimeoutSeconds"
    """What says so, for whoever wants to change it."""
    refusal_patience: float = REFUSAL_PATIENCE
    """Seconds for a broker that answers and refuses; as long as any other where the timeout is for ever."""

    def left(self, refused_since: float | None) -> float:
        """Seconds; fewer if the broker has refused since that time."""
        if self.timeout <= 0:
            return math.inf
        patience = math.inf if refused_since is None else refused_since + self.refusal_patience
        return min(self.began + self.timeout, patience) - trio.current_time()


class SupervisedLink(Generic[L]):
    """One connection to the broker, made again whenever it is lost."""

    def __init__(
        self,
        name: str,
        broker: str,
        connect: Callable[[], AbstractAsyncContextManager[L]],
        observers: Observers,
        startup: Startup,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._broker = broker
        self._connect = connect
        self._observers = observers
        self._startup = startup
        self._report = report
        """Told at once why there is no connection, and "" when there is one."""
        self._current: L | None = None
        self._hold = trio.CancelScope()
        self._given_up = ""
        self._changed = trio.Event()

    @property
    def current(self) -> L | None:
        """The connection of the moment, or `None` while there is none."""
        return self._current

    async def get(self, other_than: L | None = None) -> L:
        """The connection of the moment, waiting for one that is not `other_than` (the one that was just lost).

        If cancelled, nothing changes.
        """
        while self._current is None or self._current is other_than:
            await self._changed.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._current

    async def use(self, act: Callable[[L], Awaitable[T]]) -> T:
        """Do something over the link, again over the next one whenever it raises `LinkLost`, and return its result.

        If cancelled, `act` is cancelled, or there was no link to act over.
        """
        lost: L | None = None
        while True:
            link = await self.get(other_than=lost)
            try:
                return await act(link)
            except LinkLost:
                lost = link

    def give_up(self, why: str) -> None:
        """Close the connection of the moment and make another one, as after a loss; without one this does nothing."""
        if self._current is not None:
            self._given_up = why
            self._hold.cancel(why)

    @contextlib.asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        """Hold the link while the context is open; it is entered with a connection and closes it on leaving.

        Raises `BrokerUnreachable` when the first connection cannot be made within the start-up timeout (0: no limit).
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._keep_up)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def _keep_up(self, task_status: trio.TaskStatus[None]) -> None:
        started = False
        delays: Iterator[float] | None = None
        told = ""
        refused_since: float | None = None
        while True:
            was_up = is_refusal = False
            try:
                async with self._connect() as link:
                    self._set(link)
                    was_up, delays = True, None
                    self._observers.tell(LinkUp(self.name, self._broker))
                    self._report("")
                    if not started:
                        started = True
                        task_status.started()
                    why = await self._lost(link)
                    self._set(None)  # now, as closing a dead connection takes seconds
                    self._report(why)
            except LinkLost as lost:
                why = str(lost)
                is_refusal = isinstance(lost, LinkRefused)
                self._report(why)
            finally:
                self._set(None)
            if not is_refusal:
                refused_since = None
            elif refused_since is None:
                refused_since = trio.current_time()
            left = math.inf if started else self._startup.left(refused_since)
            if left <= 0:
                raise BrokerUnreachable(
                    self._broker, self._startup.timeout, why, self._startup.limit, is_refusal=is_refusal
                )
            # Once per outage, and again when the reason is another. Not a refusal that will end the start in a moment:
            # its one message is the error.
            if (delays is None or why != told) and not (is_refusal and left < math.inf):
                self._observers.tell(LinkDown(self.name, self._broker, why, was_up))
                told = why
            delays = delays or reconnect_delays(_draws())
            delay = min(next(delays), left)  # the last try comes when the time is up, not before
            await trio.sleep(delay)

    async def _lost(self, link: L) -> str:
        """Return why the link is lost, or was given up. If cancelled, nothing changes."""
        with trio.CancelScope() as self._hold:
            return await link.lost()
        return self._given_up

    def _set(self, link: L | None) -> None:
        self._current = link
        if link is not None:
            self._changed.set()
            self._changed = trio.Event()


def _draws() -> Iterator[float]:
    while True:
        yield random.random()
