"""A monitor in a test: on an embedded broker, with its store in the test's own thread, and stores that fail on demand.

In virtual time a thread is not seen to be busy, so the clock would jump ahead while a store works in one.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from attrs import define, evolve, field
from tests.support.workers import JOB_ID, at, guid

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.ids import InstanceId, OccurrenceId, WorkerId
from milvaion_trio.model.messages import (
    DeadLetter,
    JobMessage,
    LogEntry,
    LogRecord,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerMetadata,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import MonitorSettings
from milvaion_trio.model.wire import (
    encode_dead_letter,
    encode_heartbeat,
    encode_job,
    encode_logs,
    encode_registration,
    encode_status,
)
from milvaion_trio.monitor import Monitor
from milvaion_trio.monitor.queues import TOPOLOGY, copies
from milvaion_trio.ports import Broker, Confirmation
from milvaion_trio.ports.history import HistoryStore, Rows
from milvaion_trio.testing.clock import VIRTUAL_START, clock_ns, instant_now

__all__ = ["FailingHistory", "Watched", "Wire", "beat", "inline", "publish", "registered", "watched"]

T = TypeVar("T")


@define(eq=False)
class Watched:
    """A monitor that runs."""

    monitor: Monitor
    store: HistoryStore
    scope: trio.CancelScope

    async def settled(self) -> None:
        """Return when all that was published is kept. If cancelled, nothing changes."""
        await trio.sleep(10 * self.monitor.settings.batch_interval)


def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let monitors do in their own thread what they do in another one."""

    async def do(_: Monitor, function: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return function()

    monkeypatch.setattr(Monitor, "_in_thread", do)


@asynccontextmanager
async def watched(broker: Broker, store: HistoryStore | Path, **options: Any) -> AsyncIterator[Watched]:
    """Run a monitor while the context is open; its errors are the context's."""
    history = SQLiteHistory(store / "history.db") if isinstance(store, Path) else store
    settings = evolve(MonitorSettings(), **{name: options.pop(name) for name in tuple(options) if name in SETTINGS})
    monitor = Monitor(broker=broker, store=history, settings=settings, clock_ns=clock_ns, **options)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as start:
            await nursery.start(monitor.run)
        assert not start.cancelled_caught
        yield Watched(monitor, history, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


SETTINGS = {"zombie_timeout", "check_interval", "retention_days", "batch_interval"}


def publish(broker: EmbeddedBroker, queue: str, body: bytes, **message: Any) -> None:
    """Put a message into a queue of the monitor, which is made where it is missing."""
    if queue not in broker.queues:
        broker.declare_nowait(TOPOLOGY)
    publication = Publication(Message(body=body, **message), queue)
    assert broker.publish_nowait(publication) is Confirmation.CONFIRMED


@define(eq=False)
class FailingHistory:
    """A store that can be away, and remembers what it was told to write."""

    history: HistoryStore
    trouble: str = ""
    """Why it is away; "" while it is there."""
    refuses: Callable[[Rows], Exception | None] = lambda _: None
    """What it raises for these rows, though it is there."""
    saved: list[Rows] = field(factory=list, init=False)
    tries: int = field(default=0, init=False)

    def save(self, rows: Rows) -> None:
        """Write, unless it is away."""
        self._check()
        if (error := self.refuses(rows)) is not None:
            raise error
        self.history.save(rows)
        self.saved.append(rows)

    def load(self, ids: Collection[OccurrenceId]) -> Mapping[OccurrenceId, OccurrenceRecord]:
        """Read, unless it is away."""
        self._check()
        return self.history.load(ids)

    def __enter__(self) -> "FailingHistory":
        self.history.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.history.__exit__(*_)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.history, name)

    def _check(self) -> None:
        self.tries += 1
        if self.trouble:
            raise StoreUnavailable(self.trouble)


class Wire:
    """The messages of one occurrence of a worker `w`, put where a worker or a dispatcher puts them."""

    def __init__(self, broker: EmbeddedBroker, number: int = 1) -> None:
        self.id = guid(number)
        self._broker = broker

    def dispatched(self, data: str | None = None, *, zombie_minutes: int | None = None, **header: HeaderValue) -> None:
        """The dispatcher publishes it; of its job there is no queue, but a monitor that gets copies."""
        pattern = "w.work.*"
        job = JobMessage(
            id=JOB_ID,
            job_name_in_worker="WorkJob",
            job_data=data,
            worker_id="w",
            routing_pattern=pattern,
            zombie_timeout_minutes=zombie_minutes,
        )
        message = Message(
            body=encode_job(job),
            headers={headers.OCCURRENCE_ID: self.id} | {name.replace("_", "-"): v for name, v in header.items()},
            correlation_id=self.id,
            timestamp=int(VIRTUAL_START.to_datetime().timestamp() + trio.current_time()),
        )
        self._broker.declare_nowait(TOPOLOGY)
        self._broker.declare_nowait(copies([pattern]))
        publication = Publication(message, topology.routing_key(pattern), topology.JOBS_EXCHANGE)
        assert self._broker.publish_nowait(publication) is Confirmation.CONFIRMED

    def told(
        self, status: OccurrenceStatus, *, start: float | None = None, end: float | None = None, **more: Any
    ) -> None:
        """A worker tells a status."""
        update = StatusUpdate(
            occurrence_id=self.id,
            job_id=JOB_ID,
            worker_id=WorkerId("w"),
            instance_id=InstanceId("w-1"),
            status=status,
            start_time=None if start is None else at(start),
            end_time=None if end is None else at(end),
            message_timestamp=instant_now(),
            **more,
        )
        publish(self._broker, topology.STATUS_QUEUE, encode_status(update))

    def logged(self, *texts: str) -> None:
        """A worker sends a batch of log lines."""
        now = instant_now()
        records = [
            LogRecord(
                occurrence_id=self.id,
                worker_id=InstanceId("w-1"),
                log=LogEntry(timestamp=now, level="Information", message=text),
                message_timestamp=now,
            )
            for text in texts
        ]
        publish(self._broker, topology.LOGS_QUEUE, encode_logs(records, now)[0])

    def dead(self, exception: str = "it broke", *, data: str | None = None) -> None:
        """A worker sends a dead letter."""
        letter = DeadLetter(
            id=JOB_ID,
            display_name="Work",
            job_name_in_worker="WorkJob",
            job_data=data,
            execute_at=VIRTUAL_START,
            status=OccurrenceStatus.FAILED,
            exception=exception,
        )
        message = Message(
            body=encode_dead_letter(letter),
            headers={"CorrelationId": self.id, headers.RETRY_COUNT: 3, headers.MAX_RETRIES: 3},
            correlation_id=self.id,
        )
        self._broker.declare_nowait(TOPOLOGY)
        self._broker.publish_nowait(Publication(message, topology.DEAD_LETTER_KEY, topology.DEAD_LETTER_EXCHANGE))


def registered(broker: EmbeddedBroker, instance: str = "w-1", *, interval: int = 10) -> None:
    """A worker registers, with this heartbeat interval."""
    told = WorkerRegistration(
        worker_id=WorkerId("w"),
        instance_id=InstanceId(instance),
        routing_patterns={"WorkJob": "w.work.*"},
        job_types=("WorkJob",),
        max_parallel_jobs=4,
        metadata=WorkerMetadata(heartbeat_interval=interval),
    )
    publish(broker, topology.REGISTRATION_QUEUE, encode_registration(told))


def beat(broker: EmbeddedBroker, instance: str = "w-1", *, jobs: int = 0, is_stopping: bool = False) -> None:
    """A worker's heartbeat, or its good-bye."""
    told = WorkerHeartbeat(
        worker_id=WorkerId("w"),
        instance_id=InstanceId(instance),
        current_jobs=jobs,
        timestamp=instant_now(),
        is_stopping=is_stopping,
    )
    publish(broker, topology.HEARTBEAT_QUEUE, encode_heartbeat(told))
