"""The brokers that `tests/contract` is run on, and how faults are caused in each of them.

A new transport adds its `BrokerKind` to `BROKERS` and gets the whole suite.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from typing import Literal

import trio
from attrs import frozen
from tests.support import servers
from tests.support.amqp import connect
from tests.support.amqp_faults import FULL_QUEUE, PublisherFaults, is_kind
from tests.support.disks import in_place
from tests.support.proxy import Passage, open_proxy
from tests.support.servers import RabbitMQServer

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.durable import DurableBroker
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.ports import Broker

__all__ = ["BROKERS", "DRIVERS", "BrokerKind", "BrokerUnderTest", "out_of_memory"]

DRIVERS = ("amqp", "aio-pika")
"""What speaks to RabbitMQ; each is held to all that is said of it."""

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
    blocking: Callable[[], AbstractAsyncContextManager[None]]
    """While inside, an alarm keeps the broker from reading what is published. Only where it was opened alone."""


@frozen(kw_only=True)
class BrokerKind:
    """A transport, and how to get one for a test."""

    name: str
    has_virtual_time: bool
    """Whether its times follow Trio's clock, so that a `MockClock` makes them exact and instant."""
    knows_destinations: bool
    """Whether it knows of a delayed message which queue it is for; else `depth` counts it for each."""
    open: Callable[[], AbstractAsyncContextManager[BrokerUnderTest]]
    open_alone: Callable[[], AbstractAsyncContextManager[BrokerUnderTest]]
    """On a server that nobody else uses: what is done to it hurts no other test."""


@asynccontextmanager
async def _embedded() -> AsyncIterator[BrokerUnderTest]:
    yield _with_faults(EmbeddedBroker())


@asynccontextmanager
async def _durable() -> AsyncIterator[BrokerUnderTest]:
    """Without a thread for the disk, so that a virtual clock never overtakes it."""
    with tempfile.TemporaryDirectory(prefix="mtrio-queues-") as folder:
        async with DurableBroker(folder, open_writer=in_place, clock=trio.current_time).open() as broker:
            yield _with_faults(broker)


def _with_faults(broker: EmbeddedBroker) -> BrokerUnderTest:
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

    @asynccontextmanager
    async def blocking() -> AsyncIterator[None]:
        with broker.blocking("low on memory"):
            yield

    return BrokerUnderTest(
        broker=broker,
        drop=drop,
        unreachable=unreachable,
        without_confirms=without_confirms,
        refusing_next=refusing_next,
        blocking=blocking,
    )


@asynccontextmanager
async def _rabbitmq_alone(driver: str) -> AsyncIterator[BrokerUnderTest]:
    with servers.rabbitmq_alone() as server:
        async with _rabbitmq(driver, server, "/") as under_test:
            yield under_test


@asynccontextmanager
async def _shared_rabbitmq(driver: str) -> AsyncIterator[BrokerUnderTest]:
    async with _rabbitmq(driver, servers.rabbitmq(), _vhost()) as under_test:
        yield under_test


@asynccontextmanager
async def _rabbitmq(driver: str, server: RabbitMQServer, vhost: str) -> AsyncIterator[BrokerUnderTest]:
    async with open_proxy(server.port) as proxy:
        faults = PublisherFaults(proxy)
        faults.install()

        async def drop(which: Links) -> None:
            def is_meant(passage: Passage) -> bool:
                return which == "all" or is_kind(passage, which)

            await trio.lowlevel.checkpoint()
            proxy.cut(is_meant)

        @asynccontextmanager
        async def without_confirms() -> AsyncIterator[None]:
            faults.hold_confirms()
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    await faults.release_confirms()

        async def refusing_next(publications: int) -> None:
            async with connect(server.port, vhost) as client:
                await client.declare_queue(
                    FULL_QUEUE, {"x-max-length": ("I", 0), "x-overflow": ("S", "reject-publish")}
                )
            faults.refusals = publications

        @asynccontextmanager
        async def blocking() -> AsyncIterator[None]:
            async with out_of_memory(server):
                yield

        settings = RabbitMQSettings(host=servers.HOST, port=proxy.port, virtual_host=vhost, driver=driver)
        under_test = BrokerUnderTest(
            broker=RabbitMQBroker(settings, client_name="tests"),
            drop=drop,
            unreachable=proxy.refusing,
            without_confirms=without_confirms,
            refusing_next=refusing_next,
            blocking=blocking,
        )
        try:
            yield under_test
        finally:
            with trio.CancelScope(shield=True):
                await _empty(server.port, vhost, faults.declared | {FULL_QUEUE})


@cache
def _vhost() -> str:
    """One for all tests of a process, emptied between them: making the delay queues anew takes longer than a test."""
    return servers.new_vhost()


@asynccontextmanager
async def out_of_memory(server: RabbitMQServer) -> AsyncIterator[None]:
    """While inside, the server has its memory alarm on. If cancelled, it is off again all the same."""
    try:
        await trio.to_thread.run_sync(server.control, "set_vm_memory_high_watermark", "0.0000001")
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.control, "set_vm_memory_high_watermark", "0.4")


async def _empty(port: int, vhost: str, queues: set[str]) -> None:
    """Delete those queues and empty the delay queues. Exchanges stay; without queues they lead nowhere."""
    rungs = {queue.name for queue in LADDER.queues}
    async with connect(port, vhost) as client:
        for name in queues - rungs:
            await client.delete_queue(name)
        for name in queues & rungs:
            await client.purge(name)


BROKERS = (
    BrokerKind(name="embedded", has_virtual_time=True, knows_destinations=True, open=_embedded, open_alone=_embedded),
    BrokerKind(name="durable", has_virtual_time=True, knows_destinations=True, open=_durable, open_alone=_durable),
    *(
        BrokerKind(
            name=driver,
            has_virtual_time=False,
            knows_destinations=False,
            open=partial(_shared_rabbitmq, driver),
            open_alone=partial(_rabbitmq_alone, driver),
        )
        for driver in DRIVERS
    ),
)
