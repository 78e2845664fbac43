"""What is written of what workers report: occurrences from their dispatch to their end, logs, dead letters, workers."""

import pytest
import trio
from tests.support.monitored import FailingHistory, Wire, beat, publish, registered, watched
from tests.support.workers import at
from trio.testing import MockClock

from milvaion_trio import Client, JobContext, PermanentFailure, Snooze, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.errors import NotPublished
from milvaion_trio.model.history import FailureType
from milvaion_trio.model.ids import WorkerId
from milvaion_trio.model.messages import ExternalEvent, ExternalOccurrence
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.wire import encode_external_occurrence
from milvaion_trio.monitor.queues import QUEUES, TOPOLOGY
from milvaion_trio.testing import under_test
from milvaion_trio.testing.clock import clock_ns, instant_now


@pytest.fixture
def worker() -> Worker:
    return Worker("tests", observers=())


async def test_the_life_of_a_job_is_kept(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Its dispatch with data, each attempt, its end with result and duration, and its log."""

    @worker.job(max_retries=1, base_retry_delay=5)
    async def work(ctx: JobContext, data: dict[str, int]) -> str:
        ctx.log.info(f"attempt {ctx.attempt}")
        await trio.sleep(2)
        if ctx.attempt == 1:
            raise RuntimeError("not yet")
        return "done"

    patterns = frozenset({"tests.work.*"})
    async with watched(broker, store, patterns=patterns) as history, under_test(worker, broker=broker) as kit:
        occurrence = kit.enqueue(work, {"a": 1})
        await kit.run_until_idle()
        await history.settled()
        row = store.load([occurrence])[occurrence]
        lines = store.lines(occurrence)

    assert (row.job_name, row.worker_id, row.job_data, row.pattern) == ("work", "tests", '{"a":1}', "tests.work.*")
    steps = [(change.before, change.after) for change in row.changes]
    assert steps == [(S.QUEUED, S.RUNNING), (S.RUNNING, S.COMPLETED)]
    assert (row.status, row.runs, row.result, row.exception) == (S.COMPLETED, 2, "done", None)
    assert (row.duration_ms, row.end_time) == (2000, at(9))
    assert [line.message for line in lines if line.category == "UserCode"] == ["attempt 1", "attempt 2"]


async def test_runs_are_counted_and_not_attempts(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A snoozed attempt is the same one when it begins again."""
    attempts: list[int] = []

    @worker.job()
    async def work(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            raise Snooze(5)

    async with watched(broker, store, patterns=frozenset({"tests.work.*"})) as history:
        async with under_test(worker, broker=broker) as kit:
            occurrence = kit.enqueue(work)
            await kit.run_until_idle()
            await history.settled()

    with store:
        row = store.load([occurrence])[occurrence]
    assert (attempts, row.runs, row.run_started) == ([1, 1], 2, at(5))


async def test_a_dispatch_that_no_worker_asked_for_is_still_refused(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Neither `enqueue` nor a Milvaion API would learn of a misspelt job, if the monitor took what nobody takes."""

    @worker.job()
    async def work() -> None: ...

    async with watched(broker, store) as history, under_test(worker, broker=broker):
        await history.settled()
        async with Client(broker, worker_id="tests") as client:
            with pytest.raises(NotPublished, match="no worker with this job"):
                await client.enqueue("wrok")


async def test_a_monitor_that_comes_back_gets_copies_for_the_workers_it_knows(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Its queue may be gone, and workers register again only after minutes."""
    async with watched(broker, store) as history:
        registered(broker)
        await history.settled()
    another = EmbeddedBroker()
    another.declare_nowait(TOPOLOGY)
    async with watched(another, store) as history, Client(another, worker_id="w") as client:
        occurrence = await client.enqueue("WorkJob", {"a": 1})
        await history.settled()

        assert store.load([occurrence])[occurrence].job_data == '{"a":1}'


async def test_what_is_dispatched_to_a_worker_that_came_later_is_kept_with_its_data(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """No status tells the data, so without a copy the history would not have it."""
    async with watched(broker, store) as history, Client(broker, worker_id="w") as client:
        registered(broker)
        await history.settled()
        occurrence = await client.enqueue("WorkJob", {"a": 1})
        await history.settled()

        assert store.load([occurrence])[occurrence].job_data == '{"a":1}'


async def test_a_broker_that_comes_back_without_queues_copies_dispatches_again(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """What was asked for over the last connection may be gone with it."""
    another = EmbeddedBroker()
    async with watched(broker, store) as history, Client(another, worker_id="w") as client:
        registered(broker)
        await history.settled()
        history.monitor.broker = another
        broker.drop_connection()
        await trio.sleep(10)
        occurrence = await client.enqueue("WorkJob", {"a": 1})
        await history.settled()

        assert store.load([occurrence])[occurrence].job_data == '{"a":1}'


async def test_what_failed_for_good_is_kept_as_a_dead_letter(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work(data: str) -> None:
        raise PermanentFailure("no such address")

    async with watched(broker, store) as history, under_test(worker, broker=broker) as kit:
        occurrence = kit.enqueue(work, "somewhere")
        await kit.run_until_idle()
        await history.settled()
        [letter] = store.failures()
        row = store.load([occurrence])[occurrence]

    assert (letter.occurrence_id, letter.job_name, letter.job_data) == (occurrence, "work", '"somewhere"')
    assert (letter.worker_id, letter.failure_type) == ("tests", FailureType.UNHANDLED_EXCEPTION)
    assert "no such address" in letter.exception
    assert row.status is S.FAILED


async def test_workers_are_kept_with_their_jobs_and_processes(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """What it registers, that it lives, and that it said good-bye."""

    @worker.job()
    async def work() -> None: ...

    async with watched(broker, store) as history:
        async with under_test(worker, broker=broker):
            await trio.sleep(100)
            [group], [alive] = store.workers(), store.instances()
        await history.settled()
        [left] = store.instances()

    assert (group.worker_id, group.job_types, group.routing_patterns) == ("tests", ("work",), {"work": "tests.work.*"})
    assert (alive.instance_id, alive.lost_at, alive.stopped_at) == (worker.instance_id, None, None)
    assert alive.last_heartbeat.utc_ticks >= at(65).utc_ticks
    assert left.stopped_at is not None


async def test_a_worker_that_falls_silent_is_lost_after_three_intervals_and_comes_back(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with watched(broker, store, check_interval=1) as history:
        registered(broker, interval=10)
        await trio.sleep(29)
        [still] = store.instances()
        await trio.sleep(4)
        [lost] = store.instances()
        beat(broker, jobs=2)
        await history.settled()
        [back] = store.instances()

    assert (still.lost_at, lost.lost_at is not None, back.lost_at) == (None, True, None)
    assert back.current_jobs == 2


async def test_processes_that_are_gone_are_forgotten_after_a_day(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with watched(broker, store, check_interval=600, retention_days=0):
        registered(broker, "w-1")
        registered(broker, "w-2")
        beat(broker, "w-2", is_stopping=True)
        await trio.sleep(86_000)
        before = store.instances()
        await trio.sleep(2000)
        after = store.instances()

    assert [each.instance_id for each in before] == ["w-1", "w-2"]
    assert after == []


async def test_processes_that_live_are_not_forgotten_when_the_monitor_was_away_for_days(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It has heard nothing of them only because it did not listen."""
    async with watched(broker, store) as history:
        registered(broker)
        await history.settled()
    await trio.sleep(3 * 86_400)
    async with watched(broker, store, check_interval=5):
        await trio.sleep(12)
        [known] = store.instances()

    assert (known.instance_id, known.lost_at) == ("w-1", None)


async def test_a_run_of_another_scheduler_is_kept(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    occurrence = Wire(broker).id
    async with watched(broker, store) as history:
        for event, status in ((ExternalEvent.STARTING, S.RUNNING), (ExternalEvent.COMPLETED, S.COMPLETED)):
            told = ExternalOccurrence(
                external_job_id="nightly",
                correlation_id=occurrence,
                worker_id=WorkerId("w"),
                event_type=event,
                status=status,
                source="APScheduler",
                message_timestamp=instant_now(),
            )
            publish(broker, topology.EXTERNAL_OCCURRENCE_QUEUE, encode_external_occurrence(told))
        await history.settled()
        row = store.load([occurrence])[occurrence]

    assert (row.status, row.job_name, row.source) == (S.COMPLETED, "nightly", "APScheduler")


async def test_a_delayed_job_is_known_before_its_time_and_not_lost_while_it_waits(
    worker: Worker, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Its message passes no exchange on its way, so the client sends the monitor a copy."""

    @worker.job()
    async def work(data: dict[str, int]) -> str:
        return "done"

    client = Client(broker, worker_id="tests", clock_ns=clock_ns)
    async with watched(broker, store, zombie_timeout=60, check_interval=5) as history:
        async with under_test(worker, broker=broker) as kit, client:
            occurrence = await client.enqueue("work", {"a": 1}, delay=100)
            await trio.sleep(95)
            before = store.load([occurrence])[occurrence]
            await kit.run_until_idle()
            await history.settled()
            after = store.load([occurrence])[occurrence]

    assert (before.status, before.job_data, before.execute_at) == (S.QUEUED, '{"a":1}', at(100))
    assert [(change.before, change.after) for change in after.changes] == [
        (S.QUEUED, S.RUNNING),
        (S.RUNNING, S.COMPLETED),
    ]


async def test_a_dispatch_that_is_read_after_the_end_fills_in_what_is_missing(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """The queues are read side by side, so one may be behind."""
    wire = Wire(broker)
    async with watched(broker, store) as history:
        wire.told(S.RUNNING, start=0)
        wire.told(S.COMPLETED, start=0, end=1, result="done")
        await history.settled()
        wire.dispatched('{"a":1}')
        await history.settled()
        row = store.load([wire.id])[wire.id]

    assert (row.status, row.result, row.job_name, row.job_data) == (S.COMPLETED, "done", "WorkJob", '{"a":1}')


async def test_what_came_before_the_monitor_started_is_read(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    wire = Wire(broker)
    wire.dispatched()
    wire.told(S.RUNNING, start=0)
    wire.logged("one", "two")
    async with watched(broker, store) as history:
        await history.settled()
        row, lines = store.load([wire.id])[wire.id], store.lines(wire.id)

    assert (row.status, row.job_name) == (S.RUNNING, "WorkJob")
    assert [line.message for line in lines] == ["one", "two"]


async def test_messages_are_written_together(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Those that come within the interval are one transaction, in which each occurrence is written once."""
    async with watched(broker, store, batch_interval=0.5) as history:
        for number in range(1, 51):
            wire = Wire(broker, number)
            wire.dispatched()
            wire.told(S.RUNNING, start=0)
            await trio.sleep(0.001)
            wire.told(S.COMPLETED, start=0, end=1, result="done")
        await history.settled()
        counts = store.counts()

    assert counts == {S.COMPLETED: 50}
    assert [len(rows.occurrences) for rows in store.saved] == [50]
    assert all(not broker.queue(queue).depth for queue in QUEUES)


async def test_more_than_a_batch_is_written_without_waiting(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A full batch does not wait for its interval."""
    for number in range(1, 1201):
        Wire(broker, number).told(S.RUNNING, start=0)
    async with watched(broker, store, batch_interval=1000):
        await trio.sleep(1)
        first = sum(store.counts().values())

    assert first == 1000
    with store:
        assert store.counts() == {S.RUNNING: 1200}
