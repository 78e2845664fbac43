"""The brokers that `tests/contract` is run on, and how faults are caused in each of them.

A new transport adds its `BrokerKind` to `BROKERS` and gets the whole suite.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

import trio
from attrs import frozen

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.ports import Broker

__all__ = ["BROKERS", "BrokerKind", "BrokerUnderTest"]

Links = Literal["all", "publishing", "consuming"]


@frozen(kw_only=True)
class BrokerUnderTest:
    """An empty broker, and ways to make it fail."""

    broker: Broker
    drop: Callable[[Links], Awaitable[None]]
    """Lose the open connections, as if the network had."""
    unreachable: Callable[[], AbstractAsyncContextManager[None]]
    """While inside, all connections are lost and no new one can be had."""
    without_confirms: Callable[[], AbstractAsyncContextManager[None]]
    """While inside, messages arrive but no confirm comes back."""
    refusing_next: Callable[[int], Awaitable[None]]
    """The broker refuses that many of the next publishes."""


@frozen(kw_only=True)
class BrokerKind:
    """A transport, and how to get one for a test."""

    name: str
    has_virtual_time: bool
    """Whether its times follow Trio's clock, so that a `MockClock` makes them exact and instant."""
    open: Callable[[], AbstractAsyncContextManager[BrokerUnderTest]]


@asynccontextmanager
async def _embedded() -> AsyncIterator[BrokerUnderTest]:
    broker = EmbeddedBroker()

    async def drop(which: Links) -> None:
        await trio.lowlevel.checkpoint()
        broker.drop_connection(which)

    @asynccontextmanager
    async def unreachable() -> AsyncIterator[None]:
        with broker.unreachable():
            yield

    @asynccontextmanager
    async def without_confirms() -> AsyncIterator[None]:
        with broker.hold_confirms():
            yield

    async def refusing_next(publications: int) -> None:
        await trio.lowlevel.checkpoint()
        broker.refuse_next(publications)

    yield BrokerUnderTest(
        broker=broker,
        drop=drop,
        unreachable=unreachable,
        without_confirms=without_confirms,
        refusing_next=refusing_next,
    )


BROKERS = (BrokerKind(name="embedded", has_virtual_time=True, open=_embedded),)
