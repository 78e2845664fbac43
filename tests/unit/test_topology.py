"""Names of queues and keys are those that the API and .NET workers derive (WIRE.md 1)."""

import json
from pathlib import Path

import pytest

from milvaion_trio.model import topology
from milvaion_trio.model.topology import JOB_QUEUE_ARGUMENTS, queue_name, routing_key, routing_pattern

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"


@pytest.mark.parametrize(
    ("worker_id", "job_name", "pattern"),
    [
        ("report-worker", "GenerateReportJob", "report-worker.generatereport.*"),
        ("Report-Worker", "GenerateReport", "report-worker.generatereport.*"),
        ("w", "SendJOB", "w.send.*"),
        ("w", "JobRunner", "w.jobrunner.*"),
        ("w", "JobJob", "w.job.*"),
        ("w", "Job", "w..*"),
        ("w", "İŞJob", "w.İş.*"),
        ("w", "ΟΔΟΣ", "w.οδοσ.*"),
    ],
)
def test_pattern_is_made_from_worker_and_job(worker_id: str, job_name: str, pattern: str) -> None:
    """Lower case is .NET's invariant one, which looks at each character alone."""
    assert routing_pattern(worker_id, job_name) == pattern


@pytest.mark.parametrize(
    ("pattern", "queue", "key"),
    [
        (
            "report-worker.generatereport.*",
            "scheduled_jobs_queue.report-worker.generatereport.wildcard",
            "report-worker.generatereport.job",
        ),
        ("a.*.*", "scheduled_jobs_queue.a.wildcard.wildcard", "a.job.job"),
        ("a.#", "scheduled_jobs_queue.a.all", "a.#"),
        ("w..*", "scheduled_jobs_queue.w..wildcard", "w.job"),
        ("plain", "scheduled_jobs_queue.plain", "plain"),
        ("a....b", "scheduled_jobs_queue.a....b", "a..b"),
    ],
)
def test_queue_and_key_are_made_from_the_pattern(pattern: str, queue: str, key: str) -> None:
    assert queue_name(pattern) == queue
    assert routing_key(pattern) == key


@pytest.mark.parametrize("name", ["job_dispatch", "job_dispatch_empty_data", "job_dispatch_workflow_step"])
def test_dispatches_go_where_we_expect_them(name: str) -> None:
    vector = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    pattern = vector["body"]["routingPattern"]

    assert vector["exchange"] == topology.JOBS_EXCHANGE
    assert vector["routing_key"] == routing_key(pattern)
    assert vector["queue"] == queue_name(pattern)
    assert pattern == routing_pattern(vector["body"]["workerId"], vector["body"]["jobNameInWorker"])


@pytest.mark.parametrize(
    ("name", "exchange", "key", "queue"),
    [
        ("status_running", "", topology.STATUS_QUEUE, topology.STATUS_QUEUE),
        ("log_batch", "", topology.LOGS_QUEUE, topology.LOGS_QUEUE),
        ("worker_registration", "", topology.REGISTRATION_QUEUE, topology.REGISTRATION_QUEUE),
        ("worker_heartbeat", "", topology.HEARTBEAT_QUEUE, topology.HEARTBEAT_QUEUE),
        ("dlq_permanent", topology.DEAD_LETTER_EXCHANGE, topology.DEAD_LETTER_KEY, topology.FAILED_QUEUE),
        (
            "external_job_registration",
            "",
            topology.EXTERNAL_REGISTRATION_QUEUE,
            topology.EXTERNAL_REGISTRATION_QUEUE,
        ),
        (
            "external_occurrence_starting",
            "",
            topology.EXTERNAL_OCCURRENCE_QUEUE,
            topology.EXTERNAL_OCCURRENCE_QUEUE,
        ),
    ],
)
def test_messages_go_where_the_api_expects_them(name: str, exchange: str, key: str, queue: str) -> None:
    vector = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))

    assert (vector["exchange"], vector["routing_key"], vector["queue"]) == (exchange, key, queue)


def test_external_jobs_share_one_pattern() -> None:
    patterns = json.loads((VECTORS / "worker_registration_external.json").read_text("utf-8"))["body"]["RoutingPatterns"]

    assert set(patterns.values()) == {topology.EXTERNAL_PATTERN}


def test_job_queues_have_exactly_these_arguments() -> None:
    """Any other makes the second declarer fail (WIRE.md 1.2)."""
    assert JOB_QUEUE_ARGUMENTS == {
        "x-dead-letter-exchange": "dlx_scheduled_jobs",
        "x-dead-letter-routing-key": "failed_jobs",
    }
