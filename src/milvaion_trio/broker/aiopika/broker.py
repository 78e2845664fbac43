"""RabbitMQ as its users see it: a name, and two kinds of connections."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import quote

from attrs import field, frozen

from milvaion_trio.broker.aiopika.administration import Administration
from milvaion_trio.broker.aiopika.consumer import AioPikaConsumer
from milvaion_trio.broker.aiopika.link import Endpoint, open_link
from milvaion_trio.broker.aiopika.publisher import AioPikaPublisher
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["CONNECT_TIMEOUT", "AioPikaBroker"]

HEARTBEAT = 10
"""Seconds; a dead link is noticed within 38 (DESIGN.md 4)."""

CONNECT_TIMEOUT = 10.0
"""Seconds; a broker that is slower than that is not there yet, and the next attempt comes soon."""


@frozen
class AioPikaBroker:
    """Implements `ports.Broker` with aio-pika.

    Nothing is shared between connections; each has an asyncio loop of its own, which ends with it.
    """

    settings: RabbitMQSettings
    client_name: str = field(default="milvaion-trio", kw_only=True)
    """What connections are called in RabbitMQ's listings, with their purpose behind it; the worker's id, say."""
    heartbeat: int = field(default=HEARTBEAT, kw_only=True)
    """Seconds, 1 or more."""
    connect_timeout: float = field(default=CONNECT_TIMEOUT, kw_only=True)
    """Seconds for TCP and handshake together."""

    def __attrs_post_init__(self) -> None:
        for library in ("aio_pika", "aiormq"):
            logger = logging.getLogger(library)
            # They log lost connections with tracebacks, which say nothing that our one line does not say.
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.CRITICAL)

    @property
    def name(self) -> str:
        """For messages to people."""
        settings = self.settings
        # A slash that is part of a name is told from the one before the name.
        name = "" if settings.virtual_host == "/" else quote(settings.virtual_host, safe="")
        return f"amqp://{settings.host}:{settings.port}/{name}"

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[AioPikaPublisher]:
        """Open a publishing connection. If cancelled, none was opened, or it is closed in an orderly way."""
        async with open_link(partial(AioPikaPublisher, self._endpoint("publishing"))) as link:
            yield link

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[AioPikaConsumer]:
        """Open a consuming connection; leaving it, also by cancellation, returns every unsettled delivery."""
        async with open_link(partial(AioPikaConsumer, self._endpoint("consuming"))) as link:
            yield link

    @asynccontextmanager
    async def administering(self) -> AsyncIterator[Administration]:
        """Open a connection that looks at exchanges and queues and deletes them. If cancelled, it is closed."""
        async with open_link(partial(Administration, self._endpoint("administration"))) as link:
            yield link

    def _endpoint(self, purpose: str) -> Endpoint:
        name = f"{self.client_name} {purpose}"
        return Endpoint(
            settings=self.settings,
            heartbeat=self.heartbeat,
            connect_timeout=self.connect_timeout,
            client_name=name,
        )
