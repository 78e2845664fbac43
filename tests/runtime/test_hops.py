"""Long delays pass a worker on the way: alive at the API, cancelled in time, never two runs (RELIABILITY.md 3.3)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import evolve
from tests.support.workers import seconds
from trio.testing import MockClock

from milvaion_trio import Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.policy.hops import AtHop, at_hop, hop
from milvaion_trio.ports import Queue, Topology
from milvaion_trio.runtime import hops as hops_module
from milvaion_trio.testing import WorkerUnderTest, under_test

OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
RUNNING, COMPLETED = OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED


@pytest.fixture
def broker() -> EmbeddedBroker:
    return EmbeddedBroker()


@pytest.fixture
def runs() -> list[float]:
    return []


@asynccontextmanager
async def serving(broker: EmbeddedBroker, runs: list[float]) -> AsyncIterator[WorkerUnderTest]:
    """A worker whose job fails at first and is tried again 300 s later."""
    worker = Worker("tests", observers=())

    @worker.job("ImportJob", base_retry_delay=300, max_retries=1)
    async def import_orders() -> str:
        runs.append(trio.current_time())
        if len(runs) == 1:
            raise ValueError("not there yet")
        return "imported"

    async with under_test(worker, broker=broker) as kit:
        yield kit


def their_message() -> Message:
    """A retry copy of another worker group, whose job no worker here knows."""
    body = b'{"id": "019d4a10-3b5c-7e21-8f04-6a1d2c9be077", "jobNameInWorker": "TheirJob", "workerId": "theirs"}'
    marks = {headers.OCCURRENCE_ID: OCCURRENCE, headers.RETRY_COUNT: 1, headers.DISPATCH_STAMP: "1"}
    return Message(body=body, headers=marks, message_id="theirs")


def declare(broker: EmbeddedBroker, queue: str) -> None:
    broker.declare_nowait(Topology(queues=[Queue(queue)]))


def heartbeats(kit: WorkerUnderTest, occurrence: OccurrenceId) -> list[float | None]:
    statuses = kit.occurrence(occurrence).statuses
    return [
        seconds(status.message_timestamp) for status in statuses if status.status == RUNNING and not status.start_time
    ]


async def test_an_occurrence_that_waits_is_alive_at_the_api(
    runs: list[float], broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """A heartbeat at least every two minutes, or the zombie detector writes Unknown after five (WIRE.md 4.8)."""
    async with serving(broker, runs) as kit:
        occurrence = kit.enqueue("ImportJob")
        await kit.run_until_idle()

        assert runs == [0, 300]
        assert heartbeats(kit, occurrence) == [60, 180]
        assert kit.occurrence(occurrence).status is COMPLETED


async def test_the_copy_that_arrives_is_the_one_that_was_sent(
    runs: list[float], broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Nothing of the way is left on it; its headers, ids and body are what they would be without a hop."""
    async with serving(broker, runs) as kit:
        kit.enqueue("ImportJob")
        await kit.run_until_idle()

        sent, *on_the_way = [
            each.message for each in kit.published if each.message.message_id == kit.retries[0].message.message_id
        ]
        assert [message == sent for message in on_the_way] == [True, True]
        assert headers.DELAY_LEFT not in sent.headers


async def test_a_cancel_is_honoured_at_the_next_hop(
    runs: list[float], broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with serving(broker, runs) as kit:
        occurrence = kit.enqueue("ImportJob")
        await trio.sleep(70)
        kit.cancel(occurrence, "not needed any more")
        await kit.run_until_idle()

        final = kit.occurrence(occurrence).final
        assert final is not None
        assert final.status is OccurrenceStatus.CANCELLED
        assert seconds(final.message_timestamp) == 180
        assert "not needed any more" in str(final.result)
        assert runs == [0]


async def test_a_wait_of_another_group_is_sent_on_in_its_name(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock
) -> None:
    """The worker that made the copy may be gone; one living worker of any group is enough for all."""
    async with serving(broker, runs) as kit:
        theirs = Publication(their_message(), "scheduled_jobs_queue.theirs", delay=241)
        declare(broker, "scheduled_jobs_queue.theirs")
        broker.publish_nowait(theirs)
        await trio.sleep(240)
        assert broker.queue("scheduled_jobs_queue.theirs").ready == ()
        await trio.sleep(2)

        assert broker.queue("scheduled_jobs_queue.theirs").ready == (their_message(),)
        beats = [status for status in kit.statuses if status.occurrence_id == OCCURRENCE]
        assert [(seconds(beat.message_timestamp), beat.worker_id) for beat in beats] == [(1, "theirs"), (121, "theirs")]


async def test_a_duplicate_behind_a_concluded_attempt_says_nothing_and_ends(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock
) -> None:
    """At-least-once dead-lettering can duplicate a hop; a Running behind the final would erase it."""
    async with serving(broker, runs) as kit:
        occurrence = kit.enqueue("ImportJob")
        await kit.run_until_idle()
        before = kit.occurrence(occurrence).statuses
        copy = kit.retries[0].message

        broker.publish_nowait(hop(copy, kit.queue().name, 120))
        await kit.run_until_idle()

        assert kit.occurrence(occurrence).statuses == before
        assert runs == [0, 300]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(lambda copy: evolve(copy, headers={}), id="no headers"),
        pytest.param(lambda copy: evolve(copy, headers={headers.DELAY_TARGET: 7}), id="target of another type"),
        pytest.param(lambda copy: Message(body=b"junk"), id="nothing at all"),
    ],
)
async def test_what_does_not_say_where_to_go_is_set_aside(
    broker: EmbeddedBroker, message: Callable[[Message], Message], runs: list[float], autojump_clock: MockClock
) -> None:
    async with serving(broker, runs) as kit:
        broker.publish_nowait(Publication(message(their_message()), topology.HOP_QUEUE))
        await kit.run_until_idle()

        assert len(kit.quarantined) == 1
        assert broker.queue(topology.HOP_QUEUE).depth == 0


async def test_a_message_goes_back_when_the_worker_leaves_before_it_was_sent_on(
    worker: Worker, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    @worker.job("ImportJob")
    async def import_orders() -> None: ...

    async with under_test(worker, broker=broker) as kit:
        declare(broker, "jobs")
        with broker.hold_confirms():
            broker.publish_nowait(hop(their_message(), "jobs", 5))
            await trio.sleep(1)
            kit.stop()
            await trio.sleep(60)

    assert broker.queue(topology.HOP_QUEUE).depth == 1


async def test_a_message_that_cannot_go_on_waits_and_holds_nobody_up(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock
) -> None:
    """As a new message, since one that is requeued again and again runs into RabbitMQ 4's delivery limit."""
    async with serving(broker, runs):
        for _ in range(3):
            broker.publish_nowait(hop(their_message(), "not there", 0))
        declare(broker, "there")
        broker.publish_nowait(hop(their_message(), "there", 0))
        await trio.sleep(0.5)
        assert broker.queue("there").depth == 1
        assert (broker.queue(topology.HOP_QUEUE).depth, broker.delayed) == (0, 3)

        declare(broker, "not there")
        await trio.sleep(10)

        assert broker.queue("not there").ready == (their_message(),) * 3


async def test_while_the_broker_takes_nothing_messages_stay_in_the_hop_queue(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock
) -> None:
    declare(broker, "there")
    async with serving(broker, runs):
        broker.refuse_next(10_000)
        broker._vhost.put(hop(their_message(), "there", 0))
        await trio.sleep(30)
        assert broker.queue(topology.HOP_QUEUE).depth == 1

        broker.refuse_next(0)
        await trio.sleep(2)

        assert broker.queue("there").depth == 1


async def test_a_cancel_at_a_hop_is_told_in_the_name_of_the_group(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock
) -> None:
    declare(broker, "there")
    async with serving(broker, runs) as kit:
        kit.cancel(OCCURRENCE)
        await trio.sleep(1)
        broker.publish_nowait(hop(their_message(), "there", 5))
        await trio.sleep(1)

        final = kit.occurrence(OCCURRENCE).final
        assert final is not None
        assert (final.status, final.worker_id) == (OccurrenceStatus.CANCELLED, "theirs")


@pytest.mark.parametrize("told", [False, True])
async def test_what_a_client_of_ours_made_is_told_to_milvaion_only_if_asked(
    told: bool, autojump_clock: MockClock
) -> None:
    """A Milvaion API does not know the occurrence (DESIGN.md 2)."""
    worker = Worker("tests", observers=())

    @worker.job("ImportJob")
    async def import_orders() -> None: ...

    async with under_test(worker, local_occurrences=told) as kit:
        await import_orders.enqueue(delay=150)
        await kit.run_until_idle()

        assert [status.status for status in kit.statuses] == ([RUNNING, RUNNING, COMPLETED] if told else [])


async def test_a_message_that_cannot_be_judged_is_set_aside_and_the_next_is_sent_on(
    broker: EmbeddedBroker, runs: list[float], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours costs one message its way, not the worker its life."""

    def judge(message: Message, **facts: Any) -> AtHop:
        if message.message_id == "bad":
            raise LookupError
        return at_hop(message, **facts)

    monkeypatch.setattr(hops_module, "at_hop", judge)
    declare(broker, "there")
    async with serving(broker, runs) as kit:
        broker.publish_nowait(hop(evolve(their_message(), message_id="bad"), "there", 0))
        broker.publish_nowait(hop(their_message(), "there", 0))
        await trio.sleep(1)

        assert broker.queue("there").ready == (their_message(),)
        assert len(kit.quarantined) == 1
