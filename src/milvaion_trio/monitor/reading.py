"""What the messages of each queue say, as values with the occurrences that they are about.

Separate from what becomes of them: nothing here knows rows. A message that nobody can use raises `InvalidMessage`.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import frozen

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId, parse_guid
from milvaion_trio.model.messages import (
    DeadLetter,
    ExternalJobRegistration,
    ExternalOccurrence,
    JobMessage,
    LogBatch,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerRegistration,
)
from milvaion_trio.model.wire import (
    decode_dead_letter,
    decode_external_occurrence,
    decode_external_registration,
    decode_heartbeat,
    decode_job,
    decode_logs,
    decode_registration,
    decode_status,
)

__all__ = ["News", "Told", "read"]

Told: TypeAlias = (
    JobMessage
    | StatusUpdate
    | LogBatch
    | WorkerRegistration
    | WorkerHeartbeat
    | DeadLetter
    | ExternalJobRegistration
    | ExternalOccurrence
)


@frozen
class News:
    """A message that was read."""

    told: Told
    message: Message
    about: tuple[OccurrenceId, ...] = ()
    """The occurrences whose rows it may change."""


def read(queue: str, message: Message) -> News:
    """What this message of that queue says; raises `InvalidMessage`."""
    return _READERS[queue](message)


def _dispatch(message: Message) -> News:
    return News(decode_job(message.body), message, (_id_of(message),))


def _status(message: Message) -> News:
    status = decode_status(message.body)
    return News(status, message, (_checked(status.occurrence_id),))


def _logs(message: Message) -> News:
    logs = decode_logs(message.body)
    return News(logs, message, tuple({_checked(record.occurrence_id) for record in logs.logs}))


def _dead_letter(message: Message) -> News:
    return News(decode_dead_letter(message.body), message, (_id_of(message),))


def _registration(message: Message) -> News:
    registration = decode_registration(message.body)
    if not registration.worker_id or not registration.instance_id:
        raise InvalidMessage("worker registration: WorkerId or InstanceId is missing.")
    return News(registration, message)


def _heartbeat(message: Message) -> News:
    heartbeat = decode_heartbeat(message.body)
    if not heartbeat.worker_id or not heartbeat.instance_id:
        raise InvalidMessage("worker heartbeat: WorkerId or InstanceId is missing.")
    return News(heartbeat, message)


def _external_job(message: Message) -> News:
    return News(decode_external_registration(message.body), message)


def _external_run(message: Message) -> News:
    run = decode_external_occurrence(message.body)
    return News(run, message, (_checked(run.correlation_id),))


def _id_of(message: Message) -> OccurrenceId:
    found = headers.occurrence_id(message)
    if found is None:
        raise InvalidMessage("neither its headers nor its properties name an occurrence.")
    return found


def _checked(occurrence_id: OccurrenceId) -> OccurrenceId:
    if parse_guid(occurrence_id) is None:  # the empty one is none either
        raise InvalidMessage(f"OccurrenceId is {occurrence_id!r}, which names no occurrence.")
    return occurrence_id


_READERS: Final[Mapping[str, Callable[[Message], News]]] = {
    topology.DISPATCHES_QUEUE: _dispatch,
    topology.STATUS_QUEUE: _status,
    topology.LOGS_QUEUE: _logs,
    topology.FAILED_QUEUE: _dead_letter,
    topology.REGISTRATION_QUEUE: _registration,
    topology.HEARTBEAT_QUEUE: _heartbeat,
    topology.EXTERNAL_REGISTRATION_QUEUE: _external_job,
    topology.EXTERNAL_OCCURRENCE_QUEUE: _external_run,
}
