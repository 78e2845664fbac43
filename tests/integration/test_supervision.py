"""What may happen to a connection that lives: each is noticed, told in one line, and healed without a restart.

The worker says meanwhile that it is not ready, and afterwards that it is; jobs dispatched then are done.
A restarted or missing broker is in `test_restarts`.
"""

import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, evolve, field
from tests.support import servers
from tests.support.amqp import connect
from tests.support.amqp_faults import consuming_channel, is_kind, swallow_deliveries
from tests.support.api_model import ApiSettings
from tests.support.brokers import out_of_memory
from tests.support.cluster import Cluster, cluster, serving
from tests.support.proxy import Passage, Proxy, open_proxy
from tests.support.servers import RabbitMQServer

from milvaion_trio import JobContext, Worker
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.events import Event, LinkDown, ReadinessChanged
from milvaion_trio.runtime import stalls

HEARTBEAT = 1
"""Seconds, so that silence is noticed within 8."""
SOON = 20.0


@pytest.fixture
def rabbitmq() -> Iterator[RabbitMQServer]:
    """One to hurt."""
    with servers.rabbitmq_alone() as server:
        yield server


@define(eq=False)
class Stage:
    """A worker whose connections pass a proxy, and what it told."""

    here: Cluster
    proxy: Proxy
    worker: Worker
    caplog: pytest.LogCaptureFixture
    started: list[str] = field(factory=list)
    """Occurrences, one for each run."""
    release: trio.Event = field(factory=trio.Event)
    """Lets the long jobs end."""
    events: list[Event] = field(factory=list)

    @property
    def queue(self) -> str:
        return self.worker.registry.resolve("ShortJob").queue

    def passage(self, kind: str) -> Passage:
        """The connection of this kind of now."""
        return next(passage for passage in reversed(self.proxy.passages) if is_kind(passage, kind))

    async def do_a_job(self) -> None:
        occurrence = await self.here.api.dispatch("ShortJob")
        await self.here.api.until_ended(occurrence)

    async def healed(self) -> None:
        """Return when the worker has been not ready and is ready again, as observers and those who ask see it."""
        await self.here.api.until(lambda: not self.worker.readiness.is_ready or len(self.changes) >= 2, SOON)
        await self.here.api.until(lambda: self.worker.readiness.is_ready, SOON)

    @property
    def changes(self) -> list[bool]:
        return [event.is_ready for event in self.events if isinstance(event, ReadinessChanged)]

    @property
    def losses(self) -> list[str]:
        """Connections, each with why it was lost."""
        return [f"{event.link}: {event.why}" for event in self.events if isinstance(event, LinkDown)]

    def was_told(self, link: str, *words: str) -> bool:
        """Whether one connection was lost, for a reason with these words, and the log has one line about it."""
        (loss,) = self.losses
        why = loss.removeprefix(f"{link}: ")
        assert self.lines == [f"link down: {link} to {self.worker.broker.name} ({why}), connecting again"]
        return all(word in why for word in words)

    @property
    def lines(self) -> list[str]:
        """What the log warned of."""
        return [record.getMessage() for record in self.caplog.records if record.levelno >= logging.WARNING]


@asynccontextmanager
async def stage(caplog: pytest.LogCaptureFixture, rabbitmq: RabbitMQServer | None = None) -> AsyncIterator[Stage]:
    """A worker that has done a job and is ready; on leaving, all that it started has ended, each once."""
    caplog.set_level(logging.INFO, "milvaion_trio")
    with trio.fail_after(90):
        async with cluster(rabbitmq=rabbitmq, api_settings=ApiSettings(status_interval=0.01)) as here:
            async with open_proxy(here.rabbitmq.port) as proxy:
                worker = here.worker()
                settings = evolve(here.rabbitmq_settings, port=proxy.port)
                worker.broker = RabbitMQBroker(settings, client_name="tests", heartbeat=HEARTBEAT)
                stage = Stage(here, proxy, worker, caplog)
                worker.observe(stage.events.append)

                @worker.job("ShortJob", max_parallel=1)
                async def short(ctx: JobContext) -> None:
                    stage.started.append(ctx.occurrence_id)

                @worker.job("LongJob")
                async def long(ctx: JobContext) -> None:
                    stage.started.append(ctx.occurrence_id)
                    await stage.release.wait()

                async with serving(worker):
                    await here.api.until(lambda: here.api.model.workers)
                    await stage.do_a_job()
                    assert worker.readiness.is_ready
                    stage.events.clear()
                    caplog.clear()
                    yield stage
                    assert stage.changes == [False, True]
                    stage.release.set()
                    await here.api.until_ended()
    assert len(stage.started) == len(set(stage.started))


def method(channel: int, numbers: tuple[int, int], arguments: bytes) -> bytes:
    """A frame with one method."""
    payload = struct.pack(">HH", *numbers) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


def ack_of_nothing(channel: int) -> bytes:
    """RabbitMQ closes the channel with 406 for it."""
    return method(channel, (60, 80), struct.pack(">QB", 999_999, 0))


def purge_of_nothing(channel: int) -> bytes:
    """RabbitMQ closes the channel with 404 for it."""
    return method(channel, (50, 30), struct.pack(">H", 0) + b"\x07nowhere" + b"\x00")


async def test_a_channel_closed_with_406_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    """What runs goes on and is not run again, although its message comes back."""
    async with stage(caplog) as on:
        long = await on.here.api.dispatch("LongJob")
        await on.here.api.until(lambda: long in on.started)
        passage = on.passage("consuming")
        await passage.up.send(ack_of_nothing(consuming_channel(passage, on.queue)))
        await on.healed()
        await on.do_a_job()

    assert on.was_told("consuming", f"RabbitMQ closed the channel that consumes {on.queue!r}: PRECONDITION_FAILED")


@pytest.mark.parametrize("kind", ["consuming", "publishing"])
async def test_a_channel_closed_with_404_is_made_again(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with stage(caplog) as on:
        passage = on.passage(kind)
        channel = consuming_channel(passage, on.queue) if kind == "consuming" else 1
        await passage.up.send(purge_of_nothing(channel))
        await on.healed()
        await on.do_a_job()

    assert on.was_told(kind, "RabbitMQ closed the channel that ", "NOT_FOUND - no queue 'nowhere'")


async def test_a_consumer_that_the_broker_ends_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    """Its queue was deleted: RabbitMQ cancels the consumer, on a channel that stays open."""
    async with stage(caplog) as on:
        async with connect(on.here.rabbitmq.port, on.here.vhost) as client:
            await client.delete_queue(on.queue)
        await on.healed()
        await on.do_a_job()

    assert on.was_told("consuming", f"RabbitMQ ended the consumer of {on.queue!r}: was the queue deleted?")


async def test_an_alarm_is_noticed_and_waited_for(rabbitmq: RabbitMQServer, caplog: pytest.LogCaptureFixture) -> None:
    """No connection is lost for it, jobs run on, and nothing is published twice."""
    async with stage(caplog, rabbitmq) as on:
        long = await on.here.api.dispatch("LongJob")
        await on.here.api.until(lambda: long in on.started)
        async with out_of_memory(rabbitmq):
            on.release.set()
            await on.here.api.until(lambda: not on.worker.readiness.is_ready, SOON)
            assert on.worker.readiness.problems == {"publishing blocked": "low on memory"}
        await on.healed()
        await on.here.api.until_ended(long)
        await on.do_a_job()
        finals = [status for status in on.here.api.occurrence(long).wire if status.status != 1]

    assert on.losses == []
    assert on.lines == ["RabbitMQ has stopped reading publishes (low on memory): tests publishing"]
    assert len(finals) == 1
    again = [record for record in caplog.records if record.getMessage().startswith("RabbitMQ reads publishes again")]
    assert len(again) == 1


@pytest.mark.parametrize("kind", ["consuming", "publishing"])
async def test_a_link_that_carries_nothing_any_more_is_made_again(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Half open: the other end is gone, and nobody says so."""
    async with stage(caplog) as on:
        passage = on.passage(kind)
        for lane in passage.lanes("both"):
            lane.hold()
        await on.healed()
        await on.do_a_job()

    assert on.was_told(kind, "nothing was heard from")


async def test_a_consumer_that_gets_nothing_any_more_is_made_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives, the broker delivers, and nothing arrives: as after a defect of a client or a broker."""
    monkeypatch.setattr(stalls, "INTERVAL", 1.0)
    async with stage(caplog) as on:
        passage = on.passage("consuming")
        swallow_deliveries(passage, consuming_channel(passage, on.queue))
        occurrences = [await on.here.api.dispatch("ShortJob") for _ in range(3)]
        await on.healed()
        await on.here.api.until_ended(*occurrences)
        await on.do_a_job()

    assert on.was_told("consuming", f"queue {on.queue} delivers nothing: messages wait in it (2)")
    healed = [record for record in caplog.records if record.getMessage() == f"queue {on.queue} is no longer silent"]
    assert len(healed) == 1


def test_the_watch_is_quick_enough() -> None:
    """Tests make it quicker still: with its own times a stall is found within a minute."""
    assert 4 * stalls.INTERVAL <= 60
    assert stalls.MISSES == 2
