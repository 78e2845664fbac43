"""Registration and heartbeats: the worker tells that it is there, that it lives, and that its jobs live."""

from itertools import pairwise

import pytest
import trio
from tests.support.workers import seconds
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.messages import JobConfig
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import HeartbeatSettings
from milvaion_trio.testing import WorkerUnderTest, under_test

PRESENCE = (topology.REGISTRATION_QUEUE, topology.HEARTBEAT_QUEUE)


def presence(kit: WorkerUnderTest) -> list[tuple[float, str]]:
    """When which message about the worker was sent."""
    words = {topology.REGISTRATION_QUEUE: "registration", topology.HEARTBEAT_QUEUE: "heartbeat"}
    return [(sent.at, words[sent.target]) for sent in kit.published if sent.target in words]


async def test_a_worker_registers_before_it_takes_jobs(worker: Worker, autojump_clock: MockClock) -> None:
    """Registration, a heartbeat behind it, and only then the first job (WIRE.md 3.6, 4.7)."""

    @worker.job("SendEmailJob", timeout=90, max_parallel=4)
    async def work() -> None: ...

    async with under_test(worker) as kit:
        (registration,) = kit.registrations

        assert [word for _, word in presence(kit)] == ["registration", "heartbeat"]
        assert (registration.worker_id, registration.instance_id) == ("tests", worker.instance_id)
        assert registration.display_name == f"tests ({worker.instance_id})"
        assert registration.routing_patterns == {"SendEmailJob": "tests.sendemail.*"}
        assert registration.job_types == ("SendEmailJob",)
        assert registration.max_parallel_jobs == 10
        assert registration.metadata.heartbeat_interval == 30
        assert registration.metadata.job_configs == (
            JobConfig(
                job_type="SendEmailJob",
                consumer_id="sendemailjob-consumer",
                max_parallel_jobs=4,
                execution_timeout_seconds=90,
            ),
        )


@pytest.mark.parametrize(("interval", "told"), [(0.2, 1), (0.7, 1), (30.0, 30)])
async def test_the_registered_interval_is_never_zero(autojump_clock: MockClock, interval: float, told: int) -> None:
    """With 0 the API drops the instance at every sweep (WIRE.md 3.6)."""
    worker = Worker(settings=WorkerSettings(heartbeat=HeartbeatSettings(interval=interval)), observers=())
    async with under_test(worker) as kit:
        (registration,) = kit.registrations

    assert registration.metadata.heartbeat_interval == told


async def test_the_messages_of_two_instances_are_told_apart(autojump_clock: MockClock) -> None:
    """Their ids differ, or who removes equal ones loses the reports of one of them (RELIABILITY.md 2.6 W12)."""
    broker = EmbeddedBroker()

    def instance() -> Worker:
        worker = Worker("tests", observers=())

        @worker.job("work", timeout=0)
        async def work(ctx: JobContext) -> None:
            ctx.log.info("working")
            await trio.sleep(200)

        return worker

    async with under_test(instance(), broker=broker) as first, under_test(instance(), broker=broker):
        for _ in range(4):
            first.enqueue("work")
        broker.publish_nowait(Publication(Message(body=b"junk"), first.queue().name))
        broker.publish_nowait(Publication(Message(body=b"junk"), first.queue().name))
        await first.run_until_idle()
        of_jobs = (topology.JOBS_EXCHANGE, topology.JOB_QUEUE_PREFIX)
        reported = [sent.message for sent in first.published if not sent.target.startswith(of_jobs)]

    ids = [message.message_id for message in reported]
    assert None not in ids
    assert len(set(ids)) == len(ids)


async def test_the_worker_beats_at_exactly_its_interval(worker: Worker, autojump_clock: MockClock) -> None:
    """Every 30 s, and again with each registration, which comes every 120 s."""
    async with under_test(worker) as kit:
        await trio.sleep(241)
        sent = presence(kit)

    beats = [time for time, word in sent if word == "heartbeat"]
    assert [time for time, word in sent if word == "registration"] == [0, 120, 240]
    assert sorted({*beats, 120}) == [0, 30, 60, 90, 120, 150, 180, 210, 240]


async def test_each_registration_is_followed_by_a_heartbeat(worker: Worker, autojump_clock: MockClock) -> None:
    """A registration sets the instance's current jobs to 0 on the API (WIRE.md 4.7)."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(1000)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(245)
        sent = [published for published in kit.published if published.target in PRESENCE]
        heartbeats = list(kit.heartbeats)
        kit.stop()

    count = 0
    for published, following in pairwise(sent):
        count += published.target == topology.HEARTBEAT_QUEUE
        if published.target == topology.REGISTRATION_QUEUE:
            assert following.target == topology.HEARTBEAT_QUEUE
            assert heartbeats[count].current_jobs == (published.at > 0)


async def test_a_lost_connection_is_followed_by_a_registration(worker: Worker, autojump_clock: MockClock) -> None:
    """The API may have dropped the instance meanwhile."""
    async with under_test(worker) as kit:
        await trio.sleep(10)
        kit.broker.drop_connection("publishing")
        await trio.sleep(1)

        assert [word for time, word in presence(kit) if time >= 10] == ["registration", "heartbeat"]


async def test_extra_heartbeats_tell_of_jobs_that_start_and_end(worker: Worker, autojump_clock: MockClock) -> None:
    """At each start and end, with the number of jobs that run (WIRE.md 3.4)."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(5)

    async with under_test(worker) as kit:
        await trio.sleep(10)
        kit.enqueue(work)
        await trio.sleep(10)
        beats = [(seconds(beat.timestamp), beat.current_jobs) for beat in kit.heartbeats]

    assert beats == [(0, 0), (10, 1), (15, 0)]


async def test_extra_heartbeats_come_at_most_once_a_second(worker: Worker, autojump_clock: MockClock) -> None:
    """A worker of short jobs does not flood the API; the last state is told all the same."""

    @worker.job(max_parallel=1)
    async def work() -> None:
        await trio.sleep(0.01)

    async with under_test(worker) as kit:
        await trio.sleep(10)
        for _ in range(250):
            kit.enqueue(work)
        await kit.run_until_idle()
        await trio.sleep(5)
        beats = [(seconds(beat.timestamp) or 0, beat.current_jobs) for beat in kit.heartbeats][1:]

    times = [time for time, _ in beats]
    assert len(times) <= 4
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))
    assert beats[-1][1] == 0


async def test_the_last_word_is_that_the_worker_stops(worker: Worker, autojump_clock: MockClock) -> None:
    """`IsStopping` with no jobs, after every report of its jobs (WIRE.md 3.4)."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(5)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(2)

    last = kit.published[-1]
    assert last.target == topology.HEARTBEAT_QUEUE
    assert (kit.heartbeats[-1].is_stopping, kit.heartbeats[-1].current_jobs) == (True, 0)
    assert [beat.is_stopping for beat in kit.heartbeats].count(True) == 1


async def test_a_worker_without_heartbeats_sends_only_those_behind_registrations(autojump_clock: MockClock) -> None:
    """`Worker:Heartbeat:Enabled` false."""
    settings = WorkerSettings(worker_id="tests", heartbeat=HeartbeatSettings(enabled=False))
    worker = Worker(settings=settings, observers=())

    async with under_test(worker) as kit:
        await trio.sleep(130)
        sent = presence(kit)

    assert sent == [(0, "registration"), (0, "heartbeat"), (120, "registration"), (120, "heartbeat")]


async def test_a_running_job_beats_at_exactly_its_interval(worker: Worker, autojump_clock: MockClock) -> None:
    """A bare Running status every 60 s, the first after one interval, none after the end (WIRE.md 3.2)."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(185)

    async with under_test(worker) as kit:
        await trio.sleep(7)
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()
        await trio.sleep(500)

    statuses = kit.occurrence(occurrence).statuses
    assert [seconds(status.message_timestamp) for status in statuses] == [7, 67, 127, 187, 192]
    for beat in statuses[1:-1]:
        assert (beat.status, beat.start_time, beat.end_time, beat.duration_ms, beat.result, beat.exception) == (
            OccurrenceStatus.RUNNING,
            None,
            None,
            None,
            None,
            None,
        )


async def test_jobs_beat_each_in_its_own_time(worker: Worker, autojump_clock: MockClock) -> None:
    """The interval counts from the start of each."""

    @worker.job(timeout=0)
    async def work(data: float) -> None:
        await trio.sleep(data)

    async with under_test(worker) as kit:
        first = kit.enqueue(work, 130)
        await trio.sleep(25)
        second = kit.enqueue(work, 61)
        await kit.run_until_idle()

    beats = [
        [seconds(status.message_timestamp) for status in kit.occurrence(each).statuses[1:-1]]
        for each in (first, second)
    ]
    assert beats == [[60, 120], [85]]


async def test_heartbeats_that_could_not_leave_are_not_sent_late(worker: Worker, autojump_clock: MockClock) -> None:
    """Late they would be lies: after an outage only what still says something is sent."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(400)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(50)
        with kit.broker.unreachable():
            await trio.sleep(200)
        await kit.run_until_idle()

    times = [seconds(status.message_timestamp) for status in kit.occurrence(occurrence).statuses]
    assert times[0] == 0
    assert times[-1] == pytest.approx(400)
    assert not [time for time in times if time is not None and 50 < time < 250]
    await wait_all_tasks_blocked()
