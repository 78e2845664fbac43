"""From a message to its ack: what is told, when, and in which order."""

import pytest
import trio
from attrs import define, evolve, field, frozen
from tests.support.workers import JOB_ID, OCCURRENCE, at, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, JobResult, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.ids import WorkerId
from milvaion_trio.model.messages import StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.model.settings import HeartbeatSettings
from milvaion_trio.model.topology import STATUS_QUEUE
from milvaion_trio.ports import Confirmation
from milvaion_trio.testing import WorkerUnderTest, under_test


@define(eq=False)
class WatchedBroker(EmbeddedBroker):
    """Remembers what was offered to it, also what it refused."""

    offered: list[Publication] = field(factory=list, init=False)

    def publish_nowait(self, publication: Publication) -> Confirmation:
        self.offered.append(publication)
        return super().publish_nowait(publication)


@frozen
class Report:
    name: str
    pages: int


async def test_a_job_is_told_as_running_and_then_as_completed(worker: Worker, autojump_clock: MockClock) -> None:
    """Running carries the start time; Completed the start, the end, the duration and the result (WIRE.md 3.1)."""

    @worker.job()
    async def work() -> str:
        await trio.sleep(1.5)
        return "done"

    async with under_test(worker) as kit:
        await trio.sleep(2)
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    running = StatusUpdate(
        occurrence_id=OCCURRENCE,
        job_id=JOB_ID,
        worker_id=WorkerId("tests"),
        instance_id=worker.instance_id,
        status=OccurrenceStatus.RUNNING,
        start_time=at(2),
        message_timestamp=at(2),
    )
    completed = evolve(
        running,
        status=OccurrenceStatus.COMPLETED,
        end_time=at(3.5),
        duration_ms=1500,
        result="done",
        message_timestamp=at(3.5),
    )
    assert kit.statuses == (running, completed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text stays as it is", "plain text stays as it is"),
        ("", ""),
        (None, "work finished without a return value"),
        (7, "7"),
        (True, "true"),
        ([1, "two", None], '[1,"two",null]'),
        ({"Rows": 3}, '{"Rows":3}'),
        (Report("sales", 12), '{"name":"sales","pages":12}'),
        (JobResult.success({"a": 1}), '{"a":1}'),
        (JobResult.success(), "work finished without a return value"),
    ],
)
async def test_the_result_is_told_as_text(worker: Worker, autojump_clock: MockClock, value: object, text: str) -> None:
    """A text is sent as it is, any other value as its JSON text (WIRE.md 3.1)."""

    @worker.job()
    async def work() -> object:
        return value

    async with under_test(worker) as kit:
        occurrence_id = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence_id).result == text


async def test_a_result_without_json_form_completes_the_job_and_says_so(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """The work is done; its repr is reported and a warning tells what can be returned."""

    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    @worker.job()
    async def work() -> object:
        return Odd()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "<odd>"
    (warning,) = kit.occurrence(occurrence).logs
    assert warning.log.level == "Warning"
    assert "returned a Odd, which has no JSON form" in warning.log.message


async def test_logs_come_before_the_final_status(worker: Worker, autojump_clock: MockClock) -> None:
    """Everything a job logged is sent before its outcome is (WIRE.md 3.8)."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        ctx.log.info("halfway", rows=3)
        ctx.progress(0.5, "half done")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "logs", "COMPLETED"]
    first, second = (record.log for record in kit.occurrence(occurrence).logs)
    assert (first.message, first.level, first.data, first.category) == (
        "halfway",
        "Information",
        {"rows": 3},
        "UserCode",
    )
    assert (second.message, second.data) == ("half done", {"Progress": 0.5})


async def test_logs_of_a_running_job_leave_after_half_a_second(worker: Worker, autojump_clock: MockClock) -> None:
    """A batch waits 500 ms for company, counted from its first entry (WIRE.md 3.3)."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        await trio.sleep(1)
        ctx.log.info("first")
        await trio.sleep(0.4)
        ctx.log.info("second")
        await trio.sleep(0.4)
        ctx.log.info("third")
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    sent = [(batch.at, len(kit.logs)) for batch in kit.sent_to(topology.LOGS_QUEUE)]
    assert [time for time, _ in sent] == pytest.approx([1.5, 2.3])
    assert [record.log.message for record in kit.logs] == ["first", "second", "third"]


async def test_fifty_entries_leave_at_once(worker: Worker, autojump_clock: MockClock) -> None:
    """A full batch does not wait (WIRE.md 3.3)."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        for number in range(51):
            ctx.log.info(f"line {number}")
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    assert [batch.at for batch in kit.sent_to(topology.LOGS_QUEUE)] == [0, 0.5]
    assert [record.log.message for record in kit.logs] == [f"line {number}" for number in range(51)]


async def test_a_log_entry_that_cannot_be_shown_does_not_fail_the_job(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """A fact without JSON form is logged as its repr, and one whose repr raises as a word about that."""

    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    @worker.job()
    async def work(ctx: JobContext) -> None:
        ctx.log.info("odd facts", a=worker, b=Silent())

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    data = kit.logs[0].log.data
    assert data == {"a": repr(worker), "b": "<Silent, whose repr raises RuntimeError>"}


async def test_the_ack_comes_last(worker: Worker, autojump_clock: MockClock) -> None:
    """The delivery stays unsettled until the broker has confirmed everything that replaces it (DESIGN.md 5.8)."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            occurrence = kit.enqueue(work)
            await trio.sleep(5)

            assert kit.queue().unacked == 1

        await wait_all_tasks_blocked()

        assert kit.queue().depth == 0
        assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_job_starts_without_waiting_for_the_confirm_of_running(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """A broker that is slow to confirm delays reports, not jobs (DESIGN.md 5.3)."""
    started = trio.Event()

    @worker.job()
    async def work() -> None:
        started.set()

    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            kit.enqueue(work)
            await wait_all_tasks_blocked()

            assert started.is_set()


async def test_a_refused_report_is_sent_again_as_it_was(autojump_clock: MockClock) -> None:
    """The same bytes and message id, so that equal ids are equal messages (RELIABILITY.md 2.6, W12)."""
    settings = WorkerSettings(worker_id="tests", heartbeat=HeartbeatSettings(enabled=False))
    worker = Worker(settings=settings, observers=())
    broker = WatchedBroker()

    @worker.job()
    async def work() -> str:
        await trio.sleep(2)
        return "done"

    async with under_test(worker, broker=broker) as kit:
        kit.enqueue(work)
        await trio.sleep(1)
        broker.refuse_next(1)
        await trio.sleep(1.5)

        assert kit.queue().unacked == 1

        await kit.run_until_idle()

    refused, repeated = (each for each in broker.offered if str(each.message.message_id).endswith(":final"))
    assert repeated == refused
    assert [(status.status, sent.at) for status, sent in zip(kit.statuses, kit.sent_to(STATUS_QUEUE), strict=True)] == [
        (OccurrenceStatus.RUNNING, 0),
        (OccurrenceStatus.COMPLETED, 3),
    ]


async def test_every_report_has_a_message_id_of_its_own(worker: Worker, autojump_clock: MockClock) -> None:
    """A consumer can tell a repeated message from a new one (RELIABILITY.md 2.6, W12)."""

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work(ctx: JobContext) -> None:
        ctx.log.info("a line")
        raise ValueError("always")

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    ids = [
        published.message.message_id
        for published in kit.published
        if published.target not in (topology.REGISTRATION_QUEUE, topology.HEARTBEAT_QUEUE)
    ]
    assert None not in ids
    assert len(ids) == len(set(ids)) == 8


async def test_a_job_sees_its_own_attempt(worker: Worker, autojump_clock: MockClock) -> None:
    """The context tells what the message and the policy say."""
    seen: list[object] = []

    @worker.job(max_retries=1, base_retry_delay=1, timeout=60)
    async def work(ctx: JobContext) -> None:
        seen.append((ctx.attempt, ctx.max_retries, ctx.run_number, ctx.deadline, ctx.cancel_reason))
        assert ctx.idempotency_key == ctx.occurrence_id == OCCURRENCE
        assert ctx.job.id == JOB_ID
        if ctx.attempt == 1:
            raise ValueError("once more")

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert seen == [(1, 1, 1, 60.0, None), (2, 1, 1, 61.0, None)]
    assert StopReason.CANCELLED not in seen


async def test_many_occurrences_are_told_apart(worker: Worker, autojump_clock: MockClock) -> None:
    """Reports of jobs that run at the same time do not mix."""

    @worker.job(max_parallel=3)
    async def work(ctx: JobContext, data: int) -> int:
        ctx.log.info(f"log of {data}")
        await trio.sleep(10 - data)
        return data

    async with under_test(worker) as kit:
        occurrences = [kit.enqueue(work, number) for number in range(3)]
        await kit.run_until_idle()

    for number, occurrence in enumerate(occurrences):
        view = kit.occurrence(occurrence)
        assert (view.result, view.messages) == (str(number), (f"log of {number}",))
        assert view.final is not None
        assert view.final.duration_ms == (10 - number) * 1000


def test_the_kit_is_no_test(worker: Worker) -> None:
    """Pytest must not take the kit for a class of tests."""
    assert not WorkerUnderTest.__name__.startswith("Test")
