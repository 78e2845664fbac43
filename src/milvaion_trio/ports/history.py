"""Where a monitor keeps what happened: one store per monitor, read by any command.

Synchronous: databases have blocking clients, and the monitor calls them in a thread. One contract suite holds every
store to these sentences (`tests/contract`).
Methods raise `StoreUnavailable` when the store cannot be reached or written; what was not returned may be written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, Self

from attrs import field, frozen

from milvaion_trio.model.history import FailedOccurrence, InstanceRecord, LogLine, OccurrenceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["HistoryStore", "OccurrenceQuery", "Rows"]


@frozen(kw_only=True)
class Rows:
    """What is written together: rows are replaced whole, lines that are there already are left alone."""

    occurrences: Collection[OccurrenceRecord] = ()
    lines: Collection[LogLine] = ()
    failures: Collection[FailedOccurrence] = ()
    workers: Collection[WorkerRecord] = ()
    instances: Collection[InstanceRecord] = ()


def _statuses(given: Iterable[OccurrenceStatus | int]) -> frozenset[OccurrenceStatus | int]:
    return frozenset(given)


@frozen(kw_only=True)
class OccurrenceQuery:
    """Which occurrences, newest first by their `created_at`; of those of the same time the greater id first."""

    job_name: str | None = None
    """In any case."""
    worker_id: str | None = None
    schedule_id: str | None = None
    statuses: frozenset[OccurrenceStatus | int] = field(default=frozenset(), converter=_statuses)
    """Empty for all."""
    since: Instant | None = None
    """Created then or later."""
    until: Instant | None = None
    """Created before."""
    limit: int = 50
    after: OccurrenceId | None = None
    """The last one of the page before. When it is not there any more, neither are older ones: then there are none."""


class HistoryStore(Protocol):
    """Occurrences, their logs, dead letters and workers."""

    @property
    def name(self) -> str:
        """For messages to people, without secrets."""

    def __enter__(self) -> Self:
        """Connect, and make what is missing; raises `StoreUnavailable`."""

    def __exit__(self, *_: object) -> None:
        """Disconnect. What `save` returned from is durable."""

    # --- the monitor --------------------------------------------------------------------------------------------------

    def save(self, rows: Rows) -> None:
        """Write all of it, or raise; the same rows written once more change nothing.

        Lines may come before their occurrence. When it raises, some of it may be written.
        """

    def load(self, ids: Collection[OccurrenceId]) -> Mapping[OccurrenceId, OccurrenceRecord]:
        """Those of them that there are."""

    def unfinished(self, silent_since: Instant, limit: int) -> Sequence[OccurrenceRecord]:
        """Queued and running ones of which something could have been heard before that time; oldest first.

        A queued one counts from its creation or `execute_at`, whichever is later, and a running one from when it was
        heard of, or its creation. One with a `zombie_timeout` counts as much later as that is longer than a minute: so
        those that wait rightly do not stand before others.
        """

    def delete_before(self, moment: Instant, limit: int) -> int:
        """Delete at most so many ended occurrences that were created before, with their lines and dead letters.

        The oldest first; ended is all that neither waits nor runs, so what is lost goes too. Returns how many
        occurrences were deleted.
        """

    # --- anybody ------------------------------------------------------------------------------------------------------

    def find(self, query: OccurrenceQuery) -> Sequence[OccurrenceRecord]:
        """The occurrences of the query."""

    def counts(self) -> Mapping[int, int]:
        """How many occurrences there are in each status that occurs."""

    def lines(self, occurrence_id: OccurrenceId, limit: int = 1000) -> Sequence[LogLine]:
        """Its log, oldest first, by time and key; of more than the limit the last ones."""

    def failures(self, *, job_name: str | None = None, limit: int = 50) -> Sequence[FailedOccurrence]:
        """Dead letters, newest first; also those that were replayed."""

    def failure(self, occurrence_id: OccurrenceId) -> FailedOccurrence | None:
        """The dead letter of this occurrence."""

    def purge_failures(self, ids: Collection[OccurrenceId] | None) -> int:
        """Delete these dead letters, or all; returns how many there were. Their occurrences stay."""

    def workers(self) -> Sequence[WorkerRecord]:
        """Every group, by name."""

    def instances(self) -> Sequence[InstanceRecord]:
        """Every process of every group, by group and name, lost and stopped ones included."""

    def forget_instances(self, ids: Collection[InstanceId]) -> None:
        """Delete these processes."""
