"""What tests of a whole worker share: dates of the virtual clock, messages made by hand, and a story told in words."""

from uuid import UUID

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.wire import decode_logs, decode_status, encode_job
from milvaion_trio.testing import VIRTUAL_START, Published, WorkerUnderTest

__all__ = ["JOB_ID", "OCCURRENCE", "at", "guid", "job_message", "seconds", "story"]


def guid(number: int) -> OccurrenceId:
    """A guid that is easy to tell from others."""
    return OccurrenceId(str(UUID(int=number)))


OCCURRENCE = guid(0xACC)
JOB_ID = JobId(str(UUID(int=0x10B)))


def at(seconds: float) -> Instant:
    """The date of this second of the virtual clock."""
    return VIRTUAL_START.plus(seconds)


def seconds(instant: Instant | None) -> float | None:
    """The second of the virtual clock of this date."""
    return None if instant is None else (instant.ticks - VIRTUAL_START.ticks) / 1e7


def job_message(
    job_name: str,
    *,
    job_data: str | None = None,
    occurrence_id: OccurrenceId = OCCURRENCE,
    timeout: int | None = None,
    timestamp: int | None = 1,
    **header: HeaderValue,
) -> Message:
    """A dispatch as a Milvaion API sends it. Header names have `_` for `-`."""
    job = JobMessage(
        id=JOB_ID,
        display_name="A job",
        job_name_in_worker=job_name,
        job_data=job_data,
        execution_timeout_seconds=timeout,
        execute_at=VIRTUAL_START,
        is_active=True,
    )
    return Message(
        body=encode_job(job),
        headers={headers.OCCURRENCE_ID: occurrence_id} | {k.replace("_", "-"): v for k, v in header.items()},
        correlation_id=occurrence_id,
        timestamp=timestamp,
    )


def story(kit: WorkerUnderTest, occurrence_id: OccurrenceId) -> list[str]:
    """What was published about the occurrence, in order, a word for each message."""
    return [word for published in kit.published if (word := _word(published, occurrence_id))]


def _word(published: Published, occurrence_id: OccurrenceId) -> str | None:
    body = published.message.body
    match published.target:
        case topology.STATUS_QUEUE:
            status = decode_status(body)
            if status.occurrence_id == occurrence_id:
                is_heartbeat = status.status == 1 and status.start_time is None
                return "heartbeat" if is_heartbeat else str(getattr(status.status, "name", status.status))
        case topology.LOGS_QUEUE:
            if any(record.occurrence_id == occurrence_id for record in decode_logs(body).logs):
                return "logs"
        case topology.DEAD_LETTER_EXCHANGE:
            if headers.occurrence_id(published.message) == occurrence_id:
                return "dead letter"
        case target if target.startswith(topology.JOB_QUEUE_PREFIX):
            if (
                headers.occurrence_id(published.message) == occurrence_id
                and headers.SNOOZES in published.message.headers
            ):
                return "retry"
    return None
