"""The wire's messages as bytes, and back (WIRE.md 0 to 3 and 5.3).

Decoders take what System.Text.Json takes: names in any case, unknown members ignored, absent ones at .NET's defaults,
but no value of another type. They raise `InvalidMessage` and nothing else.
Encoders write what a .NET program writes and clean every text, so that no message of ours can hang the API.

Both work from tables that `wire_reading` and `wire_writing` make once, from the fields of `model.messages`.
"""

import enum
from collections.abc import Callable, Sequence

import attrs

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId, parse_guid
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import quote, read
from milvaion_trio.model.messages import (
    Cancellation,
    DeadLetter,
    ExternalJobRegistration,
    ExternalOccurrence,
    JobMessage,
    LogBatch,
    LogRecord,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerMetadata,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import MAX_EXCEPTION, MAX_RESULT, clean_text
from milvaion_trio.model.wire_fields import Casing
from milvaion_trio.model.wire_reading import decoder, member_of, message_reader
from milvaion_trio.model.wire_writing import (
    Writer,
    class_writer,
    date_text,
    identifier_text,
    members_of,
    members_with_old_name,
    storable,
    worker_id_text,
)

__all__ = [
    "Casing",
    "Dialect",
    "decode_cancellation",
    "decode_dead_letter",
    "decode_external_occurrence",
    "decode_external_registration",
    "decode_heartbeat",
    "decode_job",
    "decode_logs",
    "decode_registration",
    "decode_status",
    "encode_cancellation",
    "encode_dead_letter",
    "encode_external_occurrence",
    "encode_external_registration",
    "encode_heartbeat",
    "encode_job",
    "encode_logs",
    "encode_registration",
    "encode_status",
    "status_body",
]


class Dialect(enum.Enum):
    """The generation of Milvaion that is talked to (WIRE.md 14). Reading needs no dialect."""

    V1_1 = "1.1"
    """Log batches; a status' `WorkerId` is the group's."""
    V1_0 = "1.0"
    """Single log entries; a status' `WorkerId` is the instance's."""


decode_job: Callable[[bytes], JobMessage] = decoder(JobMessage, "job message")
"""A dispatch or a retry copy. Whether its id can be used is for the caller to see: absent, it is the empty guid."""

decode_heartbeat: Callable[[bytes], WorkerHeartbeat] = decoder(WorkerHeartbeat, "worker heartbeat")
decode_registration: Callable[[bytes], WorkerRegistration] = decoder(WorkerRegistration, "worker registration")
decode_dead_letter: Callable[[bytes], DeadLetter] = decoder(DeadLetter, "dead letter")
"""Also takes a dispatch that was dead-lettered as it was (WIRE.md 4.5)."""
decode_external_registration: Callable[[bytes], ExternalJobRegistration] = decoder(
    ExternalJobRegistration, "external job registration"
)
decode_external_occurrence: Callable[[bytes], ExternalOccurrence] = decoder(ExternalOccurrence, "external occurrence")

_decode_status = decoder(StatusUpdate, "status update")
_read_logs = message_reader(LogBatch, "logs")


def decode_status(body: bytes) -> StatusUpdate:
    """A status update of either generation; in that of 1.0 both `worker_id` and `instance_id` are the instance's."""
    status = _decode_status(body)
    return status if status.instance_id else attrs.evolve(status, instance_id=InstanceId(status.worker_id))


def decode_logs(body: bytes) -> LogBatch:
    """A batch or a single entry, of either generation; entries without a log are left out, as the API does."""
    value = read(body, case_matters=True)
    if isinstance(value, dict) and not (isinstance(logs := member_of(value, "logs"), list) and logs):
        value = {"Logs": [value]}
    return _read_logs(value)


def decode_cancellation(body: bytes) -> Cancellation:
    """A cancel signal. It only needs a guid to cancel; what else is wrong with it does no harm."""
    value = read(body)
    if not isinstance(value, dict):
        raise InvalidMessage("cancellation: the body is no object.")
    occurrence_id = parse_guid(member_of(value, "occurrenceid")) or parse_guid(member_of(value, "correlationid"))
    if occurrence_id is None:
        raise InvalidMessage("cancellation: neither OccurrenceId nor CorrelationId is a guid.")
    reason = member_of(value, "reason")
    return Cancellation(
        occurrence_id=OccurrenceId(occurrence_id),
        job_id=parse_guid(member_of(value, "jobid")),
        reason=reason if isinstance(reason, str) else "",
    )


_JOB_WRITERS = {casing: class_writer(JobMessage, casing=casing) for casing in Casing}


def encode_job(job: JobMessage, casing: Casing = Casing.PASCAL) -> bytes:
    """A job message. Its data is never cut."""
    return _JOB_WRITERS[casing](job).encode()


def encode_status(status: StatusUpdate, dialect: Dialect = Dialect.V1_1) -> bytes:
    """A status update with both generations' name of the occurrence; in 1.0 its `WorkerId` is the instance's."""
    return status_body(
        dialect,
        status.occurrence_id,
        status.job_id,
        status.worker_id,
        status.instance_id,
        status.status,
        status.message_timestamp,
        status.start_time,
        status.end_time,
        status.duration_ms,
        status.result,
        status.exception,
    )


def status_body(
    dialect: Dialect,
    occurrence_id: OccurrenceId,
    job_id: JobId,
    worker_id: WorkerId,
    instance_id: InstanceId,
    status: OccurrenceStatus | int,
    sent: Instant,
    start: Instant | None = None,
    end: Instant | None = None,
    duration_ms: int | None = None,
    result: str | None = None,
    exception: str | None = None,
) -> bytes:
    """The same of values that are in no `StatusUpdate`.

    Every job sends two: written from the table instead of by hand each takes three times as long, and the object
    around its values a third as long as their text.
    """
    occurrence = identifier_text(occurrence_id)
    instance = identifier_text(instance_id)
    worker = worker_id_text(worker_id if dialect is Dialect.V1_1 else instance_id)
    sent_text = sent.text
    # A status is mostly sent at the moment it tells of, so that the same date need not be written twice.
    start_text = "null" if start is None else f'"{sent_text}"' if start is sent else f'"{start.text}"'
    end_text = "null" if end is None else f'"{sent_text}"' if end is sent else f'"{end.text}"'
    return (
        f'{{"OccurrenceId":{occurrence},"CorrelationId":{occurrence},"JobId":{identifier_text(job_id)},'
        f'"WorkerId":{worker},"InstanceId":{instance},"Status":{int(status)},"StartTime":{start_text},'
        f'"EndTime":{end_text},"DurationMs":{"null" if duration_ms is None else duration_ms},'
        f'"Result":{"null" if result is None else quote(clean_text(result, MAX_RESULT))},'
        f'"Exception":{"null" if exception is None else quote(clean_text(exception, MAX_EXCEPTION))},'
        f'"MessageTimestamp":"{sent_text}"}}'
    ).encode()


_write_record = class_writer(LogRecord)
_write_old_record = class_writer(LogRecord, members_with_old_name(LogRecord))


def encode_logs(records: Sequence[LogRecord], sent_at: Instant, dialect: Dialect = Dialect.V1_1) -> list[bytes]:
    """The messages that carry these entries: one batch, or in 1.0 one message for each entry."""
    if dialect is Dialect.V1_0:
        return [_write_old_record(record).encode() for record in records]
    if not records:
        return []
    logs = ",".join([_write_record(record) for record in records])
    return [f'{{"Logs":[{logs}],"BatchTimestamp":{date_text(sent_at)},"Count":{len(records)}}}'.encode()]


_write_heartbeat = class_writer(WorkerHeartbeat)


def encode_heartbeat(heartbeat: WorkerHeartbeat) -> bytes:
    """A worker heartbeat, the same for both generations: 1.0 ignores `IsStopping`."""
    return _write_heartbeat(heartbeat).encode()


def _registration_writer(left_out: Sequence[str] = (), left_out_of_metadata: Sequence[str] = ()) -> Writer:
    write_metadata = class_writer(WorkerMetadata, members_of(WorkerMetadata, *left_out_of_metadata))
    return class_writer(
        WorkerRegistration,
        members_of(WorkerRegistration, *left_out),
        Metadata=lambda metadata: quote(write_metadata(metadata)),
    )


_REGISTRATION_WRITERS = {
    Dialect.V1_1: _registration_writer(),
    # The interval stays: a newer API drops instances that do not tell it.
    Dialect.V1_0: _registration_writer(["job_result_definitions"], ["is_external", "external_scheduler"]),
}


def encode_registration(registration: WorkerRegistration, dialect: Dialect = Dialect.V1_1) -> bytes:
    """A registration; in 1.0 without the members that came later."""
    return _REGISTRATION_WRITERS[dialect](registration).encode()


_write_dead_letter = class_writer(DeadLetter)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter that keeps the rules of WIRE.md 4.5, on which the life of the API's handler depends."""
    name = clean_text(letter.job_name_in_worker)[:200]
    safe = attrs.evolve(
        letter,
        display_name=clean_text(letter.display_name or name)[:200],
        job_name_in_worker=name,
        job_data=storable(letter.job_data),
    )
    return _write_dead_letter(safe).encode()


_write_cancellation = class_writer(
    Cancellation,
    [
        ("CorrelationId", "occurrence_id"),
        ("JobId", "job_id"),
        ("OccurrenceId", "occurrence_id"),
        ("Reason", "reason"),
    ],
)


def encode_cancellation(cancellation: Cancellation) -> bytes:
    """A cancel signal, for the channel that workers listen to."""
    return _write_cancellation(cancellation).encode()


_write_external_registration = class_writer(ExternalJobRegistration)
_write_external_occurrence = class_writer(ExternalOccurrence)


def encode_external_registration(registration: ExternalJobRegistration) -> bytes:
    """A job of a scheduler that only reports."""
    return _write_external_registration(registration).encode()


def encode_external_occurrence(occurrence: ExternalOccurrence) -> bytes:
    """A run of such a job."""
    return _write_external_occurrence(occurrence).encode()
