"""The played API on a real RabbitMQ, with a worker played by hand over the plain client."""

from collections.abc import AsyncIterator

import pytest
import trio
from attrs import evolve, frozen
from tests.support import servers
from tests.support.amqp import ChannelClosed, Client, Closed, WireMessage, connect
from tests.support.amqp_vectors import publish_vector, vector
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.api_model.examples import JOB, OCCURRENCE, dead_letter, log, status
from tests.support.api_model.server import ApiServer, api_server
from tests.support.api_model.topology import API_QUEUES, JOBS_EXCHANGE, STATUSES, UNBOUND_JOB_QUEUE_ARGUMENTS

QUEUE = "scheduled_jobs_queue.report-worker.generatereport.wildcard"
STARTED = {"StartTime": "2026-04-02T09:15:00Z"}


@frozen
class Played:
    """The API, and the connection of a worker."""

    vhost: str
    api: ApiServer
    worker: Client

    def know(self) -> None:
        """Make the occurrence of the examples known."""
        self.api.model.register_job(JOB, "GenerateReportJob", display_name="Daily sales report")
        self.api.model.queued(OCCURRENCE, JOB, self.api.now())

    async def send(self, *messages: WireMessage) -> None:
        for one in messages:
            assert await self.worker.publish(one.exchange, one.routing_key, one.body, one.properties, one.headers)


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    vhost = servers.new_vhost()
    with trio.fail_after(60):
        async with api_server(servers.rabbitmq().port, vhost) as api:
            async with connect(servers.rabbitmq().port, vhost) as worker:
                yield Played(vhost, api, worker)


def of(message: WireMessage, occurrence_id: str, job_id: str) -> WireMessage:
    """The message of an example about this occurrence."""
    body = message.body.replace(OCCURRENCE.encode(), occurrence_id.encode()).replace(JOB.encode(), job_id.encode())
    headers = {
        name: (letter, occurrence_id if value == OCCURRENCE else value)
        for name, (letter, value) in message.headers.items()
    }
    properties = {name: occurrence_id if value == OCCURRENCE else value for name, value in message.properties.items()}
    return evolve(message, body=body, headers=headers, properties=properties)


async def test_a_job_from_its_registration_to_its_failed_occurrence(played: Played) -> None:
    """What the API publishes reaches a worker's queue as WIRE.md 2.1 has it, and what a worker sends is stored."""
    api, worker = played.api, played.worker
    await worker.declare_queue(QUEUE, UNBOUND_JOB_QUEUE_ARGUMENTS)
    await worker.bind(QUEUE, JOBS_EXCHANGE, "report-worker.generatereport.*")
    await publish_vector(worker, vector("worker_registration"))
    await api.until(lambda: "report-worker" in api.model.workers)

    occurrence_id = await api.dispatch("GenerateReportJob", {"year": 2026}, display_name="Daily sales report")
    message = await worker.get(QUEUE)
    assert message is not None
    job_id = str(message.properties["message_id"])
    assert message.headers["OccurrenceId"] == ("S", occurrence_id)
    assert message.routing_key == "report-worker.generatereport.job"

    messages = [status(1, **STARTED), log("one", "two"), status(3), dead_letter()]
    await played.send(*(of(one, occurrence_id, job_id) for one in messages))
    await api.until_ended(occurrence_id)
    await api.until_idle()

    occurrence = api.occurrence(occurrence_id)
    assert occurrence.status == OccurrenceStatus.FAILED
    assert [row.message for row in occurrence.logs] == ["one", "two"]
    assert [row.occurrence_id for row in api.failed_occurrences] == [occurrence_id]
    api.assert_content()


async def test_a_dispatch_that_no_queue_takes_fails_at_once(played: Played) -> None:
    played.know()

    occurrence_id = await played.api.dispatch("GenerateReportJob")

    assert played.api.occurrence(occurrence_id).status == OccurrenceStatus.FAILED


async def test_a_worker_that_declares_otherwise_is_refused(played: Played) -> None:
    """406, as at the real API (WIRE.md 1.2)."""
    for queue in API_QUEUES:
        async with played.worker.channel() as channel:
            with pytest.raises(ChannelClosed, match="406"):
                await channel.declare_queue(queue, {"x-max-length": ("I", 1000)})


async def test_an_api_does_not_start_over_other_declarations() -> None:
    vhost = servers.new_vhost()
    with trio.fail_after(20):
        async with connect(servers.rabbitmq().port, vhost) as worker:
            await worker.declare_queue(STATUSES, {"x-queue-type": ("S", "quorum")})

        with pytest.raises(ExceptionGroup) as caught:
            async with api_server(servers.rabbitmq().port, vhost):
                pass

    conflict = caught.value.subgroup(Closed)
    assert conflict is not None
    assert "inequivalent arg" in repr(conflict.exceptions)


async def test_messages_wait_while_the_api_is_away(played: Played) -> None:
    played.know()

    async with played.api.away():
        await played.send(status(1, **STARTED), status(2))
        await trio.sleep(0.3)
        assert played.api.occurrence(OCCURRENCE).messages == []
        assert await played.worker.declare_queue(STATUSES, passive=True) == (2, 0)
    await played.api.until_ended()

    played.api.assert_content()


async def test_a_lost_connection_loses_nothing() -> None:
    """What was read and not yet stored comes again, and is no second message."""
    port, vhost = servers.rabbitmq().port, servers.new_vhost()
    with trio.fail_after(30):
        async with api_server(port, vhost, ApiSettings(status_interval=3600)) as api:
            async with connect(port, vhost) as worker:
                played = Played(vhost, api, worker)
                played.know()
                await played.send(status(1, message_id="r", **STARTED))
                await api.until(lambda: api.model.status_tracker.batch_sizes == [1])
                await played.send(status(2, message_id="f"))
                await api.until(lambda: api.occurrence(OCCURRENCE).messages[1:])

            command = ["close_all_connections", "--vhost", vhost, "of the test"]
            await trio.to_thread.run_sync(servers.rabbitmq().control, *command)
            await api.until_ended()

    occurrence = api.occurrence(OCCURRENCE)
    assert (len(occurrence.messages), len(occurrence.wire)) == (3, 2)
    api.assert_content()


async def test_a_message_that_would_come_back_for_ever_fails_the_test_at_once(played: Played) -> None:
    played.know()

    await played.send(dead_letter(JobData=""), dead_letter())

    with pytest.raises(AssertionError, match="JobData is no JSON text"):
        await played.api.until(lambda: played.api.failed_occurrences, seconds=30)


async def test_a_message_that_is_dropped_is_gone(played: Played) -> None:
    played.know()

    await played.send(status(1, Status="Running"))
    await played.api.until_idle()

    assert [dropped.queue for dropped in played.api.model.dropped] == [STATUSES]
    with pytest.raises(AssertionError, match="thrown away: 1"):
        played.api.assert_content()


async def test_a_time_that_is_over_is_reported_with_what_is_open(played: Played) -> None:
    played.know()

    with pytest.raises(AssertionError, match=f"{OCCURRENCE} is .*QUEUED"):
        await played.api.until_ended(seconds=0.3)
