"""Every example message of WIRE.md 2, 3 and 5.3 is read and written back byte for byte."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

from milvaion_trio.model import wire
from milvaion_trio.model.wire import Casing, Dialect

VECTORS = Path(__file__).parent / "vectors"
NO_MESSAGES = {"serializer_facts", "schema_cases", "health_endpoints"}

JOBS = ["job_dispatch", "job_dispatch_empty_data", "job_dispatch_manual_trigger", "job_dispatch_workflow_step"]
JOBS_1_0 = ["job_dispatch_legacy_1_0"]
RETRIES = ["job_retry_republish"]
RAW_DEAD_LETTERS = ["dlq_broker_dead_letter"]
DEAD_LETTERS = ["dlq_max_retries", "dlq_permanent"]
STATUSES = [
    "status_cancelled",
    "status_completed",
    "status_completed_default_result",
    "status_failed_max_retries",
    "status_failed_permanent",
    "status_failed_unknown_job",
    "status_heartbeat",
    "status_running",
    "status_synced_from_local_store",
    "status_timed_out",
]
STATUSES_1_0 = ["status_running_legacy_1_0"]
LOG_BATCHES = ["log_batch", "log_batch_system_entries"]
SINGLE_LOGS = ["log_single"]
SINGLE_LOGS_1_0 = ["log_single_legacy_1_0"]
HEARTBEATS = ["worker_heartbeat", "worker_heartbeat_stopping"]
HEARTBEATS_1_0 = ["worker_heartbeat_legacy_1_0"]
REGISTRATIONS = ["worker_registration", "worker_registration_external"]
REGISTRATIONS_1_0 = ["worker_registration_legacy_1_0"]
CANCELLATIONS = ["cancellation", "cancellation_default_reason"]
EXTERNAL_REGISTRATIONS = ["external_job_registration", "external_job_registration_inactive"]
EXTERNAL_OCCURRENCES = [
    "external_occurrence_cancelled",
    "external_occurrence_completed",
    "external_occurrence_failed",
    "external_occurrence_starting",
    "external_occurrence_vetoed",
]

T = TypeVar("T")

GUID = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"


def raw(name: str) -> bytes:
    text: str = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["body_raw"]
    return text.encode()


def without(body: bytes, *members: str) -> bytes:
    """The body without members that we write in addition; each stands in it exactly once."""
    for member in members:
        assert body.count(member.encode()) == 1, member
        body = body.replace(member.encode(), b"")
    return body


def test_no_vector_is_left_out() -> None:
    covered = {
        name
        for key, names in globals().items()
        if key.isupper() and isinstance(names, list)
        for name in names
        if isinstance(name, str)
    }
    assert covered | NO_MESSAGES == {path.stem for path in VECTORS.glob("*.json")}


@pytest.mark.parametrize("name", JOBS)
def test_dispatch_is_written_as_the_dispatcher_does(name: str) -> None:
    assert wire.encode_job(wire.decode_job(raw(name)), Casing.CAMEL) == raw(name)


@pytest.mark.parametrize("name", JOBS_1_0)
def test_dispatch_of_1_0_gets_only_the_member_that_came_later(name: str) -> None:
    written = wire.encode_job(wire.decode_job(raw(name)), Casing.CAMEL)

    assert without(written, '"isExternal":false,') == raw(name)


@pytest.mark.parametrize("name", RETRIES)
def test_retry_copy_is_written_as_a_net_worker_does(name: str) -> None:
    assert wire.encode_job(wire.decode_job(raw(name)), Casing.PASCAL) == raw(name)


def test_both_casings_of_a_job_are_read_alike() -> None:
    """A dispatch and the retry copy made from it are the same job."""
    assert wire.decode_job(raw("job_dispatch")) == wire.decode_job(raw("job_retry_republish"))


@pytest.mark.parametrize("name", JOBS + JOBS_1_0 + RETRIES + RAW_DEAD_LETTERS)
@pytest.mark.parametrize("casing", Casing)
def test_job_survives_being_written_in_either_casing(name: str, casing: Casing) -> None:
    job = wire.decode_job(raw(name))

    assert wire.decode_job(wire.encode_job(job, casing)) == job


@pytest.mark.parametrize("name", DEAD_LETTERS)
def test_dead_letter(name: str) -> None:
    assert wire.encode_dead_letter(wire.decode_dead_letter(raw(name))) == raw(name)


@pytest.mark.parametrize("name", RAW_DEAD_LETTERS)
def test_raw_dead_letter_is_read_as_a_job_without_outcome(name: str) -> None:
    letter = wire.decode_dead_letter(raw(name))

    assert (letter.job_name_in_worker, letter.status, letter.exception) == ("GenerateReportJob", 0, None)


@pytest.mark.parametrize("name", STATUSES)
def test_status_has_one_more_name_for_the_occurrence(name: str) -> None:
    """Statuses carry `OccurrenceId` and `CorrelationId` for both generations (DESIGN.md 5)."""
    written = wire.encode_status(wire.decode_status(raw(name)))

    assert without(written, f'"CorrelationId":"{GUID}",') == raw(name)


@pytest.mark.parametrize("name", STATUSES_1_0)
def test_status_of_1_0_has_two_more_members(name: str) -> None:
    written = wire.encode_status(wire.decode_status(raw(name)), Dialect.V1_0)

    assert without(written, f'"OccurrenceId":"{GUID}",', '"InstanceId":"report-worker-5f0c2a9b",') == raw(name)


def test_status_for_1_0_names_the_instance_as_worker() -> None:
    written = wire.encode_status(wire.decode_status(raw("status_running")), Dialect.V1_0)

    extra = (f'"OccurrenceId":"{GUID}",', '"InstanceId":"report-worker-5f0c2a9b",')
    assert without(written, *extra) == raw("status_running_legacy_1_0")


@pytest.mark.parametrize("name", LOG_BATCHES)
def test_log_batch(name: str) -> None:
    batch = wire.decode_logs(raw(name))

    assert wire.encode_logs(batch.logs, batch.batch_timestamp) == [raw(name)]


@pytest.mark.parametrize(
    ("names", "extra"),
    [
        pytest.param(SINGLE_LOGS, "CorrelationId", id="as 1.1 reads it"),
        pytest.param(SINGLE_LOGS_1_0, "OccurrenceId", id="as 1.0 writes it"),
    ],
)
def test_single_log_carries_both_names_of_the_occurrence(names: list[str], extra: str) -> None:
    for name in names:
        batch = wire.decode_logs(raw(name))

        [written] = wire.encode_logs(batch.logs, batch.batch_timestamp, Dialect.V1_0)

        assert without(written, f'"{extra}":"{GUID}",') == raw(name)


def test_batch_becomes_single_messages_for_1_0() -> None:
    batch = wire.decode_logs(raw("log_batch"))

    messages = wire.encode_logs(batch.logs, batch.batch_timestamp, Dialect.V1_0)

    assert [wire.decode_logs(message).logs for message in messages] == [(record,) for record in batch.logs]


@pytest.mark.parametrize("name", HEARTBEATS)
def test_worker_heartbeat(name: str) -> None:
    assert wire.encode_heartbeat(wire.decode_heartbeat(raw(name))) == raw(name)


@pytest.mark.parametrize("name", HEARTBEATS_1_0)
def test_worker_heartbeat_of_1_0_has_one_more_member(name: str) -> None:
    written = wire.encode_heartbeat(wire.decode_heartbeat(raw(name)))

    assert without(written, ',"IsStopping":false') == raw(name)


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_registration(name: str) -> None:
    assert wire.encode_registration(wire.decode_registration(raw(name))) == raw(name)


@pytest.mark.parametrize("name", REGISTRATIONS_1_0)
def test_registration_of_1_0_has_one_more_member_in_its_metadata(name: str) -> None:
    """The heartbeat interval: a newer API would drop the instance every 30 s without it."""
    written = wire.encode_registration(wire.decode_registration(raw(name)), Dialect.V1_0)

    assert without(written, r"\u0022HeartbeatInterval\u0022:0,") == raw(name)


@pytest.mark.parametrize(
    ("names", "decode", "encode"),
    [
        pytest.param(CANCELLATIONS, wire.decode_cancellation, wire.encode_cancellation, id="cancellation"),
        pytest.param(
            EXTERNAL_REGISTRATIONS,
            wire.decode_external_registration,
            wire.encode_external_registration,
            id="external registration",
        ),
        pytest.param(
            EXTERNAL_OCCURRENCES,
            wire.decode_external_occurrence,
            wire.encode_external_occurrence,
            id="external occurrence",
        ),
    ],
)
def test_message_without_dialects(
    names: Iterable[str], decode: Callable[[bytes], T], encode: Callable[[T], bytes]
) -> None:
    for name in names:
        assert encode(decode(raw(name))) == raw(name)
