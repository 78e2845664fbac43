"""What the outbox is told about starts, so that deaths are counted, and what a worker does when it lost reports."""

import pytest
import trio
from tests.support.outboxes import RememberingOutbox, given_to_workers
from tests.support.workers import OCCURRENCE, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model import events
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.testing import under_test


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> RememberingOutbox:
    return given_to_workers(monkeypatch)


@pytest.fixture
def runs(worker: Worker) -> list[int]:
    """The numbers of the runs of the job `work`, which takes ten seconds."""
    numbers: list[int] = []

    @worker.job("work", timeout=60)
    async def work(ctx: JobContext) -> str:
        numbers.append(ctx.run_number)
        await trio.sleep(10)
        return "done"

    return numbers


# --- before the code runs -------------------------------------------------------------------------------------------


async def test_no_code_of_a_job_runs_before_its_start_is_on_record(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """Of a fresh message neither: its first run may kill the process. Sabotage: do not wait for it."""
    outbox.writable = trio.Event()
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await trio.sleep(5)
        assert runs == []
        assert kit.occurrence(occurrence).status is OccurrenceStatus.RUNNING
        outbox.writable.set()
        await kit.run_until_idle()

    assert runs == [1]
    assert outbox.of(occurrence) == ["started", "concluded"]


async def test_a_job_that_nobody_is_told_of_does_not_wait_for_its_start_on_record(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """A commit would be most of what it costs. Its message comes again if the process dies, and then it waits."""
    outbox.writable = trio.Event()
    async with under_test(worker, local_occurrences=False) as kit:
        occurrence = kit.enqueue("work")
        await kit.run_until_idle()

    assert runs == [1]
    assert outbox.of(occurrence) == ["begun", "concluded"]


async def test_its_message_that_came_before_waits_all_the_same(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """It may be the one that kills. Sabotage: look only at whether it is reported."""
    async with under_test(worker, local_occurrences=False) as kit:
        broker = kit.broker
        occurrence = kit.enqueue("work")
        await trio.sleep(1)
        kit.stop()
        await kit.stopped()
    second = Worker("tests", observers=())
    for registered in worker.registry.jobs:
        second.registry.add(registered.definition)
    async with under_test(second, broker=broker, local_occurrences=False) as kit:
        await kit.run_until_idle()

    assert runs == [1, 2]
    assert outbox.of(occurrence) == ["begun", "returned", "started", "concluded"]


async def test_a_cancel_that_comes_before_the_start_is_on_record_keeps_the_job_from_running(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """At once, however slow the disk is. Sabotage: wait outside of the job's scope."""
    outbox.writable = trio.Event()
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await trio.sleep(5)
        kit.cancel(occurrence)
        await wait_all_tasks_blocked()

        assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED

    assert runs == []


async def test_the_time_limit_holds_before_the_start_is_on_record(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """Sabotage: wait outside of the job's scope."""
    outbox.writable = trio.Event()
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await trio.sleep(61)
        final = kit.occurrence(occurrence).final

    assert runs == []
    assert final is not None
    assert (final.status, final.duration_ms) == (OccurrenceStatus.TIMED_OUT, 60_000)


async def test_a_shutdown_before_the_start_is_on_record_gives_the_message_back(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """And no later death is this attempt's."""
    outbox.writable = trio.Event()
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await wait_all_tasks_blocked()
        kit.stop()
        await kit.stopped()

        assert len(kit.queue("work").ready) == 1

    assert runs == []
    assert outbox.of(occurrence) == ["returned"]


async def test_a_memory_outbox_costs_no_pass_of_the_scheduler(worker: Worker, autojump_clock: MockClock) -> None:
    """A job that never waits ends in the pass in which it started. Sabotage: a checkpoint in `started`."""
    order: list[str] = []

    @worker.job("work")
    async def work() -> None:
        order.append("job")

    def observe(event: object) -> None:
        if isinstance(event, events.JobStarted):
            order.append("started")
            trio.lowlevel.current_trio_token().run_sync_soon(order.append, "a pass")

    worker.observers = (observe,)
    async with under_test(worker) as kit:
        kit.enqueue("work")
        await kit.run_until_idle()

    assert order[:2] == ["started", "job"]


async def test_the_deaths_of_processes_count_as_runs(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """Also where the broker does not say that it delivers again."""
    async with under_test(worker) as kit:
        outbox.died[OCCURRENCE] = 1
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        (entry,) = kit.occurrence(OCCURRENCE).logs

    assert runs == [2]
    assert entry.log.category == "Redelivery"
    assert entry.log.data == {"Reason": "worker process died", "WorkerId": worker.instance_id}


# --- back by intent -------------------------------------------------------------------------------------------------


async def test_what_a_shutdown_interrupts_is_noted_as_returned(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """Sabotage: leave it out; then three deployments quarantine a long job."""
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await trio.sleep(1)
        kit.stop()
        await kit.stopped()

    assert runs == [1]
    assert outbox.of(occurrence) == ["started", "returned"]


async def test_what_ignores_the_shutdown_is_noted_as_returned(
    worker: Worker, outbox: RememberingOutbox, autojump_clock: MockClock
) -> None:
    """Before its message is in its queue, where another worker may take it."""
    ends = trio.Event()

    @worker.job()
    async def deaf() -> None:
        with trio.CancelScope(shield=True):
            await ends.wait()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(deaf)
        await trio.sleep(1)
        kit.stop()
        await trio.sleep(30)
        in_queue, noted = len(kit.queue(deaf).ready), outbox.of(occurrence)
        ends.set()

    assert in_queue == 1
    assert noted == ["started", "returned"]


async def test_what_a_defect_of_ours_gives_back_is_noted_as_returned(
    worker: Worker,
    outbox: RememberingOutbox,
    runs: list[int],
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process did not die of it."""
    started = Reporter.started

    def defective(*args: object) -> None:
        monkeypatch.setattr(Reporter, "started", started)
        raise OSError("a defect")

    monkeypatch.setattr(Reporter, "started", defective)
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await kit.run_until_idle()

    assert outbox.of(occurrence) == ["returned", "started", "concluded"]
    assert runs == [2]


# --- reports lost ---------------------------------------------------------------------------------------------------


async def test_a_job_whose_reports_were_lost_goes_back_and_runs_again(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """It is no failure of the job. Sabotage: let it be reported as one, or ack the message all the same."""
    async with under_test(worker) as kit:
        outbox.lost[OCCURRENCE] = 1
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        told = [event.why for event in kit.events if isinstance(event, events.JobReturned)]

    assert runs == [1, 2]
    assert story(kit, OCCURRENCE) == ["RUNNING", "RUNNING", "logs", "COMPLETED"]
    assert outbox.of(OCCURRENCE) == ["started", "returned", "started", "concluded"]
    assert told == ["the outbox file became unreadable"]


async def test_a_message_that_cannot_run_and_whose_reports_were_lost_goes_back(
    worker: Worker,
    outbox: RememberingOutbox,
    runs: list[int],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And is refused again, with one line about it in the worker's log."""
    async with under_test(worker) as kit:
        outbox.lost[OCCURRENCE] = 1
        kit.dispatch(job_message("Unknown"), to="work")
        await kit.run_until_idle()

    assert story(kit, OCCURRENCE)[-2:] == ["FAILED", "dead letter"]
    assert len(kit.dead_letters) == 1
    assert [record.getMessage() for record in caplog.records if "goes back" in record.getMessage()] == [
        f"a message of {kit.queue('work').name} goes back to its queue: the outbox file became unreadable"
    ]


async def test_a_twin_of_a_concluded_message_whose_reports_were_lost_runs(
    worker: Worker, outbox: RememberingOutbox, runs: list[int], autojump_clock: MockClock
) -> None:
    """What answered for it is gone. Sabotage: ack it."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        outbox.lost[OCCURRENCE] = 1
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert len(runs) == 2
