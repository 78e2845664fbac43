"""The messages beside those that a .NET external scheduler sends (WIRE.md 15): the same bytes for the same facts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from milvaion_trio.external.job import ExternalJob
from milvaion_trio.external.letters import Letters
from milvaion_trio.external.run import RunEnd, RunStart, cancelled, failed, missed
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import InstanceId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import ExternalEvent
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import HeartbeatSettings, WorkerSettings
from milvaion_trio.model.wire import Dialect

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
GUID = OccurrenceId("019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2")
NOW = Instant.parse("2026-04-02T09:15:00.0000007Z")
FIRED = Instant.parse("2026-04-02T10:00:00.012Z")
OVER = Instant.parse("2026-04-02T10:00:03Z")
JOB = ExternalJob(
    id="DEFAULT.SendDigest",
    name="SendDigest",
    description="Mail digest",
    cron="0 0 * * * ?",
    next_run=datetime(2026, 4, 2, 10, tzinfo=UTC),
    type_name="Acme.Jobs.SendDigest",
)
START = RunStart(job=JOB, occurrence_id=GUID, scheduled_for=datetime(2026, 4, 2, 10, tzinfo=UTC), at=FIRED)


def letters(**settings: Any) -> Letters:
    identity = Identity(
        worker_id=WorkerId("quartz-worker"), instance_id=InstanceId("quartz-worker-77ab01cd"), dialect=Dialect.V1_1
    )
    return Letters(identity, "Quartz", WorkerSettings(**settings), lambda: NOW)


def vector(name: str, **changes: object) -> bytes:
    """The bytes of a vector, in which these members are other ones."""
    stored = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    text: str = stored["body_raw"]
    for member, value in changes.items():
        before = f'"{member}":{json.dumps(stored["body"][member])}'
        assert before in text
        text = text.replace(before, f'"{member}":{json.dumps(value)}')
    return text.encode()


def body(publication: Publication, queue: str) -> bytes:
    assert (publication.exchange, publication.routing_key) == ("", queue)
    return publication.message.body


def test_a_job() -> None:
    told = letters().job(JOB)

    data = rb'"JobData":"{\u0022list\u0022:\u0022daily\u0022}"'  # what runs elsewhere has none here
    expected = vector("external_job_registration")
    assert data in expected
    assert body(told, "external_job_registration_queue") == expected.replace(data, b'"JobData":"{}"')


def test_a_start() -> None:
    told = letters().starting(START)

    expected = vector(
        "external_occurrence_starting",
        ExternalOccurrenceId=None,
        StartTime=FIRED.text,
        MessageTimestamp=FIRED.text,
    )
    assert body(told, "external_job_occurrence_queue") == expected


def test_an_end() -> None:
    end = RunEnd(
        event=ExternalEvent.COMPLETED,
        status=OccurrenceStatus.COMPLETED,
        at=OVER,
        duration_ms=2985,
        result="SendDigest finished",
    )

    told = letters().ended(START, end)

    expected = vector("external_occurrence_completed", MessageTimestamp=OVER.text)
    assert body(told, "external_job_occurrence_queue") == expected


def test_a_failure() -> None:
    """It is an end like any other, with another status."""
    event, status, result, exception = failed(OSError("smtp down"))
    end = RunEnd(event=event, status=status, at=OVER, duration_ms=2985, result=result, exception=exception)

    told = letters().ended(START, end)

    expected = vector("external_occurrence_failed", MessageTimestamp=OVER.text, Exception=exception)
    assert body(told, "external_job_occurrence_queue") == expected


def test_a_veto() -> None:
    event, status, result, _ = missed("Vetoed by a trigger listener")
    end = RunEnd(event=event, status=status, at=Instant.parse("2026-04-02T10:00:00.013Z"), result=result)

    told = letters().ended(START, end)

    expected = vector("external_occurrence_vetoed", MessageTimestamp="2026-04-02T10:00:00.013Z")
    assert body(told, "external_job_occurrence_queue") == expected


def test_a_cancellation_has_its_own_event() -> None:
    event, status, result, _ = cancelled("Deleted in the scheduler")

    theirs = json.loads(vector("external_occurrence_cancelled"))

    assert (int(event), int(status), result) == (theirs["EventType"], theirs["Status"], theirs["Result"])


def test_the_registration_of_the_scheduler() -> None:
    """All that is not the machine's is as in .NET."""
    told = letters(heartbeat=HeartbeatSettings(interval=5)).registration([JOB])

    ours = json.loads(body(told, "worker_registration_queue"))
    theirs = json.loads(vector("worker_registration_external"))
    of_machines = {"HostName", "IpAddress", "MaxParallelJobs", "Version", "Metadata"}
    assert list(ours) == list(theirs)
    assert {name: ours[name] for name in ours.keys() - of_machines} == {
        name: theirs[name] for name in theirs.keys() - of_machines
    }
    our_metadata, their_metadata = json.loads(ours["Metadata"]), json.loads(theirs["Metadata"])
    assert list(our_metadata) == list(their_metadata)
    for name in ("IsExternal", "ExternalScheduler", "HeartbeatInterval"):
        assert our_metadata[name] == their_metadata[name]


def test_a_heartbeat_names_no_job() -> None:
    """Its id is the server's; another one would stay among its running jobs for ever."""
    told = json.loads(body(letters().heartbeat(GUID), "job_status_updates_queue"))

    present = {name: value for name, value in told.items() if value is not None}
    assert present == {
        "OccurrenceId": GUID,
        "CorrelationId": GUID,
        "JobId": "00000000-0000-0000-0000-000000000000",
        "WorkerId": "quartz-worker",
        "InstanceId": "quartz-worker-77ab01cd",
        "Status": 1,
        "MessageTimestamp": NOW.text,
    }
