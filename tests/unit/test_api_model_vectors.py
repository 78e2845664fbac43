"""The model takes what real workers send: every example message of WIRE.md 3, with the effects written beside it."""

import pytest
from attrs import evolve
from tests.support.amqp_vectors import VECTORS, vector, vector_headers
from tests.support.api_model import ApiModel, FailureType, Generation, OccurrenceStatus, Rule, Sender
from tests.support.api_model.dead_letters import NO_EXCEPTION
from tests.support.api_model.examples import JOB, OCCURRENCE, OTHER, START, api_with_a_job, message, stored
from tests.support.api_model.findings import Complaint
from tests.support.api_model.settings import ApiSettings

FROM_WORKERS = sorted(
    path.stem for path in VECTORS.glob("*.json") if vector(path.stem).get("direction") in {"worker->api", "broker->api"}
)
OF_NET = {
    "dlq_broker_dead_letter": {Rule.RAW_DEAD_LETTER},
    "external_job_registration": {Rule.EXTERNAL},
    "external_job_registration_inactive": {Rule.EXTERNAL},
    "log_single_legacy_1_0": {Rule.EMPTY_OCCURRENCE},
    "status_running_legacy_1_0": {Rule.EMPTY_OCCURRENCE, Rule.STATUS_MEMBERS},
    "status_synced_from_local_store": {Rule.DATE_FORM},
    "worker_registration_legacy_1_0": {Rule.METADATA},
}
"""What .NET workers may do and ours must not, or what needs more than this one message."""


def taken(name: str, settings: ApiSettings | None = None) -> ApiModel:
    api = api_with_a_job(settings)
    api.take(*message(name), START)
    api.tick(START)
    return api


def rules(complaints: list[Complaint]) -> set[Rule]:
    return {complaint.rule for complaint in complaints}


@pytest.mark.parametrize("name", FROM_WORKERS)
def test_every_message_of_a_worker_is_taken(name: str) -> None:
    """Nothing is dropped or requeued, and the only complaints are about what ours must do better."""
    api = taken(name)

    assert not api.requeues
    assert not api.dropped
    assert rules(api.complaints) - {Rule.UNKNOWN_OCCURRENCE} == OF_NET.get(name, set()), api.report()


@pytest.mark.parametrize("name", ["status_running_legacy_1_0", "log_single_legacy_1_0", "worker_heartbeat_legacy_1_0"])
def test_an_api_of_1_0_is_content_with_messages_of_1_0(name: str) -> None:
    """The generation decides by which member an occurrence is known (WIRE.md 14)."""
    api = taken(name, ApiSettings(generation=Generation.V1_0))

    api.assert_content()


def test_running_makes_a_queued_occurrence_run() -> None:
    """Queued->Running: Status, WorkerId, StartTime, LastHeartbeat, StatusChangeLogs; the job is running (vector)."""
    api = taken("status_running")

    occurrence = api.occurrence(OCCURRENCE)
    assert occurrence.history == [OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING]
    assert occurrence.worker_id == "report-worker"
    assert occurrence.start_time is not None
    assert occurrence.start_time.text == "2026-04-02T09:15:01.1234567Z"
    assert occurrence.last_heartbeat == START
    assert api.database.running == {JOB}


def test_the_job_is_running_before_the_batch_is_stored() -> None:
    """The id is added to the running set at once (WIRE.md 4.3)."""
    api = api_with_a_job()

    api.take(*message("status_running"), START)

    assert api.database.running == {JOB}
    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.QUEUED


def test_a_heartbeat_of_a_running_occurrence_sets_nothing_but_its_time() -> None:
    """Only LastHeartbeat, by the clock of the API (vector)."""
    api = taken("status_running")
    start = api.occurrence(OCCURRENCE).start_time

    api.take(*message("status_heartbeat"), START + 60)
    api.tick(START + 60)

    assert api.occurrence(OCCURRENCE).last_heartbeat == START + 60
    assert api.occurrence(OCCURRENCE).start_time == start


def test_a_heartbeat_of_a_queued_occurrence_starts_it_without_a_start_time() -> None:
    """A normal transition (vector)."""
    occurrence = taken("status_heartbeat").occurrence(OCCURRENCE)

    assert occurrence.status == OccurrenceStatus.RUNNING
    assert occurrence.start_time is None


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("status_completed", OccurrenceStatus.COMPLETED),
        ("status_completed_default_result", OccurrenceStatus.COMPLETED),
        ("status_failed_max_retries", OccurrenceStatus.FAILED),
        ("status_failed_permanent", OccurrenceStatus.FAILED),
        ("status_failed_unknown_job", OccurrenceStatus.FAILED),
        ("status_cancelled", OccurrenceStatus.CANCELLED),
        ("status_timed_out", OccurrenceStatus.TIMED_OUT),
    ],
)
def test_a_final_status_ends_the_occurrence(name: str, status: OccurrenceStatus) -> None:
    api = taken("status_running")
    api.take(*message(name), START + 1)
    api.tick(START + 1)

    occurrence = api.occurrence(OCCURRENCE)
    assert occurrence.status == status
    assert occurrence.result or occurrence.exception
    assert not api.database.running


@pytest.mark.parametrize(
    ("name", "retry_count", "failure_type"),
    [
        ("dlq_max_retries", 3, FailureType.MAX_RETRIES_EXCEEDED),
        ("dlq_permanent", 0, FailureType.UNHANDLED_EXCEPTION),
        ("dlq_broker_dead_letter", 0, FailureType.UNHANDLED_EXCEPTION),
    ],
)
def test_a_dead_letter_becomes_a_failed_occurrence(name: str, retry_count: int, failure_type: FailureType) -> None:
    """The rows that the vectors say."""
    api = taken(name)

    (row,) = api.failed_occurrences
    assert (row.job_id, row.occurrence_id) == (JOB, OCCURRENCE)
    assert (row.retry_count, row.failure_type) == (retry_count, failure_type)
    assert (row.exception == NO_EXCEPTION) == (name == "dlq_broker_dead_letter")


@pytest.mark.parametrize(("name", "count"), [("log_batch", None), ("log_batch_system_entries", 3), ("log_single", 1)])
def test_logs_are_stored_in_order(name: str, count: int | None) -> None:
    api = taken(name)
    wanted = vector(name)["body"]
    assert isinstance(wanted, dict)
    records = wanted.get("Logs", [wanted])

    logs = api.occurrence(OCCURRENCE).logs

    messages = [record["Log"]["Message"] for record in records if record["OccurrenceId"] == OCCURRENCE]
    assert [entry.message for entry in logs] == messages
    assert count is None or len(logs) == count


def test_a_registered_worker_can_be_given_jobs() -> None:
    api = taken("worker_registration")

    worker = api.workers["report-worker"]
    assert worker.creatable_jobs == ["GenerateReportJob", "CleanupJob"]
    assert api.create_job("CleanupJob").routing_pattern == "report-worker.cleanup.*"
    with pytest.raises(ValueError, match="0 workers list 'cleanupJob'"):
        api.create_job("cleanupJob")


def test_a_heartbeat_tells_the_running_jobs_and_the_goodbye_removes_the_instance() -> None:
    api = taken("worker_registration")
    worker = api.workers["report-worker"]

    api.take(*message("worker_heartbeat"), START + 1)
    api.tick(START + 1)
    assert worker.current_jobs == 2
    assert api.dispatcher.held_back(api.database.jobs[JOB]) is None

    api.take(*message("worker_heartbeat_stopping"), START + 2)
    api.tick(START + 2)
    assert not worker.is_active
    assert api.dispatcher.held_back(api.database.jobs[JOB]) == "its worker 'report-worker' is not active"


def test_external_runs_are_followed_from_their_registered_worker() -> None:
    api = ApiModel()
    names = ["worker_registration_external", "external_job_registration"]
    for name in [*names, "external_occurrence_starting", "external_occurrence_completed"]:
        api.take(*message(name), START)
        api.tick(START)

    assert api.occurrence(OTHER).history == [OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED]
    assert api.occurrence(OTHER).result == "SendDigest finished"
    api.assert_content()


def test_external_jobs_and_runs_of_nobody_are_lost() -> None:
    """A job that its worker does not list, and runs of jobs that are not there (WIRE.md 4.9)."""
    api = ApiModel()
    queue, registration = message("worker_registration_external")
    api.take(queue, evolve(registration, body=registration.body.replace(b"SendDigest", b"Other")), START)
    names = ["external_job_registration", "external_occurrence_starting", "external_occurrence_completed"]
    for name in names:
        api.take(*message(name), START)

    assert not api.database.jobs
    assert not api.database.occurrences
    assert [complaint.rule for complaint in api.complaints] == [Rule.EXTERNAL] * 3


@pytest.mark.parametrize(
    ("name", "sender"), [("job_dispatch", Sender.DISPATCHER), ("job_dispatch_workflow_step", Sender.WORKFLOW)]
)
def test_a_dispatch_is_written_as_the_api_does(name: str, sender: Sender) -> None:
    """Byte for byte, headers and properties included (WIRE.md 2)."""
    is_workflow = sender is Sender.WORKFLOW
    wanted = vector(name)
    properties = wanted["properties"]
    assert isinstance(properties, dict)
    api = ApiModel()
    job = api.register_job(
        JOB,
        "SendInvoiceJob" if is_workflow else "GenerateReportJob",
        display_name="Send invoice" if is_workflow else "Daily sales report",
        worker_id="report-worker",
        routing_pattern="report-worker.sendinvoice.*" if is_workflow else "report-worker.generatereport.*",
        data='{"amount":99,"title":"Widget"}'
        if is_workflow
        else '{"reportType":"sales","recipients":["ops@example.org"],"year":2026}',
        cron=None if is_workflow else "0 */5 * * * *",
        timeout_seconds=None if is_workflow else 120,
        version=1 if is_workflow else 3,
    )

    made = api.dispatcher.dispatch(job, START, sender=sender, occurrence_id=str(properties["correlation_id"]))

    body = made.body.replace(b"2026-04-02T09:15:01Z", b"2026-04-02T09:15:00Z")  # the vector was due a second before
    assert body.decode() == wanted["body_raw"]
    assert (made.exchange, made.routing_key) == (wanted["exchange"], wanted["routing_key"])
    headers = vector_headers(properties["headers"])
    assert {name: field for name, field in made.headers.items() if name != "ExecuteAt"} == {
        name: field for name, field in headers.items() if name != "ExecuteAt"
    }
    assert made.properties == {name: value for name, value in properties.items() if name != "headers"}
    assert api.occurrence(made.occurrence_id).status == OccurrenceStatus.QUEUED


@pytest.mark.parametrize(
    ("name", "reason"), [("cancellation", "Wrong input file \u2013 stop"), ("cancellation_default_reason", None)]
)
def test_cancelling_ends_the_occurrence_at_once_and_tells_the_worker(name: str, reason: str | None) -> None:
    """Byte for byte; a Completed that comes nevertheless wins (WIRE.md 5.3)."""
    api = taken("status_running")

    assert api.cancel(OCCURRENCE, START + 1, reason) == vector(name)["body_raw"]

    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.CANCELLED
    assert not api.database.running
    completed = stored(api, message("status_completed")[1], now=START + 2)
    assert completed.status == OccurrenceStatus.COMPLETED
    assert completed.exception is None
    api.assert_content()
