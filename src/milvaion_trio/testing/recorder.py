"""The recorder: every message that reached the broker, decoded, in the order in which it was published.

Separate from the worker under test, which only looks things up here.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import trio
from attrs import define, field, frozen

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import DeadLetter, LogRecord, StatusUpdate, WorkerHeartbeat, WorkerRegistration
from milvaion_trio.model.occurrence import FINAL, OccurrenceStatus
from milvaion_trio.model.wire import (
    decode_dead_letter,
    decode_heartbeat,
    decode_logs,
    decode_registration,
    decode_status,
)

__all__ = ["OccurrenceView", "Published", "Recorder", "WaitingRetry"]

T = TypeVar("T")


@frozen
class Published:
    """A message as the broker got it."""

    at: float
    """When, by `trio.current_time()`."""
    publication: Publication

    @property
    def message(self) -> Message:
        """Body, headers and properties."""
        return self.publication.message

    @property
    def target(self) -> str:
        """The queue it went to where it was sent to one, else the exchange."""
        return self.publication.exchange or self.publication.routing_key


@frozen(kw_only=True)
class WaitingRetry:
    """A retry copy: the next attempt, which waits in the broker."""

    occurrence_id: OccurrenceId
    at: float
    """When it was published, by `trio.current_time()`."""
    delay: float
    """Seconds it waits."""
    retry_count: int
    """How many retries came before; the attempt it asks for is one more."""
    message: Message


@frozen(kw_only=True)
class OccurrenceView:
    """What was told about one occurrence so far."""

    occurrence_id: OccurrenceId
    statuses: tuple[StatusUpdate, ...]
    """Job heartbeats are among them: Running without a start time."""
    logs: tuple[LogRecord, ...]
    retries: tuple[WaitingRetry, ...]
    dead_letters: tuple[DeadLetter, ...]

    @property
    def status(self) -> OccurrenceStatus | int:
        """As the last status says; Queued when there was none."""
        return self.statuses[-1].status if self.statuses else OccurrenceStatus.QUEUED

    @property
    def final(self) -> StatusUpdate | None:
        """The last final status, or `None` while there was none."""
        return next((status for status in reversed(self.statuses) if status.status in FINAL), None)

    @property
    def result(self) -> str | None:
        """The result that the final status tells."""
        return None if self.final is None else self.final.result

    @property
    def exception(self) -> str | None:
        """The error text that the final status tells."""
        return None if self.final is None else self.final.exception

    @property
    def messages(self) -> tuple[str, ...]:
        """The texts of the log entries."""
        return tuple(record.log.message for record in self.logs)


@define(eq=False)
class Recorder:
    """Listens to an embedded broker; put `record` into its `on_publish`."""

    published: list[Published] = field(factory=list, init=False)
    """Every message, with the time at which the broker got it."""

    def record(self, publication: Publication) -> None:
        """Take note of a message."""
        self.published.append(Published(trio.current_time(), publication))

    @property
    def statuses(self) -> tuple[StatusUpdate, ...]:
        """Every status update, job heartbeats included."""
        return self._decoded(topology.STATUS_QUEUE, decode_status)

    @property
    def logs(self) -> tuple[LogRecord, ...]:
        """Every log entry, out of its batch."""
        batches = self._decoded(topology.LOGS_QUEUE, decode_logs)
        return tuple(record for batch in batches for record in batch.logs)

    @property
    def registrations(self) -> tuple[WorkerRegistration, ...]:
        """Every registration."""
        return self._decoded(topology.REGISTRATION_QUEUE, decode_registration)

    @property
    def heartbeats(self) -> tuple[WorkerHeartbeat, ...]:
        """Every heartbeat of the worker."""
        return self._decoded(topology.HEARTBEAT_QUEUE, decode_heartbeat)

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Every dead letter."""
        return self._decoded(topology.DEAD_LETTER_EXCHANGE, decode_dead_letter)

    @property
    def quarantined(self) -> tuple[Message, ...]:
        """Every message that was set aside because nothing could be reported about it."""
        return tuple(published.message for published in self.sent_to(topology.QUARANTINE_QUEUE))

    @property
    def retries(self) -> tuple[WaitingRetry, ...]:
        """Every retry copy, as it was first sent: one that waits long is sent on with the same message id."""
        copies: dict[str | None, WaitingRetry] = {}
        for published in self.published:
            message = published.message
            # This header is on every copy that a worker of ours makes, and on nothing else.
            if published.target.startswith(topology.JOB_QUEUE_PREFIX) and headers.SNOOZES in message.headers:
                occurrence_id = headers.occurrence_id(message)
                if occurrence_id is not None and message.message_id not in copies:
                    copies[message.message_id] = WaitingRetry(
                        occurrence_id=occurrence_id,
                        at=published.at,
                        delay=published.publication.delay,
                        retry_count=headers.retry_count(message.headers),
                        message=message,
                    )
        return tuple(copies.values())

    def occurrence(self, occurrence_id: OccurrenceId) -> OccurrenceView:
        """Everything about one occurrence; raises `LookupError` when nothing was told about it yet."""
        letters = [
            letter
            for letter in self.sent_to(topology.DEAD_LETTER_EXCHANGE)
            if headers.occurrence_id(letter.message) == occurrence_id
        ]
        return OccurrenceView(
            occurrence_id=occurrence_id,
            statuses=tuple(status for status in self.statuses if status.occurrence_id == occurrence_id),
            logs=tuple(record for record in self.logs if record.occurrence_id == occurrence_id),
            retries=tuple(retry for retry in self.retries if retry.occurrence_id == occurrence_id),
            dead_letters=tuple(decode_dead_letter(letter.message.body) for letter in letters),
        )

    def sent_to(self, target: str) -> Iterator[Published]:
        """What went to this queue or exchange."""
        return (published for published in self.published if published.target == target)

    def _decoded(self, target: str, decode: Callable[[bytes], T]) -> tuple[T, ...]:
        return tuple(decode(published.message.body) for published in self.sent_to(target))
