"""A consumer on a link of which the test says what comes when; what real servers do is in tests/contract."""

from collections.abc import Callable

import pytest
import trio
from attrs import define, field
from pamqp import commands
from pamqp.base import Frame

from milvaion_trio.broker.amqp.events import ChannelClosedEvent
from milvaion_trio.broker.link import Endpoint, Loss
from milvaion_trio.broker.rabbitmq.consumer import RabbitMQConsumer
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.settings import RabbitMQSettings

ENDPOINT = Endpoint(
    settings=RabbitMQSettings(), address=BrokerAddress("rabbit", 5672), heartbeat=10, connect_timeout=1, client_name="c"
)


@define(eq=False)
class ClosingLink:
    """Answers every question, and closes the channel in the same breath as it says yes to a consumer."""

    consumer: RabbitMQConsumer
    endpoint: Endpoint = ENDPOINT
    loss: Loss = field(factory=Loss)
    frame_max: int = 4096
    server: tuple[str, str] = ("RabbitMQ", "0")

    def write(self, frames: bytes) -> None:
        """Nobody reads it."""

    def write_later(self, frames: Callable[[], bytes]) -> None:
        """Nobody reads it."""

    async def open_channel(self) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    async def ask(self, channel: int, method: Frame) -> Frame:
        await trio.lowlevel.checkpoint()
        if method.name == "Basic.Consume":
            self.consumer.hear(ChannelClosedEvent(channel, "an operator did it", 406))
        return commands.Basic.ConsumeOk("tag")

    def end_channel(self, channel: int) -> None:
        """It is closed."""


async def test_a_channel_that_is_closed_right_behind_the_yes_ends_the_link() -> None:
    """Nothing would ever come over it. Sabotage: take it for a refusal that somebody else has heard."""
    consumer = RabbitMQConsumer()
    consumer.link = link = ClosingLink(consumer)
    link.loss.on_declared(consumer.after_loss)

    async with consumer.consume("jobs", prefetch=1) as deliveries:
        with trio.fail_after(1), pytest.raises(LinkLost, match="an operator did it"):
            await deliveries.receive()
