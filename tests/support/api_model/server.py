"""The played API on a real RabbitMQ: declares what the API declares, reads what it reads, publishes dispatches.

A thin runner around `ApiModel`, which decides everything.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import trio
from attrs import define, field
from tests.support.amqp import Channel, Client, Closed, WireMessage, connect
from tests.support.api_model.database import ENDS, FailedOccurrence, Job, Occurrence
from tests.support.api_model.dispatcher import Dispatch, Sender
from tests.support.api_model.findings import Rule
from tests.support.api_model.model import ApiModel
from tests.support.api_model.settings import ApiSettings
from tests.support.api_model.topology import (
    API_QUEUES,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_KEY,
    FAILED_JOBS,
    JOBS_EXCHANGE,
    UNBOUND_JOB_QUEUE,
    UNBOUND_JOB_QUEUE_ARGUMENTS,
)
from tests.support.api_model.wire_message import Settlement, Verdict

__all__ = ["ApiServer", "api_server"]

RECONNECT: Final = 0.2
"""Seconds. The real API waits 5, 10, 15 …; a test has no use for that."""
CONFLICT: Final = 406
"""AMQP's code for a queue or exchange that is there with other flags or arguments."""


@asynccontextmanager
async def api_server(
    port: int, vhost: str = "/", settings: ApiSettings | None = None, *, now: Callable[[], float] = time.time
) -> "AsyncIterator[ApiServer]":
    """An API that is there while the context is open, over lost connections too.

    Raises `OSError` or `Closed` (in a group) when it cannot start, and ends the test when its declarations conflict
    with somebody else's. If cancelled, what it has not acknowledged goes back to the queues.
    """
    server = ApiServer(port, vhost, ApiModel(settings), now)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        nursery.start_soon(server.keep_time)
        yield server
        nursery.cancel_scope.cancel()


@define(eq=False)
class ApiServer:
    """What a test sees of the API. `model` has everything that is not offered here."""

    port: int
    vhost: str
    model: ApiModel
    now: Callable[[], float]
    _channels: dict[str, Channel] = field(factory=dict, init=False)
    """By queue, while there is a connection."""
    _client: Client | None = field(default=None, init=False)
    _link: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)
    _is_away: bool = field(default=False, init=False)

    # --- what a test asks for ---------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until the condition holds; it is looked at after each message and batch.

        Raises `AssertionError` with a report when the time is over, or as soon as something is requeued for ever,
        since then a real API would be stuck. If cancelled, nothing happened.
        """
        with trio.move_on_after(seconds):
            while True:
                if condition():
                    return
                if self.model.requeues:
                    raise AssertionError(f"The API is stuck.\n{self.model.report()}")
                await self._changed.wait()
        raise AssertionError(f"Not within {seconds} s.\n{self.model.report()}")

    async def until_ended(self, *occurrence_ids: str, seconds: float = 20.0) -> None:
        """Wait until these occurrences, or all, have an end. Raises and if cancelled: as `until`."""
        await self.until(
            lambda: all(
                self.occurrence(identity).status in ENDS
                for identity in occurrence_ids or self.model.database.occurrences
            ),
            seconds,
        )

    async def until_idle(self, seconds: float = 20.0) -> None:
        """Wait until everything in the API's queues is read and stored. Raises and if cancelled: as `until`."""
        looks = 0
        with trio.move_on_after(seconds):
            while not self.model.requeues:
                is_idle = await self._ready() + self.model.unstored == 0
                looks = looks + 1 if is_idle else 0
                if looks == 2:  # one may come between a delivery and its reader
                    return
                await self._changed.wait()
        raise AssertionError(f"Not idle within {seconds} s.\n{self.model.report()}")

    def create_job(self, name: str, **properties: Any) -> Job:
        """Create a job as over REST; raises `ValueError` when no registered worker lists it."""
        return self.model.create_job(name, **properties)

    async def dispatch(
        self, job: str | Job, data: object = None, *, sender: Sender = Sender.DISPATCHER, **properties: Any
    ) -> str:
        """Dispatch a job, which is created with `properties` when only its name is given and it is new.

        Returns the occurrence's id; if the message is returned, the occurrence is Failed. Raises `Closed` when the
        connection is lost meanwhile, and then the message may have arrived. If cancelled, too.
        """
        if isinstance(job, str):
            job = self.model.job_named(job) or self.create_job(job, **properties)
        dispatch = self.model.dispatch(job.id, self.now(), data, sender=sender)
        await self.publish(dispatch)
        return dispatch.occurrence_id

    async def dispatch_again(self, occurrence_id: str, data: str | None = None) -> None:
        """Repeat an occurrence as the workflow engine does. Raises and if cancelled: as `dispatch`."""
        await self.publish(self.model.dispatcher.dispatch_again(occurrence_id, self.now(), data=data))

    async def publish(self, dispatch: Dispatch) -> None:
        """Publish a dispatch, as soon as there is a connection. Raises and if cancelled: as `dispatch`."""
        while (client := self._client) is None:
            await self._changed.wait()
        arrived = await client.publish(
            dispatch.exchange, dispatch.routing_key, dispatch.body, dispatch.properties, dispatch.headers
        )
        if not arrived:
            self.model.dispatcher.returned(dispatch.occurrence_id, self.now())

    def cancel_text(self, occurrence_id: str, reason: str | None = None) -> str:
        """Cancel a running occurrence and return the signal to publish in Redis. Raises `ValueError`."""
        return self.model.cancel(occurrence_id, self.now(), reason)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """While inside, the API is down and messages wait in its queues; it comes back as if newly started.

        If cancelled inside, it comes back, too.
        """
        self._is_away = True
        self._link.cancel()
        try:
            while self._client is not None:
                await self._changed.wait()
            yield
        finally:
            self.model.restart(self.now())
            self._is_away = False
            self._notify()

    # --- views ------------------------------------------------------------------------------------------------------

    def occurrence(self, occurrence_id: str) -> Occurrence:
        """An occurrence; raises `KeyError` for an unknown one."""
        return self.model.occurrence(occurrence_id)

    @property
    def failed_occurrences(self) -> list[FailedOccurrence]:
        """What the DLQ made, in order."""
        return self.model.failed_occurrences

    def assert_content(self, *, allow: Iterable[Rule] = ()) -> None:
        """See `ApiModel.assert_content`."""
        self.model.assert_content(allow=frozenset(allow))

    # --- its life ---------------------------------------------------------------------------------------------------

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be connected, again and again. Runs until cancelled; started once all queues are consumed."""
        is_first = True
        while True:
            while self._is_away:
                await self._changed.wait()
            with trio.CancelScope() as self._link:
                try:
                    await self._connected(task_status if is_first else trio.TASK_STATUS_IGNORED)
                except* (OSError, Closed, trio.BrokenResourceError) as lost:  # the last: reset during the handshake
                    if is_first or lost.subgroup(lambda error: getattr(error, "code", 0) == CONFLICT):
                        raise
                finally:
                    self._client = None
                    self._channels.clear()
                    self.model.status_tracker.forget()  # unacknowledged: the broker delivers it again
                    self._notify()
            is_first = False
            if not self._is_away:
                await trio.sleep(RECONNECT)

    async def keep_time(self) -> None:
        """Let the time of the model pass. Runs until cancelled."""
        settings = self.model.settings
        while True:
            await trio.sleep(min(settings.status_interval, settings.log_interval, settings.heartbeat_interval))
            if not self._is_away:
                await self._settle(self.model.tick(self.now()))
            self._notify()

    async def _connected(self, task_status: trio.TaskStatus[None]) -> None:
        async with connect(self.port, self.vhost) as client, AsyncExitStack() as channels:
            await _declare(client)
            async with trio.open_nursery() as nursery:
                for queue in API_QUEUES.values():
                    channel = await channels.enter_async_context(client.channel())
                    self._channels[queue.name] = channel
                    messages = await channel.consume(queue.name, queue.prefetch)
                    nursery.start_soon(self._read, queue.name, messages, nursery.cancel_scope)
                self._client = client
                self._notify()
                task_status.started()

    async def _read(self, queue: str, messages: trio.MemoryReceiveChannel[WireMessage], link: trio.CancelScope) -> None:
        async for message in messages:
            await self._settle(self.model.take(queue, message, self.now()))
            self._notify()
        link.cancel()  # a consumer that ended without being told to: everything is opened anew

    async def _settle(self, settlements: Iterable[Settlement]) -> None:
        with suppress(Closed):  # it is delivered again
            for settlement in settlements:
                channel = self._channels.get(settlement.queue)
                if channel is None or settlement.verdict is Verdict.PARK:
                    continue
                if settlement.verdict is Verdict.ACK:
                    await channel.ack(settlement.message.delivery_tag)
                else:
                    await channel.nack(settlement.message.delivery_tag, requeue=False)

    async def _ready(self) -> int:
        if self._client is None:
            return 1
        with suppress(Closed):
            return sum([(await self._client.declare_queue(name, passive=True))[0] for name in API_QUEUES])
        return 1

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def _declare(client: Channel) -> None:
    await client.declare_exchange(JOBS_EXCHANGE, "topic")
    await client.declare_exchange(DEAD_LETTER_EXCHANGE, "direct")
    for queue in API_QUEUES:
        await client.declare_queue(queue)
    await client.bind(FAILED_JOBS, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY)
    await client.declare_queue(UNBOUND_JOB_QUEUE, UNBOUND_JOB_QUEUE_ARGUMENTS)
