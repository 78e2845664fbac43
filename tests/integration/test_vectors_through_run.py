"""Milvaion's example dispatches, byte for byte, into `milvaion-trio run` with the readme's settings file.

The API at the other end is played (`api_model`); servers, process and command line are real.
"""

import json
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import frozen
from tests.support.amqp import connect
from tests.support.amqp_vectors import publish_vector, vector
from tests.support.api_model import ApiSettings, Generation, OccurrenceStatus, Rule
from tests.support.api_model.database import LogRow, Occurrence
from tests.support.api_model.messages import Status, read_logs
from tests.support.api_model.net_values import NetDate
from tests.support.api_model.registration_rules import read_metadata
from tests.support.api_model.worker_registry import Gone
from tests.support.cluster import Cluster, RunningWorker, cluster, running
from tests.support.queues import left_in

from milvaion_trio.model.topology import queue_name

TARGET: Final = "tests.integration.cluster_worker:worker"
QUEUED, RUNNING, COMPLETED = OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED

PATTERNS: Final = {
    "SendEmailJob": "sendemail.*",
    "GenerateReportJob": "report-worker.generatereport.*",
    "SendInvoiceJob": "report-worker.sendinvoice.*",
}
JOB: Final = "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
"""The job of every example."""
EMAIL: Final = "0199aaaa-0000-7000-8000-00000000e3a1"
"""The occurrence of `SendEmailJob`."""
CLOCK: Final = 0.002
"""Seconds: dates of the wire are cut to the microsecond, durations rounded to the millisecond."""


@frozen
class Ran:
    """What a job told of itself, and returned."""

    result: str
    given: Mapping[str, object]
    attempt: int = 1


_SALES: Final = {"report_type": "sales", "recipients": ["ops@example.org"], "year": 2026, "note": ""}
_NOTE: Final = {"report_type": "sales", "recipients": [], "year": 2025, "note": "résumé & more"}
_EMAIL: Final = {"recipients": ["ops@example.org"], "subject": "Hello"}

DISPATCHES: Final = {
    "job_dispatch": (
        Ran('{"Type":"sales","Year":2026,"Note":""}', _SALES),
        Ran("sent <Hello> to 1", _EMAIL),
    ),
    "job_dispatch_manual_trigger": (
        Ran('{"Type":"sales","Year":2025,"Note":"r\\u00E9sum\\u00E9 \\u0026 more"}', _NOTE),
        Ran("sent <Hello> to 0", {"recipients": [], "subject": "Hello"}),
    ),
    "job_dispatch_workflow_step": (
        Ran("99", {"amount": 99, "title": "Widget"}),
        Ran("sent <Hello> to 0", {"recipients": [], "subject": "Hello"}),
    ),
    "job_dispatch_legacy_1_0": (
        Ran('{"Type":"sales","Year":2026,"Note":""}', _SALES),
        Ran("sent <Hello> to 1", _EMAIL),
    ),
    "job_retry_republish": (
        Ran('{"Type":"sales","Year":2026,"Note":""}', _SALES, attempt=2),
        Ran("sent <Hello> to 1", _EMAIL, attempt=2),
    ),
}
"""What becomes of each as it is, and as `SendEmailJob`."""


def for_send_email(example: Mapping[str, object], job_id: str) -> Mapping[str, object]:
    """The example with nothing changed but names, ids and routing."""
    text = json.dumps(example)
    for old, new in {
        "report-worker.generatereport": "sendemail",
        "report-worker.sendinvoice": "sendemail",
        "report-worker": "email-worker",
        "GenerateReportJob": "SendEmailJob",
        "SendInvoiceJob": "SendEmailJob",
        JOB: job_id,
        occurrence_of(example): EMAIL,
    }.items():
        text = text.replace(old, new)
    changed: Mapping[str, object] = json.loads(text)
    return changed


def occurrence_of(example: Mapping[str, Any]) -> str:
    return str(json.loads(example["body_raw"]).get("OccurrenceId") or example["properties"]["correlation_id"])


def job_name_of(example: Mapping[str, Any]) -> str:
    body = json.loads(example["body_raw"])
    return str(body.get("jobNameInWorker") or body["JobNameInWorker"])


@asynccontextmanager
async def run_in(folder: Path, c: Cluster, **settings: object) -> AsyncIterator[RunningWorker]:
    """`milvaion-trio run`, registered; what it told is part of any failure."""
    async with running(TARGET, c.write_appsettings(folder, **settings), cwd=folder) as run:
        try:
            await c.api.until(lambda: c.api.model.workers and c.api.model.registry.heartbeats)
            yield run
        except BaseException as error:
            error.add_note(f"The worker told:\n{run.told}")
            raise


@pytest.mark.parametrize(
    ("name", "generation"),
    [*((name, Generation.V1_1) for name in DISPATCHES), ("job_dispatch_legacy_1_0", Generation.V1_0)],
)
async def test_a_dispatch_byte_for_byte(name: str, generation: Generation, tmp_path: Path) -> None:
    """Queued, Running, Completed with its logs; the worker registered and alive, and gone after its goodbye.

    The example goes to the job that it names, and with other names and ids to the readme's `SendEmailJob`.
    """
    is_by_net = name == "job_retry_republish"  # the first attempt ran in a .NET worker
    settings = {"Wire": "1.0"} if generation is Generation.V1_0 else {}
    with trio.fail_after(60):
        async with (
            cluster(api_settings=ApiSettings(generation=generation, log_interval=0.1)) as c,
            connect(c.rabbitmq.port, c.vhost) as client,
            run_in(tmp_path, c, **settings) as run,
        ):
            api, began = c.api, time.time()
            instance = judge_registration(c, generation)
            example = vector(name)
            job = api.create_job("SendEmailJob", display_name="Daily sales report")
            api.model.register_job(JOB, str(job_name_of(example)), display_name="Daily sales report")
            ids = {occurrence_of(example): JOB, EMAIL: job.id}
            for occurrence_id, job_id in ids.items():
                api.model.queued(occurrence_id, job_id, began)
            if is_by_net:
                for message in (vector("status_running"), for_send_email(vector("status_running"), job.id)):
                    await publish_vector(client, message)
                await api.until(lambda: all(api.occurrence(each).status == RUNNING for each in ids))

            for message in (example, for_send_email(example, job.id)):
                assert await publish_vector(client, message)
            worker = api.model.workers["email-worker"]
            await api.until(lambda: worker.current_jobs > 0)
            await api.until(
                lambda: all(api.occurrence(each).logs and api.occurrence(each).status == RUNNING for each in ids)
            )
            assert api.model.database.running == {JOB, job.id}
            for queue in map(queue_name, PATTERNS.values()):
                assert await client.declare_queue(queue, passive=True) == (0, 1)

            (tmp_path / "go").touch()
            await api.until_ended(*ids)
            await api.until(lambda: worker.current_jobs == 0)
            assert not api.model.registry.departures

            assert await run.stop() == 0
            await api.until(lambda: api.model.registry.departures)
            await api.until_idle()
            judge_departure(c, instance)
            assert [line for line in run.told.splitlines() if " INFO " not in line] == []
            assert await left_in(client, map(queue_name, PATTERNS.values())) == {}
            for occurrence_id, expected in zip(ids, DISPATCHES[name], strict=True):
                judge(api.occurrence(occurrence_id), expected, generation, instance, began, is_by_net=is_by_net)
            assert {note.rule for note in api.model.notes} == (
                {Rule.NO_MESSAGE_ID, Rule.NOT_PERSISTENT} if is_by_net else set()  # as .NET sends
            )


# --- what the API has to know of it ---------------------------------------------------------------------------------


def judge_registration(c: Cluster, generation: Generation) -> str:
    """Everything that jobs are created and dispatched with (WIRE.md 3.6); returns the instance's id."""
    worker = c.api.model.workers["email-worker"]
    (instance,) = worker.instances.values()
    registration = worker.registration
    assert re.fullmatch(r"email-worker-[0-9a-f]{8}", instance.id)
    assert (registration.instance_id, registration.display_name) == (instance.id, f"email-worker ({instance.id})")
    assert registration.host_name == socket.gethostname()
    assert registration.ip_address
    assert sorted(registration.job_types) == sorted(PATTERNS)
    assert registration.routing_patterns == PATTERNS
    assert registration.max_parallel_jobs == 5
    assert registration.version == version("milvaion-trio")
    assert {name: properties(text) for name, text in registration.data_definitions.items()} == {
        "SendEmailJob": {"recipients": "array", "subject": "string"},
        "GenerateReportJob": {"reportType": "string", "recipients": "array", "year": "integer", "note": "string"},
        "SendInvoiceJob": {"amount": "integer", "title": "string"},
    }

    metadata = read_metadata(registration.metadata)
    assert (metadata.heartbeat_interval, metadata.is_external) == (30, False)
    configs = {config.job_type: config for config in metadata.job_configs}
    assert configs.keys() == PATTERNS.keys()
    email = configs["SendEmailJob"]
    assert (email.consumer_id, email.max_parallel_jobs, email.execution_timeout_seconds) == (
        "sendemail-consumer",
        3,
        300,
    )
    assert (instance.current_jobs, worker.registrations) == (0, 1)
    assert abs(instance.last_heartbeat - time.time()) < 20
    return instance.id


def properties(schema: str) -> dict[str, str]:
    return {name: described["type"] for name, described in json.loads(schema)["properties"].items()}


def judge_departure(c: Cluster, instance: str) -> None:
    """Gone by its own goodbye, not by a sweep."""
    departures = c.api.model.registry.departures
    assert [(gone.instance_id, gone.why) for gone in departures] == [(instance, Gone.GOODBYE)]
    assert c.api.model.registry.read("email-worker") is None


def judge(
    occurrence: Occurrence, expected: Ran, generation: Generation, instance: str, began: float, *, is_by_net: bool
) -> None:
    """Statuses in their order, with their times and senders, and logs (WIRE.md 3.1, 3.3)."""
    group = instance if generation is Generation.V1_0 else "email-worker"  # WIRE.md 14
    assert occurrence.history == [QUEUED, RUNNING, COMPLETED]
    assert occurrence.result == expected.result
    assert (occurrence.worker_id, occurrence.exception) == (group, None)

    running, completed = [status for status in occurrence.wire if status.instance_id == instance]
    assert len(occurrence.messages) == (3 if is_by_net else 2)
    assert [running.status, completed.status] == [RUNNING, COMPLETED]
    assert {running.worker_id, completed.worker_id} == {group}
    judge_times(running, completed, began)
    assert occurrence.duration_ms == completed.duration_ms

    assert [(row.level, row.message, row.category) for row in occurrence.logs] == [
        ("Information", "started", "UserCode"),
        ("Warning", "seen <go> & ready, \u00dcsk\u00fcdar \U0001f600", "UserCode"),
    ]
    assert occurrence.logs[0].data == {"attempt": expected.attempt, "given": expected.given}
    assert {logger_of(row, generation) for row in occurrence.logs} == {instance}
    started, seen = (row.timestamp.unix for row in occurrence.logs)
    assert moment(running.start_time) <= started < seen <= moment(completed.end_time) + CLOCK


def judge_times(running: Status, completed: Status, began: float) -> None:
    start, end = moment(running.start_time), moment(completed.end_time)
    assert completed.start_time == running.start_time
    assert began <= start < end <= time.time()
    assert {running.end_time, running.duration_ms, running.result, running.exception} == {None}
    assert completed.duration_ms == pytest.approx((end - start) * 1000, abs=1000 * CLOCK)
    assert start - CLOCK <= running.message_timestamp.unix <= completed.message_timestamp.unix <= time.time()
    assert completed.message_timestamp.unix >= end - CLOCK


def moment(date: NetDate | None) -> float:
    assert date is not None
    return date.unix


def logger_of(row: LogRow, generation: Generation) -> str | None:
    """The sender that the entry names: the instance, in both generations."""
    (worker_id,) = {
        record.worker_id
        for record in read_logs(row.wire.body, generation.value, batches=generation is Generation.V1_1).records
    }
    return worker_id
