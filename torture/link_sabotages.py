"""Defects to order in how a worker lives with its links, for the scenarios about networks, alarms and signals.

Separate from the other sabotages because these take out what guards against a network, and nothing about jobs.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
from attrs import evolve

from torture.wrapping import replace

__all__ = ["LINK_SABOTAGES"]

RABBITMQ: Final = "milvaion_trio.broker.rabbitmq"
AMQP: Final = "milvaion_trio.broker.amqp"
IMPATIENCE: Final = 0.25
"""Seconds after which the impatient publisher gives up on confirms."""


def no_adoption() -> None:
    """Take a message that comes back over a new link for a new one, although its job still runs."""
    replace("milvaion_trio.policy.ledger:Ledger.running", lambda _: lambda *__: None)


def no_heartbeat() -> None:
    """Let AMQP connections have no heartbeat, so that only an error ends them."""

    def make(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: evolve(endpoint(*arguments), heartbeat=0)

    replace(f"{RABBITMQ}.broker:RabbitMQBroker._endpoint", make)


def impatient_publisher() -> None:
    """Take a confirm that does not come in time for a failure, and publish again over the same link."""

    def make(publish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(publisher: Any, publications: Any) -> Any:
            with trio.move_on_after(IMPATIENCE):
                return await publish(publisher, publications)
            return await publish(publisher, publications)

        return wrong

    replace(f"{RABBITMQ}.publisher:RabbitMQPublisher.publish", make)


def one_connection() -> None:
    """Publish on the consuming connection, too, so that an alarm stops its acks."""
    encoding = importlib.import_module(f"{AMQP}.encoding")
    message = importlib.import_module("milvaion_trio.model.envelope").Message(body=b"for nobody")

    def make(settle: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(deliveries: Any, frame: bytes) -> None:
            unroutable = encoding.publish_frames(deliveries.channel, "", "no such queue", message, 100_000)
            settle(deliveries, unroutable + frame)

        return wrong

    replace(f"{RABBITMQ}.deliveries:RabbitMQDeliveries.settle", make)


def strict_decoder() -> None:
    """Read the properties of messages with pamqp, as the client library would do it."""
    header = importlib.import_module("pamqp.header")

    def make(message: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(data: bytes, body: bytes) -> Any:
            header.ContentHeader().unmarshal(data)
            return message(data, body)

        return wrong

    replace(f"{AMQP}.decoding:message", make)


def no_ping() -> None:
    """Take silence of Redis for peace."""
    setattr(importlib.import_module("milvaion_trio.signals.redis.listener"), "PING_INTERVAL", float("inf"))  # noqa: B010


def no_tombstones() -> None:
    """Forget every cancel of what does not run at that moment."""
    replace("milvaion_trio.policy.ledger:Ledger.cancelled", lambda _: lambda *__: None)


LINK_SABOTAGES: Final[Mapping[str, Callable[[], None]]] = {
    "no-adoption": no_adoption,
    "no-heartbeat": no_heartbeat,
    "impatient-publisher": impatient_publisher,
    "one-connection": one_connection,
    "strict-decoder": strict_decoder,
    "no-ping": no_ping,
    "no-tombstones": no_tombstones,
}
