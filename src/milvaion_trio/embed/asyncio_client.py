"""`AsyncioClient`: enqueue and cancel from a program that runs asyncio.

A `Client` in a Trio run in a thread of its own; or, for a worker whose embedded broker lives in the Trio run in which
it serves, in that one.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, Unpack

import trio

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.client import Client, Destination, Named
from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model.errors import NotPublished
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Schedule
from milvaion_trio.model.schedule_settings import ScheduleKeywords
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports import Broker, Signals
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.runtime.definition import EnqueueOptions

if TYPE_CHECKING:  # asyncio, for who has it
    from milvaion_trio.embed.trio_thread import Started, TrioThread

__all__ = ["AsyncioClient", "Host", "in_thread_of"]

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that a client which is cancelled is waited for until its connection is closed."""


class Host(Protocol):
    """A worker, as far as a client of it needs to know it."""

    @property
    def broker(self) -> Broker:
        """Where its jobs come from."""

    @property
    def trio_token(self) -> trio.lowlevel.TrioToken | None:
        """The Trio run in which it serves now."""

    def client(self) -> Client:
        """A client for its jobs."""


class AsyncioClient:
    """Dispatches jobs to the workers of one group: `async with AsyncioClient.from_file("appsettings.json") as client:`.

    The methods are those of `Client`, and so is what they raise. While it is open, every task may use it, of other
    event loops too; it is left where it was entered.
    """

    _thread: "TrioThread | None" = None
    _leaving: trio.Event
    """Of the run in the thread, once it has started."""

    def __init__(
        self,
        broker: Broker,
        *,
        worker_id: str,
        signals: Signals | None = None,
        coordination: Coordination | None = None,
        destinations: Iterable[Destination] = (),
        uniques: Mapping[str, str] = MappingProxyType({}),
        connect_timeout: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        client = Client(
            broker,
            worker_id=worker_id,
            signals=signals,
            coordination=coordination,
            destinations=destinations,
            uniques=uniques,
            connect_timeout=connect_timeout,
            clock_ns=clock_ns,
        )
        self._hold(client, None)

    @classmethod
    def from_file(cls, config: str | PathLike[str], *, worker_id: str | None = None) -> Self:
        """A client for the workers that run with this settings file, see `Client.from_file`."""
        return cls._with(Client.from_file(config, worker_id=worker_id))

    @classmethod
    def from_settings(
        cls, settings: WorkerSettings, *, worker_id: str | None = None, connect_timeout: float = 10.0
    ) -> Self:
        """A client for the workers that run with these settings, see `Client.from_settings`."""
        return cls._with(Client.from_settings(settings, worker_id=worker_id, connect_timeout=connect_timeout))

    @classmethod
    def of(cls, worker: Host) -> Self:
        """A client for the jobs of this worker, which may be served in this program, in another, or not yet.

        Only a worker with the embedded broker must be served in this program while the client is used.
        """
        return cls._with(worker.client(), worker)

    async def __aenter__(self) -> Self:
        """Connect; a connection that is lost later is made again.

        Raises `BrokerUnreachable` when none can be had within `connect_timeout` seconds, and `NotPublished` where
        there is no asyncio, or where an embedded broker is not being served. If cancelled, nothing is open.
        """
        if not is_on_asyncio():
            raise NotPublished("AsyncioClient is for asyncio code. On Trio use `async with Client(...) as client:`.")
        if self._is_embedded:
            _token_of(self._worker)
            return self
        from milvaion_trio.embed.trio_thread import TrioThread  # asyncio, for who has it

        self._thread = await TrioThread(self._stay, name="milvaion-trio client", patience=PATIENCE).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; calls that still wait raise `NotPublished`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.soon(self._leaving.set)
            await thread.__aexit__(kind, error, traceback)  # noqa: ASYNC102  # asyncio: bounded there

    async def enqueue(self, job: str | Named, data: object = None, **options: Unpack[EnqueueOptions]) -> OccurrenceId:
        """Dispatch the job, to start at once or after `delay` seconds, and return its occurrence id once confirmed.

        The options are those of `Client.enqueue`: `delay`, `exclusive`, `unique`, `on_duplicate`, `unique_for`.
        Raises as `Client.enqueue` does, and `NotPublished` when the client is closed meanwhile. If cancelled, it may
        have been published.
        """
        return await self._carry(lambda client: client.enqueue(job, data, **options))

    async def cancel(self, occurrence_id: OccurrenceId, reason: str = "Cancelled by user") -> int:
        """Ask every worker to cancel the occurrence; returns how many were asked, as `Client.cancel` does.

        Raises as `Client.cancel` does. If cancelled, it may have been sent.
        """
        return await self._carry(lambda client: client.cancel(occurrence_id, reason))

    async def schedule(self, job: str | Named | Schedule, **keywords: Unpack[ScheduleKeywords]) -> Schedule:
        """Have a job run by itself, see `Client.schedule`. If cancelled, it may be kept."""
        return await self._carry(lambda client: client.schedule(job, **keywords))

    async def schedules(self) -> tuple[Entry, ...]:
        """Every schedule that is kept, see `Client.schedules`. If cancelled, nothing changes."""
        return await self._carry(lambda client: client.schedules())

    async def pause(self, schedule_id: str) -> None:
        """No tick of the schedule runs until it is resumed; raises `NoSuchSchedule`. If cancelled, it may be done."""
        await self._carry(lambda client: client.pause(schedule_id))

    async def resume(self, schedule_id: str) -> None:
        """Its ticks run again, see `Client.resume`; raises `NoSuchSchedule`. If cancelled, it may be done."""
        await self._carry(lambda client: client.resume(schedule_id))

    async def unschedule(self, schedule_id: str) -> None:
        """Take the schedule out, see `Client.unschedule`; raises `NoSuchSchedule`. If cancelled, it may be done."""
        await self._carry(lambda client: client.unschedule(schedule_id))

    async def trigger(self, schedule_id: str) -> OccurrenceId:
        """Run the schedule's job now, see `Client.trigger`. If cancelled, it may have been published."""
        return await self._carry(lambda client: client.trigger(schedule_id))

    @classmethod
    def _with(cls, client: Client, worker: Host | None = None) -> Self:
        made = cls.__new__(cls)
        made._hold(client, worker)
        return made

    def _hold(self, client: Client, worker: Host | None) -> None:
        self._client = client
        self._worker = worker
        self._is_embedded = isinstance(client.broker, EmbeddedBroker)

    async def _carry(self, act: Callable[[Client], Awaitable[T]]) -> T:
        from milvaion_trio.embed.crossing import carry  # asyncio, for who has it

        if self._worker is not None and self._is_embedded:
            return await in_thread_of(self._worker, partial(_with_client_of, self._worker, act))
        if self._thread is None or self._thread.token is None:
            raise NotPublished("The client is not open. Use it as `async with AsyncioClient(...) as client:`.")
        return await carry(self._thread.token, lambda: act(self._client))

    async def _stay(self, started: "Started") -> None:
        async with self._client:
            self._leaving = trio.Event()
            started()
            await self._leaving.wait()


async def _with_client_of(worker: Host, act: Callable[[Client], Awaitable[T]]) -> T:
    """On an embedded broker, whose connections cost nothing: one for each call."""
    async with worker.client() as client:
        return await act(client)


async def in_thread_of(worker: Host, function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function where this worker serves, for asyncio code; in a job with `run="asyncio"`, where that runs.

    Raises what it raises, and `NotPublished` when the worker does not serve, or leaves meanwhile.
    If cancelled, the function is cancelled.
    """
    from milvaion_trio.embed.crossing import carry  # asyncio, for who has it

    token = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else _token_of(worker)
    return await carry(token, function)


def _token_of(worker: Host | None) -> trio.lowlevel.TrioToken:
    token = None if worker is None else worker.trio_token
    if token is not None:
        return token
    serve = "`async with milvaion_trio.embed.serving(worker):`"
    if worker is None or isinstance(worker.broker, EmbeddedBroker):
        raise NotPublished(
            "The queues of an embedded broker are in the worker that serves them, and none does here. Serve it in "
            f"this program, {serve}, and enqueue meanwhile, with the job's own `enqueue` or `AsyncioClient.of(worker)`."
        )
    raise NotPublished(
        "This worker does not serve in this program, so asyncio code cannot enqueue through it. Open a connection, "
        f"`async with milvaion_trio.AsyncioClient.of(worker) as client:`, or serve it here, {serve}."
    )
