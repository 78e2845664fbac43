"""Messages that cannot run, come twice, or come back."""

import json
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.workers import JOB_ID, OCCURRENCE, at, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model import events, headers, topology
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import under_test

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"


@pytest.fixture
def worker(worker: Worker) -> Worker:
    @worker.job("work")
    async def work() -> str:
        await trio.sleep(10)
        return "done"

    return worker


async def test_a_dispatch_of_a_milvaion_api_runs(worker: Worker, autojump_clock: MockClock) -> None:
    """The vector `job_dispatch`, property by property and byte by byte, over exchange and routing key."""
    vector = json.loads((VECTORS / "job_dispatch.json").read_text())
    worker = Worker("report-worker", observers=())

    @worker.job()
    async def GenerateReportJob(ctx: JobContext, data: dict[str, object]) -> object:  # noqa: N802 # as in .NET
        assert ctx.deadline == 120
        return data["reportType"]

    async with under_test(worker) as kit:
        kit.dispatch(vector)
        await kit.run_until_idle()

    view = kit.occurrence(vector["properties"]["correlation_id"])
    assert view.result == "sales"
    assert view.statuses[0].job_id == vector["body"]["id"]


async def test_an_unknown_job_fails_with_a_well_formed_dead_letter(worker: Worker, autojump_clock: MockClock) -> None:
    """A raw one would hang the API's handler; the sentence names the job (WIRE.md 3.1, 4.5)."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("Nonsense", job_data='{"a":1}', x_retry_count=2))
        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["logs", "FAILED", "dead letter"]
    final = kit.occurrence(OCCURRENCE).final
    assert final is not None
    assert (final.job_id, final.start_time, final.end_time, final.duration_ms) == (JOB_ID, None, at(0), None)
    assert "'Nonsense'" in str(final.exception)
    (letter,) = kit.dead_letters
    assert (letter.id, letter.job_name_in_worker, letter.job_data) == (JOB_ID, "Nonsense", '{"a":1}')
    assert str(letter.exception).startswith("[PERMANENT FAILURE] ")
    (sent,) = kit.sent_to(topology.DEAD_LETTER_EXCHANGE)
    assert (sent.message.headers[headers.RETRY_COUNT], sent.message.headers[headers.MAX_RETRIES]) == (2, 0)


async def test_job_names_are_compared_in_any_case(worker: Worker, autojump_clock: MockClock) -> None:
    """As DESIGN.md 2 says."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("WORK"))
        await kit.run_until_idle()

    assert kit.occurrence(OCCURRENCE).result == "done"


@pytest.mark.parametrize(
    "message",
    [
        evolve(job_message("work"), headers={}, correlation_id=None),
        evolve(job_message("work"), headers={headers.OCCURRENCE_ID: "no guid"}, correlation_id="neither"),
        evolve(job_message("work"), body=b"{"),
        evolve(job_message("work"), body=b"\xff\xfe"),
        evolve(job_message("work"), body=b""),
        evolve(job_message("work"), body=b'{"JobNameInWorker":"work"}'),
        evolve(job_message("work"), body=b"[" * 100_000),
    ],
    ids=["no ids", "ids that are none", "broken", "not UTF-8", "empty", "no job id", "deep"],
)
async def test_a_message_about_which_nothing_can_be_told_is_set_aside(
    worker: Worker, autojump_clock: MockClock, message: Message
) -> None:
    """It goes to the quarantine queue as it is, with a word about why; never to the dead letter exchange."""
    async with under_test(worker) as kit:
        kit.dispatch(message)
        other = kit.enqueue("work")
        await kit.run_until_idle()

    (aside,) = kit.quarantined
    assert aside.body == message.body
    assert aside.headers["x-mtrio-problem"]
    assert aside.headers["x-mtrio-queue"] == kit.queue("work").name
    assert kit.broker.queue(topology.QUARANTINE_QUEUE).depth == 1
    assert kit.broker.queue(topology.FAILED_QUEUE).depth == 0
    assert kit.occurrence(other).result == "done"
    assert any(isinstance(event, events.DeliveryRefused) for event in kit.events)


async def test_a_broken_message_with_ids_fails_and_is_dead_lettered(worker: Worker, autojump_clock: MockClock) -> None:
    """Something can be told about it: Failed, and a dead letter made anew."""
    body = json.dumps({"Id": JOB_ID, "JobNameInWorker": "work", "Version": "not a number"}).encode()

    async with under_test(worker) as kit:
        kit.dispatch(evolve(job_message("work"), body=body))
        await kit.run_until_idle()

    assert kit.occurrence(OCCURRENCE).status is OccurrenceStatus.FAILED
    assert "Version" in str(kit.occurrence(OCCURRENCE).exception)
    assert [letter.id for letter in kit.dead_letters] == [JOB_ID]


async def test_a_redelivered_message_runs_again_and_says_so(worker: Worker, autojump_clock: MockClock) -> None:
    """A log entry of category Redelivery, and a run number above 1 (WIRE.md 3.3, DESIGN.md 2)."""
    runs: list[int] = []

    @worker.job("other")
    async def other(ctx: JobContext) -> str:
        runs.append(ctx.run_number)
        await trio.sleep(10)
        return "done"

    async with under_test(worker) as kit:
        broker = kit.broker
        kit.dispatch(job_message("other"), to="other")
        await trio.sleep(1)
        kit.stop()
        await kit.stopped()
    second = Worker("tests", observers=())
    second.add(other)
    async with under_test(second, broker=broker) as kit:
        await kit.run_until_idle()

    assert runs == [1, 2]
    view = kit.occurrence(OCCURRENCE)
    assert (view.status, view.result) == (OccurrenceStatus.COMPLETED, "done")
    (entry,) = (record.log for record in view.logs)
    assert (entry.category, entry.level) == ("Redelivery", "Warning")
    assert entry.data is not None
    assert entry.data["WorkerId"] == second.instance_id


async def test_a_twin_of_a_running_message_is_adopted(worker: Worker, autojump_clock: MockClock) -> None:
    """One run answers for both, and both are acked when it is concluded (DESIGN.md 5.1)."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await trio.sleep(1)
        kit.dispatch(job_message("work"))
        await trio.sleep(1)

        assert kit.queue().unacked == 2

        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["RUNNING", "COMPLETED"]
    assert trio.current_time() == 10


async def test_a_twin_of_a_concluded_message_is_acked(worker: Worker, autojump_clock: MockClock) -> None:
    """The attempt is known by its identity; nothing is told a second time."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["RUNNING", "COMPLETED"]


async def test_a_twin_that_comes_while_reports_wait_is_acked_behind_them(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Nothing is acked before everything that replaces it is confirmed."""
    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            kit.dispatch(job_message("work"))
            await trio.sleep(20)
            kit.dispatch(job_message("work"))
            await wait_all_tasks_blocked()

            assert kit.queue().unacked == 2

        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["RUNNING", "COMPLETED"]


async def test_a_new_dispatch_of_an_occurrence_runs(worker: Worker, autojump_clock: MockClock) -> None:
    """A workflow step that is dispatched again keeps its occurrence id and has a new stamp (WIRE.md 12)."""
    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", timestamp=1))
        await kit.run_until_idle()
        kit.dispatch(job_message("work", timestamp=2))
        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["RUNNING", "COMPLETED", "RUNNING", "COMPLETED"]
