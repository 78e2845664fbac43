"""A connection for whoever looks at a broker and clears it up, which no worker does.

Looking makes nothing: what does not exist is left so, and only what exists is compared, by declaring it once more.
"""

from contextlib import suppress

from attrs import define
from pamqp import commands

from milvaion_trio.broker.link import Refused, new_channel
from milvaion_trio.broker.rabbitmq.consumer import RabbitMQConsumer
from milvaion_trio.broker.rabbitmq.declaring import declare, exists
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.ports import Exchange, Queue, Topology

__all__ = ["Administration"]


@define(eq=False)
class Administration(RabbitMQConsumer):
    """Looks at exchanges and queues, compares them, and deletes them."""

    @property
    def server(self) -> tuple[str, str]:
        """The product and its version, as the broker told them when it greeted."""
        return self.link.server

    async def has(self, what: Exchange | Queue) -> bool:
        """Whether there is an exchange or queue of this name, whatever its kind. If cancelled, nothing changes."""
        return await exists(self.link, what)

    async def difference(self, existing: Exchange | Queue) -> str | None:
        """What is wrong with something that exists, as a sentence; `None` where it is as it should be.

        If cancelled, nothing changes.
        """
        topology = Topology(queues=[existing]) if isinstance(existing, Queue) else Topology(exchanges=[existing])
        try:
            await declare(self.link, topology)
        except SettingsError as error:
            return error.problems[0]
        return None

    async def delete_queue(self, name: str) -> None:
        """Delete it with all that is in it; nothing happens when there is none. If cancelled, it may be gone.

        Quorum queues know neither `if-empty` nor `if-unused`, so whoever calls this has looked before.
        """
        async with new_channel(self.link) as channel:
            await self.link.ask(channel, _QueueDelete(queue=name))

    async def delete_exchange(self, name: str, queue: str) -> str | None:
        """Delete an exchange that leads to this queue, by an empty key, and nowhere else.

        Where something else is bound to it too, it stays, and RabbitMQ's reason is returned.
        If cancelled, it may be gone, or lead nowhere.
        """
        with suppress(Refused):  # one of them does not exist
            async with new_channel(self.link) as channel:
                await self.link.ask(channel, _QueueUnbind(queue=queue, exchange=name, routing_key=""))
        try:
            async with new_channel(self.link) as channel:
                await self.link.ask(channel, _ExchangeDelete(exchange=name, if_unused=True))
        except Refused as refused:
            return None if refused.is_missing else str(refused)
        return None


# As in `declaring`: pamqp allows names of some letters only.


class _QueueDelete(commands.Queue.Delete):
    def validate(self) -> None:
        """Any name will do."""


class _QueueUnbind(commands.Queue.Unbind):
    def validate(self) -> None:
        """Any name will do."""


class _ExchangeDelete(commands.Exchange.Delete):
    def validate(self) -> None:
        """Any name will do."""
