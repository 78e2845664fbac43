"""What the vectors do not show: strict types, .NET's defaults, and the rules that keep the API alive."""

import json
from typing import Any

import attrs
import pytest

from milvaion_trio.model import wire
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.messages import (
    EMPTY_GUID,
    AutoDisableSettings,
    Cancellation,
    DeadLetter,
    JobMessage,
    LogBatch,
    LogEntry,
    LogLevel,
    LogRecord,
    StatusUpdate,
    WorkerMetadata,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import MAX_EXCEPTION, MAX_LOG_MESSAGE, MAX_RESULT
from milvaion_trio.model.wire import Casing, Dialect

JOB = JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077")
OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
NOW = Instant.parse("2026-04-02T09:15:30.1234567Z")

STATUS = StatusUpdate(
    occurrence_id=OCCURRENCE,
    job_id=JOB,
    worker_id=WorkerId("report-worker"),
    instance_id=InstanceId("report-worker-5f0c2a9b"),
    status=OccurrenceStatus.RUNNING,
    message_timestamp=NOW,
)
LETTER = DeadLetter(
    id=JOB,
    display_name="Daily sales report",
    job_name_in_worker="GenerateReportJob",
    job_data=None,
    execute_at=NOW,
    status=OccurrenceStatus.FAILED,
    exception="boom",
)


def record(message: str = "hello", data: dict[str, JsonValue] | None = None) -> LogRecord:
    entry = LogEntry(timestamp=NOW, level=LogLevel.WARNING, message=message, data=data, category="UserCode")
    return LogRecord(
        occurrence_id=OCCURRENCE, worker_id=InstanceId("report-worker-5f0c2a9b"), log=entry, message_timestamp=NOW
    )


def body(**members: JsonValue) -> bytes:
    return json.dumps(members).encode()


def parsed(message: bytes) -> Any:
    return json.loads(message)


# --- reading --------------------------------------------------------------------------------------------------------


def test_names_are_read_in_any_case() -> None:
    job = wire.decode_job(body(ID=JOB, jobnameinworker="A", EXECUTIONTimeoutSeconds=5))

    assert job == JobMessage(id=JOB, job_name_in_worker="A", execution_timeout_seconds=5)


def test_python_names_are_unknown_members() -> None:
    assert wire.decode_job(body(id=JOB, display_name="x")).display_name is None


def test_absent_members_take_the_defaults_of_net() -> None:
    assert wire.decode_job(b"{}") == JobMessage(id=JobId(EMPTY_GUID), job_name_in_worker="", execute_at=MINIMUM)
    assert wire.decode_status(b"{}").status is OccurrenceStatus.QUEUED
    assert wire.decode_external_registration(b"{}").is_active


def test_guids_become_lower_case() -> None:
    assert wire.decode_job(body(id=JOB.upper())).id == JOB


def test_status_without_a_name_stays_a_number() -> None:
    known, unknown = wire.decode_status(body(status=5)).status, wire.decode_status(body(status=99)).status

    assert known is OccurrenceStatus.TIMED_OUT
    assert type(unknown) is int
    assert unknown == 99


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"jobData": {"a": 1}}, r"jobData is \{'a': 1\}, but must be a text"),
        ({"Version": 3.0}, r"Version is 3.0, but must be an integer of 32 bits"),
        ({"version": True}, r"version is True, but must be an integer"),
        ({"version": 2**31}, r"version is 2147483648, but must be an integer of 32 bits"),
        ({"isActive": 1}, r"isActive is 1, but must be true or false"),
        ({"isActive": None}, r"isActive is None, but must be true or false"),
        ({"executeAt": None}, r"executeAt is None, but must be a date"),
        ({"executeAt": "soon"}, r"executeAt is 'soon', but must be a date like 2026"),
        ({"jobVersions": ["a", 2]}, r"jobVersions\[1\] is 2, but must be a text"),
        ({"autoDisableSettings": {"threshold": "5"}}, r"autoDisableSettings\.threshold is '5', but must be an integer"),
        ({"tags": ["a" * 100]}, r"tags is \['a{50,60}\.\.\., but must be a text"),
        ({"Tags": "a", "tags": "b"}, r"names differ in more than their case"),
    ],
)
def test_misfits_are_named_with_their_path(members: dict[str, JsonValue], problem: str) -> None:
    with pytest.raises(InvalidMessage, match=f"^job message: .*{problem}"):
        wire.decode_job(body(id=JOB, **members))


def test_path_leads_into_batches() -> None:
    batch = {"Logs": [{"Log": {"Message": "a"}}, {"Log": {"Message": 1}}]}

    with pytest.raises(InvalidMessage, match=r"^logs: Logs\[1\]\.Log\.Message is 1"):
        wire.decode_logs(json.dumps(batch).encode())


def test_durations_have_64_bits() -> None:
    assert wire.decode_status(body(durationMs=2**40)).duration_ms == 2**40


def test_entries_without_a_log_are_left_out() -> None:
    """As the API does: `{"Logs":[]}` is a single entry with nothing in it (WIRE.md 3.3)."""
    assert wire.decode_logs(b'{"Logs":[]}') == LogBatch(logs=())
    assert wire.decode_logs(b"{}") == LogBatch(logs=())
    assert wire.decode_logs(b'{"Logs":[{"Log":null}]}') == LogBatch(logs=())


def test_names_in_log_data_may_differ_in_case_only() -> None:
    """They are the user's, and no member of a message."""
    [message] = wire.encode_logs([record(data={"a": 1, "A": 2})], NOW)

    assert wire.decode_logs(message).logs[0].log.data == {"a": 1, "A": 2}


def test_metadata_is_read_in_exact_case_only() -> None:
    registration = wire.decode_registration(body(Metadata='{"heartbeatInterval":5,"ProcessorCount":8}'))

    assert registration.metadata == WorkerMetadata(processor_count=8)


@pytest.mark.parametrize("metadata", ["", "no json", "[]", '{"HeartbeatInterval":"5"}'])
def test_broken_metadata_is_refused(metadata: str) -> None:
    """It would make reading any worker list fail on the API (WIRE.md 3.6)."""
    with pytest.raises(InvalidMessage, match="Metadata"):
        wire.decode_registration(body(Metadata=metadata))


@pytest.mark.parametrize(
    "members",
    [
        {"OccurrenceId": OCCURRENCE, "CorrelationId": JOB},
        {"occurrenceid": OCCURRENCE.upper()},
        {"correlationId": OCCURRENCE, "OccurrenceId": "junk"},
        {"CorrelationId": OCCURRENCE, "JobId": 7, "Reason": ["x"]},
    ],
)
def test_cancellation_needs_nothing_but_one_guid(members: dict[str, JsonValue]) -> None:
    assert wire.decode_cancellation(body(**members)).occurrence_id == OCCURRENCE


@pytest.mark.parametrize(
    "junk", [b"", OCCURRENCE.encode(), f'"{OCCURRENCE}"'.encode(), b"{}", body(OccurrenceId=EMPTY_GUID)]
)
def test_cancellation_without_a_guid_is_refused(junk: bytes) -> None:
    with pytest.raises(InvalidMessage):
        wire.decode_cancellation(junk)


# --- writing --------------------------------------------------------------------------------------------------------


def test_texts_are_cleaned_and_cut() -> None:
    """RELIABILITY.md 2.6, W5."""
    message = parsed(
        wire.encode_status(
            attrs.evolve(STATUS, result="r" * MAX_RESULT + "\0", exception="\ud800" + "e" * MAX_EXCEPTION)
        )
    )

    assert len(message["Result"].encode()) <= MAX_RESULT
    assert len(message["Exception"].encode()) <= MAX_EXCEPTION
    assert message["Exception"].startswith("\ufffde")
    assert message["Exception"].endswith("bytes cut]")


def test_worker_id_fits_the_column_of_the_api() -> None:
    """A longer one would stop the handling of all statuses (WIRE.md 13.2, A2)."""
    long = attrs.evolve(STATUS, worker_id=WorkerId("w" * 101), instance_id=InstanceId("i" * 110))

    assert len(parsed(wire.encode_status(long))["WorkerId"]) == 100
    assert len(parsed(wire.encode_status(long, Dialect.V1_0))["WorkerId"]) == 100
    assert len(parsed(wire.encode_status(long, Dialect.V1_0))["InstanceId"]) == 110


def test_log_entries_survive_whatever_their_data_is() -> None:
    deep: JsonValue = "bottom"
    for _ in range(100):
        deep = [deep]
    wild = record(
        "m" * 10_000, {"nan": float("nan"), "big": 2**64, "text": "a\0b", "deep": deep, "\ud800": "x" * 10_000}
    )

    [message] = wire.encode_logs([wild], NOW)
    log = wire.decode_logs(message).logs[0].log

    assert len(log.message) <= MAX_LOG_MESSAGE
    assert log.data is not None
    assert log.data["nan"] == "nan"
    assert log.data["big"] == str(2**64)
    assert log.data["text"] == "a\ufffdb"
    assert len(str(log.data["\ufffd"])) <= MAX_LOG_MESSAGE


def test_no_entries_make_no_message() -> None:
    assert wire.encode_logs([], NOW) == []
    assert wire.encode_logs([], NOW, Dialect.V1_0) == []


def test_job_data_is_never_cut() -> None:
    data = json.dumps("x" * 1_000_000)
    job = JobMessage(id=JOB, job_name_in_worker="A", job_data=data)

    assert wire.decode_job(wire.encode_job(job)).job_data == data


def test_nested_members_follow_the_casing_of_their_job() -> None:
    job = JobMessage(id=JOB, job_name_in_worker="A", auto_disable_settings=AutoDisableSettings(threshold=3))

    assert b'"autoDisableSettings":{"consecutiveFailureCount":0,"threshold":3}' in wire.encode_job(job, Casing.CAMEL)
    assert b'"LastFailureTime":null,' in wire.encode_job(job, Casing.PASCAL)


def test_plain_numbers_are_written_for_enums() -> None:
    assert b'"Status":1,' in wire.encode_status(STATUS)
    assert b'"Status":99,' in wire.encode_status(attrs.evolve(STATUS, status=99))


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_dead_letter_without_data_has_null(nothing: str | None) -> None:
    """An empty text hangs the API's handler (WIRE.md 4.5)."""
    assert parsed(wire.encode_dead_letter(attrs.evolve(LETTER, job_data=nothing)))["JobData"] is None


@pytest.mark.parametrize("data", ['{"b": 1,  "a": [1.50]}', "null", "7", r'"\t"'])
def test_dead_letter_keeps_valid_data_as_it_is(data: str) -> None:
    assert parsed(wire.encode_dead_letter(attrs.evolve(LETTER, job_data=data)))["JobData"] == data


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("not json", "not json"),
        ("{", "{"),
        ("[NaN]", "[NaN]"),
        ("a\0b", "a\ufffdb"),
        (r'{"a":"x\u0000y\\u0000"}', {"a": "x\ufffdy\\u0000"}),
        (r'["\ud800"]', ["\ufffd"]),
    ],
)
def test_dead_letter_data_always_fits_a_jsonb_column(data: str, value: JsonValue) -> None:
    """PostgreSQL refuses what is no JSON, and in JSON the escapes of NUL and lone surrogates."""
    stored = parsed(wire.encode_dead_letter(attrs.evolve(LETTER, job_data=data)))["JobData"]

    assert json.loads(stored) == value


def test_dead_letter_data_that_is_mended_keeps_its_numbers() -> None:
    data = r'{"name":"\u0000","amount":0.12345678901234567890}'
    stored = parsed(wire.encode_dead_letter(attrs.evolve(LETTER, job_data=data)))["JobData"]

    assert stored == r'{"name":"\uFFFD","amount":0.12345678901234567890}'


def test_dead_letter_names_fit_their_columns() -> None:
    long = attrs.evolve(LETTER, display_name="d" * 201, job_name_in_worker="j" * 201)
    nameless = attrs.evolve(LETTER, display_name=None)

    assert parsed(wire.encode_dead_letter(long))["DisplayName"] == "d" * 200
    assert parsed(wire.encode_dead_letter(long))["JobNameInWorker"] == "j" * 200
    assert parsed(wire.encode_dead_letter(nameless))["DisplayName"] == "GenerateReportJob"


def test_registration_for_1_0_lacks_what_came_later_but_tells_the_interval() -> None:
    registration = WorkerRegistration(
        worker_id=STATUS.worker_id, instance_id=STATUS.instance_id, metadata=WorkerMetadata(heartbeat_interval=30)
    )
    message = parsed(wire.encode_registration(registration, Dialect.V1_0))

    assert "JobResultDefinitions" not in message
    assert json.loads(message["Metadata"]).keys() == {
        "ProcessorCount",
        "OSVersion",
        "RuntimeVersion",
        "HeartbeatInterval",
        "JobConfigs",
    }


def test_cancellation_names_the_occurrence_twice() -> None:
    message = parsed(wire.encode_cancellation(Cancellation(occurrence_id=OCCURRENCE)))

    assert message == {
        "CorrelationId": OCCURRENCE,
        "JobId": None,
        "OccurrenceId": OCCURRENCE,
        "Reason": "Cancelled by user",
    }
