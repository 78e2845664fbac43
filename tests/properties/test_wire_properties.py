"""The wire for any input: readers are total, encoders write only what every reader takes."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from milvaion_trio.model import wire
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue, read, write
from milvaion_trio.model.messages import (
    AutoDisableSettings,
    Cancellation,
    DeadLetter,
    ExternalEvent,
    ExternalJobRegistration,
    ExternalOccurrence,
    JobConfig,
    JobMessage,
    LogEntry,
    LogRecord,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerMetadata,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import clean_json, clean_text
from milvaion_trio.model.wire import Casing, Dialect

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)

wild_texts = st.text(st.characters(categories=None))  # with NUL and lone surrogates
clean_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def json_values(texts: st.SearchStrategy[str], numbers: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


clean_values = json_values(clean_texts, INT64 | st.floats(allow_nan=False, allow_infinity=False))
wild_values = json_values(wild_texts, st.integers() | st.floats() | st.decimals(places=3))

guids = st.uuids().map(str)
kinds = st.sampled_from(["", "Z", "+00:00", "-03:30", "+14:00"])
instants = st.builds(Instant, st.integers(10**12, 3 * 10**18), kinds)
statuses = st.sampled_from(OccurrenceStatus) | INT32.filter(lambda n: not 0 <= n <= 7)


def messages(texts: st.SearchStrategy[str], values: st.SearchStrategy[JsonValue]) -> dict[type, st.SearchStrategy[Any]]:
    """Every message with every member, of these texts and values."""
    text = st.none() | texts
    date = st.none() | instants
    names = st.dictionaries(texts, texts, max_size=3)
    worker: dict[str, st.SearchStrategy[Any]] = {"worker_id": texts.map(lambda name: WorkerId(name[:100]))}
    instance: dict[str, st.SearchStrategy[Any]] = {"instance_id": texts.filter(bool).map(InstanceId)}
    occurrence = guids.map(OccurrenceId)
    job = guids.map(JobId)
    breaker = st.builds(
        AutoDisableSettings,
        consecutive_failure_count=INT32,
        last_failure_time=date,
        disabled_at=date,
        disable_reason=text,
        enabled=st.none() | st.booleans(),
        threshold=st.none() | INT32,
        failure_window_minutes=st.none() | INT32,
    )
    metadata = st.builds(
        WorkerMetadata,
        is_external=st.booleans(),
        external_scheduler=text,
        processor_count=INT32,
        os_version=text,
        runtime_version=text,
        heartbeat_interval=INT32,
        job_configs=st.lists(
            st.builds(
                JobConfig, job_type=texts, consumer_id=texts, max_parallel_jobs=INT32, execution_timeout_seconds=INT32
            ),
            max_size=2,
        ).map(tuple),
    )
    entry = st.builds(
        LogEntry,
        timestamp=instants,
        level=texts,
        message=texts,
        data=st.none() | st.dictionaries(texts, values, max_size=3),
        category=text,
        exception_type=text,
    )
    return {
        JobMessage: st.builds(
            JobMessage,
            display_name=text,
            description=text,
            tags=text,
            job_data=text,
            execute_at=instants,
            cron_expression=text,
            is_active=st.booleans(),
            concurrent_execution_policy=INT32,
            worker_id=text,
            job_name_in_worker=texts,
            routing_pattern=text,
            zombie_timeout_minutes=st.none() | INT32,
            execution_timeout_seconds=st.none() | INT32,
            is_external=st.booleans(),
            external_job_id=text,
            version=INT32,
            job_versions=st.lists(texts, max_size=2).map(tuple),
            auto_disable_settings=breaker,
            last_modification_date=date,
            last_modifier_user_name=text,
            creation_date=date,
            creator_user_name=text,
            id=job,
        ),
        StatusUpdate: st.builds(
            StatusUpdate,
            occurrence_id=occurrence,
            job_id=job,
            **worker,
            **instance,
            status=statuses,
            start_time=date,
            end_time=date,
            duration_ms=st.none() | INT64,
            result=text,
            exception=text,
            message_timestamp=instants,
        ),
        LogRecord: st.builds(
            LogRecord,
            occurrence_id=occurrence,
            worker_id=texts.map(InstanceId),
            log=entry,
            message_timestamp=instants,
        ),
        WorkerHeartbeat: st.builds(
            WorkerHeartbeat, **worker, **instance, current_jobs=INT32, timestamp=instants, is_stopping=st.booleans()
        ),
        WorkerRegistration: st.builds(
            WorkerRegistration,
            **worker,
            **instance,
            display_name=text,
            host_name=text,
            ip_address=text,
            routing_patterns=names,
            job_data_definitions=names,
            job_result_definitions=names,
            job_types=st.lists(texts, max_size=3).map(tuple),
            max_parallel_jobs=INT32,
            version=text,
            metadata=metadata,
        ),
        DeadLetter: st.builds(
            DeadLetter,
            id=job,
            display_name=texts.filter(bool),
            job_name_in_worker=texts,
            job_data=st.none() | clean_values.map(json.dumps),
            execute_at=instants,
            status=statuses,
            exception=text,
        ),
        Cancellation: st.builds(Cancellation, occurrence_id=occurrence, job_id=st.none() | guids, reason=texts),
        ExternalJobRegistration: st.builds(
            ExternalJobRegistration,
            external_job_id=texts,
            display_name=text,
            description=text,
            job_type_name=text,
            cron_expression=text,
            next_execute_at=date,
            job_data=text,
            is_active=st.booleans(),
            source=text,
            **worker,
            tags=text,
            message_timestamp=instants,
        ),
        ExternalOccurrence: st.builds(
            ExternalOccurrence,
            external_job_id=texts,
            external_occurrence_id=text,
            correlation_id=occurrence,
            job_type_name=text,
            **worker,
            event_type=st.sampled_from(ExternalEvent) | st.just(99),
            status=statuses,
            scheduled_fire_time=date,
            actual_fire_time=date,
            start_time=date,
            end_time=date,
            duration_ms=st.none() | INT64,
            result=text,
            exception=text,
            source=text,
            message_timestamp=instants,
        ),
    }


CLEAN = messages(clean_texts, clean_values)
WILD = messages(wild_texts, wild_values)

ENCODERS: list[tuple[type, Callable[[Any], bytes]]] = [
    (JobMessage, wire.encode_job),
    (JobMessage, lambda job: wire.encode_job(job, Casing.CAMEL)),
    (StatusUpdate, wire.encode_status),
    (StatusUpdate, lambda status: wire.encode_status(status, Dialect.V1_0)),
    (LogRecord, lambda record: wire.encode_logs([record], record.message_timestamp)[0]),
    (LogRecord, lambda record: wire.encode_logs([record], record.message_timestamp, Dialect.V1_0)[0]),
    (WorkerHeartbeat, wire.encode_heartbeat),
    (WorkerRegistration, wire.encode_registration),
    (WorkerRegistration, lambda registration: wire.encode_registration(registration, Dialect.V1_0)),
    (DeadLetter, wire.encode_dead_letter),
    (Cancellation, wire.encode_cancellation),
    (ExternalJobRegistration, wire.encode_external_registration),
    (ExternalOccurrence, wire.encode_external_occurrence),
]

DECODERS: list[Callable[[bytes], object]] = [
    wire.decode_job,
    wire.decode_status,
    wire.decode_logs,
    wire.decode_heartbeat,
    wire.decode_registration,
    wire.decode_dead_letter,
    wire.decode_cancellation,
    wire.decode_external_registration,
    wire.decode_external_occurrence,
]


@given(st.data(), st.sampled_from(ENCODERS))
def test_encoders_write_only_what_every_reader_takes(data: st.DataObject, pair: tuple[type, Any]) -> None:
    """ASCII, no NUL, no lone surrogate, no NaN: whatever the values are that jobs and settings bring."""
    kind, encode = pair

    body = encode(data.draw(WILD[kind]))

    assert body.isascii()
    value = read(body, case_matters=True)
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()


ROUND_TRIPS: list[tuple[type, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (JobMessage, wire.encode_job, wire.decode_job),
    (JobMessage, lambda job: wire.encode_job(job, Casing.CAMEL), wire.decode_job),
    (StatusUpdate, wire.encode_status, wire.decode_status),
    (LogRecord, ENCODERS[4][1], lambda body: wire.decode_logs(body).logs[0]),
    (LogRecord, ENCODERS[5][1], lambda body: wire.decode_logs(body).logs[0]),
    (WorkerHeartbeat, wire.encode_heartbeat, wire.decode_heartbeat),
    (WorkerRegistration, wire.encode_registration, wire.decode_registration),
    (Cancellation, wire.encode_cancellation, wire.decode_cancellation),
    (ExternalJobRegistration, wire.encode_external_registration, wire.decode_external_registration),
    (ExternalOccurrence, wire.encode_external_occurrence, wire.decode_external_occurrence),
]


@given(st.data(), st.sampled_from(ROUND_TRIPS))
def test_clean_messages_come_back_as_they_were(data: st.DataObject, triple: tuple[type, Any, Any]) -> None:
    kind, encode, decode = triple
    message = data.draw(CLEAN[kind])

    assert decode(encode(message)) == message


@given(CLEAN[DeadLetter])
def test_dead_letters_mean_the_same_afterwards(letter: DeadLetter) -> None:
    back = wire.decode_dead_letter(wire.encode_dead_letter(letter))

    assert (back.id, back.execute_at, back.status) == (letter.id, letter.execute_at, letter.status)
    assert back.display_name == letter.display_name[:200] if letter.display_name else True
    assert (back.job_data and json.loads(back.job_data)) == (letter.job_data and json.loads(letter.job_data))


@given(CLEAN[StatusUpdate])
def test_status_for_1_0_differs_in_its_worker_only(status: StatusUpdate) -> None:
    back = wire.decode_status(wire.encode_status(status, Dialect.V1_0))

    assert back.worker_id == status.instance_id[:100]
    assert back.instance_id == status.instance_id
    assert back.occurrence_id == status.occurrence_id


@pytest.mark.parametrize("decode", DECODERS)
@given(body=st.binary() | wild_values.map(lambda value: json.dumps(value, default=str).encode(errors="replace")))
@example(body=b"[" * 100_000)
@example(body=b'{"Id":' * 1000)
@example(body=b'{"Metadata":"' + b"[" * 500 + b'"}')
@example(body=b'{"\\ud800":1,"\\ud801":1}')
def test_decoders_return_or_raise_invalid_message(decode: Callable[[bytes], object], body: bytes) -> None:
    with suppress(InvalidMessage):
        decode(body)


MEMBERS = [
    "Id",
    "JobId",
    "OccurrenceId",
    "CorrelationId",
    "WorkerId",
    "InstanceId",
    "JobData",
    "ExecuteAt",
    "AutoDisableSettings",
    "JobVersions",
    "IsActive",
    "Status",
    "StartTime",
    "DurationMs",
    "Logs",
    "Log",
    "Data",
    "Message",
    "Metadata",
    "RoutingPatterns",
    "JobTypes",
    "EventType",
]


@pytest.mark.parametrize("decode", DECODERS)
@given(members=st.dictionaries(st.sampled_from(MEMBERS), wild_values, max_size=6))
def test_decoders_are_total_over_members_of_any_type(
    decode: Callable[[bytes], object], members: dict[str, JsonValue]
) -> None:
    body = json.dumps(members, default=str).encode(errors="replace")
    with suppress(InvalidMessage):
        decode(body)


@given(st.binary())
def test_reader_is_total_over_bytes(data: bytes) -> None:
    try:
        value = read(data)
    except InvalidMessage:
        return
    assert json.loads(data.decode()) == value


@given(st.text(st.characters(categories=None)) | st.text('[]{}",:\\ud8019aeE+-.'))
def test_reader_is_total_over_texts(data: str) -> None:
    with suppress(InvalidMessage):
        json.dumps(read(data), allow_nan=False, ensure_ascii=False).encode()


@given(clean_values)
def test_written_values_are_read_as_they_were(value: JsonValue) -> None:
    text = write(value)

    assert text.isascii()
    assert json.loads(text) == value
    assert read(text, case_matters=True) == value


@given(wild_texts)
def test_written_texts_have_no_forbidden_character(text: str) -> None:
    assert json.loads(write(clean_text(text))) == clean_text(text)
    assert not set(write(text)) & set("&'<>+`\0\x7f\n")


@given(wild_texts, st.integers(0, 120))
def test_cleaned_texts_fit_and_need_no_more_cleaning(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)

    assert len(cleaned.encode()) <= limit
    assert clean_text(cleaned, limit) == cleaned


@given(wild_values)
def test_cleaned_values_can_be_written_and_read(value: JsonValue) -> None:
    write(clean_json(value))
    read(write(clean_json(value)), case_matters=True)


@given(st.integers(0, 3_155_378_975_999_999_999), st.sampled_from(["", "Z"]))
def test_instants_come_back_as_they_were(ticks: int, kind: str) -> None:
    instant = Instant(ticks, kind)

    assert Instant.parse(instant.text) == instant
    assert Instant.parse(instant.round_trip) == instant
    assert len(instant.round_trip) == 27 + len(kind)


@given(instants)
def test_instants_are_datetimes_to_the_microsecond(instant: Instant) -> None:
    moment = instant.to_datetime()

    assert Instant.from_datetime(moment).to_datetime() == moment
    assert (moment.tzinfo is None) == (instant.kind == "")


@given(st.text(st.characters(categories=None)) | st.text("0123456789-:TZ.+ "))
def test_dates_are_read_or_refused(text: str) -> None:
    try:
        instant = Instant.parse(text)
    except ValueError:
        return
    assert Instant.parse(instant.text) == instant
