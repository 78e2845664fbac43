"""A connection for whoever looks at a broker and clears it up, which no worker does.

Looking makes nothing: what does not exist is left so, and only what exists is compared, by declaring it once more.
"""

from contextlib import suppress

from aiormq import Channel
from attrs import define

from milvaion_trio.broker.aiopika.consumer import AioPikaConsumer
from milvaion_trio.broker.aiopika.declaring import declare, exists
from milvaion_trio.broker.aiopika.link import Refused
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.headers import text
from milvaion_trio.ports import Exchange, Queue, Topology

__all__ = ["Administration"]


@define(eq=False)
class Administration(AioPikaConsumer):
    """Looks at exchanges and queues, compares them, and deletes them."""

    @property
    def server(self) -> tuple[str, str]:
        """The product and its version, as the broker told them when it greeted."""
        transport = self._connection.transport
        told = {} if transport is None else transport.connection.server_properties
        return text(told.get("product")) or "a broker", text(told.get("version")) or "of unknown version"

    async def has(self, what: Exchange | Queue) -> bool:
        """Whether there is an exchange or queue of this name, whatever its kind. If cancelled, nothing changes."""
        return await exists(self, what)

    async def difference(self, existing: Exchange | Queue) -> str | None:
        """What is wrong with something that exists, as a sentence; `None` where it is as it should be.

        If cancelled, nothing changes.
        """
        topology = Topology(queues=[existing]) if isinstance(existing, Queue) else Topology(exchanges=[existing])
        try:
            await declare(self, topology)
        except SettingsError as error:
            return error.problems[0]
        return None

    async def delete_queue(self, name: str) -> None:
        """Delete it with all that is in it; nothing happens when there is none. If cancelled, it may be gone.

        Quorum queues know neither `if-empty` nor `if-unused`, so whoever calls this has looked before.
        """

        async def delete(channel: Channel) -> None:
            await channel.queue_delete(name)

        await self.on_new_channel(delete)

    async def delete_exchange(self, name: str, queue: str) -> str | None:
        """Delete an exchange that leads to this queue, by an empty key, and nowhere else.

        Where something else is bound to it too, it stays, and RabbitMQ's reason is returned.
        If cancelled, it may be gone, or lead nowhere.
        """

        async def unbind(channel: Channel) -> None:
            await channel.queue_unbind(queue, name, "")

        async def delete(channel: Channel) -> None:
            await channel.exchange_delete(name, if_unused=True)

        with suppress(Refused):  # one of them does not exist
            await self.on_new_channel(unbind)
        try:
            await self.on_new_channel(delete)
        except Refused as refused:
            return None if refused.is_missing else str(refused)
        return None
