"""RabbitMQ as its users see it: a name, and kinds of connections, over whichever client the settings name."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import trio
from attrs import field, frozen

from milvaion_trio.broker.connecting import silence
from milvaion_trio.broker.link import Endpoint, Link, OpenLink
from milvaion_trio.broker.rabbitmq.administration import Administration
from milvaion_trio.broker.rabbitmq.consumer import RabbitMQConsumer
from milvaion_trio.broker.rabbitmq.failover import Failover
from milvaion_trio.broker.rabbitmq.publisher import RabbitMQPublisher
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.policy.login import login_contradictions

__all__ = ["CONNECT_TIMEOUT", "RabbitMQBroker"]

HEARTBEAT = 10
"""Seconds; a dead link is noticed within 25, with aio-pika within 38 (DESIGN.md 4)."""

CONNECT_TIMEOUT = 10.0
"""Seconds; a broker that is slower than that is not there yet, and the next attempt comes soon."""


@frozen
class RabbitMQBroker:
    """Implements `ports.Broker`. Connections share nothing but the knowledge of which host let somebody in last."""

    settings: RabbitMQSettings
    client_name: str = field(default="milvaion-trio", kw_only=True)
    """What connections are called in RabbitMQ's listings, with their purpose behind it; the worker's id, say."""
    heartbeat: int = field(default=HEARTBEAT, kw_only=True)
    """Seconds, 1 or more."""
    connect_timeout: float = field(default=CONNECT_TIMEOUT, kw_only=True)
    """Seconds for TCP and handshake together, with all hosts that are tried."""
    _failover: Failover = field(factory=Failover, init=False, eq=False, repr=False)

    @property
    def name(self) -> str:
        """For messages to people."""
        settings = self.settings
        # A slash that is part of a name is told from the one before the name.
        name = "" if settings.virtual_host == "/" else quote(settings.virtual_host, safe="")
        scheme, addresses = "amqps" if settings.tls else "amqp", ",".join(map(str, settings.addresses))
        return f"{scheme}://{addresses}/{name}"

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[RabbitMQPublisher]:
        """Open a publishing connection. If cancelled, none was opened, or it is closed in an orderly way."""
        publisher = RabbitMQPublisher()
        async with self._opened(publisher, "publishing"):
            with trio.move_on_after(self.connect_timeout) as limit:
                await publisher.prepare()
            if limit.cancelled_caught:
                raise silence(publisher.link.endpoint.where, self.connect_timeout)
            yield publisher

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[RabbitMQConsumer]:
        """Open a consuming connection; leaving it, also by cancellation, returns every unsettled delivery."""
        consumer = RabbitMQConsumer()
        async with self._opened(consumer, "consuming"):
            yield consumer

    @asynccontextmanager
    async def administering(self) -> AsyncIterator[Administration]:
        """Open a connection that looks at exchanges and queues and deletes them. If cancelled, it is closed."""
        administration = Administration()
        async with self._opened(administration, "administration"):
            yield administration

    @asynccontextmanager
    async def _opened(self, user: RabbitMQPublisher | RabbitMQConsumer, purpose: str) -> AsyncIterator[None]:
        """A connection for it, to an address that lets us in. If cancelled, it is closed in an orderly way."""
        async with AsyncExitStack() as stack:
            user.link = await self._first(stack, user, purpose)
            user.link.loss.on_declared(user.after_loss)
            yield

    async def _first(self, stack: AsyncExitStack, user: RabbitMQPublisher | RabbitMQConsumer, purpose: str) -> Link:
        """Raises `SettingsError` before trying, and then as `Failover.first`. If cancelled, the stack closes it."""
        _check_login(self.settings)
        driver = self._driver()

        async def open_link(address: BrokerAddress, seconds: float) -> Link:
            return await stack.enter_async_context(driver(self._endpoint(address, seconds, purpose), user))

        return await self._failover.first(self.settings.addresses, self.connect_timeout, open_link)

    def _endpoint(self, address: BrokerAddress, seconds: float, purpose: str) -> Endpoint:
        return Endpoint(
            settings=self.settings,
            address=address,
            heartbeat=self.heartbeat,
            connect_timeout=seconds,
            client_name=f"{self.client_name} {purpose}",
        )

    def _driver(self) -> OpenLink:
        """Imported here: the other one need not be installed, and costs an asyncio loop and 20 MB."""
        if self.settings.driver == "aio-pika":
            from milvaion_trio.broker.aiopika import open_link as through_aio_pika

            return through_aio_pika
        from milvaion_trio.broker.amqp.link import open_link

        return open_link


def _check_login(settings: RabbitMQSettings) -> None:
    """Raise `SettingsError` for what no RabbitMQ lets in, as it is forgotten more often than meant.

    And for what would send a password otherwise than the settings seem to say: a client asks nobody else before.
    """
    problems = list(login_contradictions(settings))
    if settings.authentication == "PLAIN" and not settings.username:
        problems.append("User '' cannot be used: it must not be empty (Worker:RabbitMQ:Username).")
    if settings.authentication == "PLAIN" and not settings.password:
        problems.append(
            f"The password of user {settings.username!r} cannot be used: it must not be empty "
            "(Worker:RabbitMQ:Password)."
        )
    if problems:
        raise SettingsError(problems)
