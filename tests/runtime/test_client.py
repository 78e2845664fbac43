"""The client: what it publishes, what it says when it cannot, and that a lost connection is not its end."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from attrs import define, field
from tests.support import servers
from trio.testing import MockClock

from milvaion_trio import Client, JobSettings, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedPublisher
from milvaion_trio.model.errors import BrokerUnreachable, LinkLost, NotPublished
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings
from milvaion_trio.ports import Binding, Exchange, Queue, Topology
from milvaion_trio.runtime.dispatching import Destination, dispatch_message
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.signals.redis import RedisSignals
from milvaion_trio.testing import under_test

QUEUE = "scheduled_jobs_queue.tests.import.wildcard"


@define(eq=False)
class CountingBroker(EmbeddedBroker):
    """Counts the connections to publish over."""

    connections: int = field(default=0, init=False)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[EmbeddedPublisher]:
        self.connections += 1
        async with EmbeddedBroker.publishing(self) as publisher:
            yield publisher


@pytest.fixture
def broker() -> EmbeddedBroker:
    broker = EmbeddedBroker()
    broker.declare_nowait(
        Topology(
            exchanges=[Exchange("jobs.topic", "topic")],
            queues=[Queue(QUEUE)],
            bindings=[Binding("jobs.topic", QUEUE, "tests.import.*")],
        )
    )
    return broker


async def test_a_delay_and_an_occurrence_id_that_are_none_are_told(broker: EmbeddedBroker) -> None:
    """Before anything is sent: for no id would a worker stop anything, whoever hears it."""
    async with Client(broker, worker_id="tests", signals=LocalSignals()) as client:
        with pytest.raises(
            TypeError, match=r"^delay is datetime\.timedelta\(.*\); it must be a number of seconds from 0"
        ):
            await client.enqueue("ImportJob", delay=timedelta(minutes=1))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^delay is -1; it must be a number of seconds from 0 to "):
            await client.enqueue("ImportJob", delay=-1)
        with pytest.raises(ValueError, match=r"^'nope' is no occurrence id; that is the 36 characters"):
            await client.cancel(OccurrenceId("nope"))

    assert broker.queue(QUEUE).depth == 0


@pytest.mark.parametrize("delay", [None, 30], ids=["at once", "later"])
async def test_a_missing_queue_is_named(broker: EmbeddedBroker, autojump_clock: MockClock, delay: float | None) -> None:
    """Also for a delayed one, which would wait for a queue that never comes."""
    async with Client(broker, worker_id="tests") as client:
        with pytest.raises(NotPublished, match=r"no queue 'scheduled_jobs_queue\.tests\.imprt\.wildcard'"):
            await client.enqueue("ImprtJob", delay=delay)

    assert broker.delayed == 0


async def test_what_the_broker_refuses_is_no_occurrence(broker: EmbeddedBroker) -> None:
    """Whoever got an id would wait for a job that never runs."""
    broker.refuse_next(1)
    async with Client(broker, worker_id="tests") as client:
        with pytest.raises(NotPublished, match="The broker refused the message"):
            await client.enqueue("ImportJob")

    assert broker.queue(QUEUE).depth == 0


async def test_each_message_says_what_it_is_and_when_it_was_sent(broker: EmbeddedBroker) -> None:
    """As Milvaion's dispatcher does: the message's id is the job's, the time is in whole seconds (WIRE.md 2.3)."""
    async with Client(broker, worker_id="tests", clock_ns=lambda: 1_775_121_300_999_999_999) as client:
        occurrences = [await client.enqueue("ImportJob") for _ in range(2)]

    messages = broker.queue(QUEUE).ready
    bodies = [json.loads(message.body) for message in messages]
    assert [message.message_id for message in messages] == [body["id"] for body in bodies]
    assert [message.correlation_id for message in messages] == occurrences
    assert len({*occurrences, *(body["id"] for body in bodies)}) == 4
    assert {body["creationDate"] for body in bodies} == {"2026-04-02T09:15:00.9999999Z"}
    for message in messages:
        assert (message.timestamp, message.content_type) == (1_775_121_300, "application/json")


@pytest.mark.parametrize("delay", [None, 30], ids=["at once", "later"])
def test_a_dispatched_job_outlives_the_broker_it_waits_in(delay: float | None) -> None:
    to = Destination(worker_id="tests", job_name="ImportJob", pattern="tests.import.*")

    assert dispatch_message(to, None, delay=delay).message.persistent


async def test_a_delay_is_noted_whatever_becomes_of_the_call(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    """It may have been published: a worker that leaves when all is done has to wait for it."""
    noted: list[float] = []
    async with Client(broker, worker_id="tests", on_delay=noted.append) as client:
        with broker.hold_confirms(), trio.move_on_after(1):
            await client.enqueue("ImportJob", delay=60)

    assert noted == [60]


async def test_a_delay_is_not_noted_for_what_was_refused(broker: EmbeddedBroker) -> None:
    noted: list[float] = []
    async with Client(broker, worker_id="tests", on_delay=noted.append) as client:
        with pytest.raises(NotPublished):
            await client.enqueue("NoSuchJob", delay=60)

    assert noted == []


async def test_a_delayed_one_arrives_in_the_queue_of_its_pattern(
    broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    to = Destination(worker_id="tests", job_name="OtherJob", pattern="tests.import.*")
    async with Client(broker, worker_id="tests", destinations=[to]) as client:
        await client.enqueue("OtherJob", delay=30)
        await trio.sleep(31)

        (message,) = broker.queue(QUEUE).ready
        assert message.headers["RoutingKey"] == "tests.import.job"


async def test_a_client_outlives_a_lost_connection(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    """A program that enqueues for months must not have to notice that the broker was restarted."""
    async with Client(broker, worker_id="tests") as client:
        await client.enqueue("ImportJob")
        with broker.unreachable():
            await trio.sleep(5)
        await client.enqueue("ImportJob")

    assert broker.queue(QUEUE).depth == 2


async def test_a_connection_lost_meanwhile_is_told(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    """Nobody knows whether the message arrived, so only the caller can decide to send it again."""
    async with Client(broker, worker_id="tests") as client:
        with broker.hold_confirms():
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def lose() -> None:
                    await trio.sleep(1)
                    broker.drop_connection()

                with pytest.raises(LinkLost):
                    await client.enqueue("ImportJob")


async def test_a_broker_that_is_not_there_is_given_up(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    with broker.unreachable(), pytest.raises(BrokerUnreachable, match="the embedded broker"):
        async with Client(broker, worker_id="tests", connect_timeout=5):
            pass

    assert trio.current_time() == 5


async def test_an_error_in_the_body_comes_out_as_it_is(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError):
        async with Client(broker, worker_id="tests"):
            raise KeyError


async def test_what_a_client_enqueues_is_not_reported(worker: Worker, autojump_clock: MockClock) -> None:
    """A Milvaion API does not know the occurrence: its statuses would be thrown away, its logs hold up others."""

    @worker.job("ImportJob")
    async def import_orders() -> None: ...

    async with under_test(worker, local_occurrences=False) as kit:
        await import_orders.enqueue()
        await kit.run_until_idle()

        assert (kit.statuses, kit.logs) == ((), ())


async def test_a_job_that_enqueues_uses_the_connection_of_its_worker(worker: Worker, autojump_clock: MockClock) -> None:
    """One of its own for each message would cost RabbitMQ a login and a channel each time."""
    broker = CountingBroker()

    @worker.job("ImportJob")
    async def import_orders() -> None: ...

    @worker.job("ListJob")
    async def list_orders() -> None:
        for _ in range(3):
            await import_orders.enqueue()

    async with under_test(worker, broker=broker) as kit:
        kit.enqueue("ListJob")
        await kit.run_until_idle()

    assert broker.connections == 1


async def test_a_pattern_that_only_the_settings_say_is_used(autojump_clock: MockClock) -> None:
    """As in the readme's file: the queue of SendEmailJob is `sendemail.*`, whatever the worker is called."""
    settings = WorkerSettings(jobs={"sendemailjob": JobSettings(routing_patterns=["sendemail.*"])})
    worker = Worker("tests", settings=settings, observers=())

    @worker.job("SendEmailJob")
    async def send_email() -> None: ...

    async with under_test(worker) as kit:
        await send_email.enqueue()
        await kit.run_until_idle()

        assert kit.queue().name == "scheduled_jobs_queue.sendemail.wildcard"


# --- made from settings ---------------------------------------------------------------------------------------------


def test_settings_say_the_patterns_of_their_own_group_only() -> None:
    settings = WorkerSettings(
        worker_id="email-worker",
        rabbitmq=RabbitMQSettings(),
        jobs={"SendEmailJob": JobSettings(routing_patterns=["sendemail.*"])},
    )

    ours, theirs = Client.from_settings(settings), Client.from_settings(settings, worker_id="other-worker")

    assert ours.destination("sendemailjob").pattern == "sendemail.*"
    assert theirs.destination("SendEmailJob").pattern == "other-worker.sendemail.*"


def test_the_environment_is_over_the_file_of_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for workers, or they would meet at different brokers."""
    config = tmp_path / "appsettings.json"
    config.write_text('{"Worker": {"RabbitMQ": {"Host": "rabbit.example", "Port": 5672}}}')
    monkeypatch.setenv("Worker__RabbitMQ__Port", "5673")

    assert Client.from_file(config)._broker.name == "amqp://rabbit.example:5673/"


async def test_a_client_of_a_file_cancels_over_its_redis(tmp_path: Path) -> None:
    redis = RedisSettings(connection_string=f"{servers.HOST}:{servers.redis().port}", cancellation_channel="of a file")
    section = {"ConnectionString": redis.connection_string, "CancellationChannel": redis.cancellation_channel}
    config = tmp_path / "appsettings.json"
    config.write_text(json.dumps({"Worker": {"Redis": section}}))
    occurrence_id = OccurrenceId("0f8fad5b-d9cb-469f-a165-70867728950e")

    with trio.fail_after(20):
        async with RedisSignals(redis).cancellations() as heard:
            await Client.from_file(config).cancel(occurrence_id, "wrong year")
            assert await anext(heard) == Cancellation(occurrence_id=occurrence_id, reason="wrong year")
