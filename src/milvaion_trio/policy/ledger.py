"""What this process knows about occurrences: what runs here, what was cancelled, how often an attempt was started.

Only memory, so it is bounded, and only of this process: what must survive it is in the outbox.
Every operation takes constant time, as each one is on the way of every job.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import frozen

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId

__all__ = ["ATTEMPTS_REMEMBERED", "TOMBSTONES_REMEMBERED", "TOMBSTONE_LIFE", "Ledger", "Tombstone"]

TOMBSTONE_LIFE = 24 * 3600.0
"""Seconds. A message may wait that long in a queue after its cancel; what waits longer is lost to the API anyhow."""
TOMBSTONES_REMEMBERED = 100_000
"""About 30 MB: every instance gets the cancels of all jobs of all workers, most of which it never sees."""
ATTEMPTS_REMEMBERED = 10_000
"""About 3 MB. Only redeliveries ask again, and they come soon."""

R = TypeVar("R")


@frozen
class Tombstone:
    """A cancel that arrived at `at`, unix seconds."""

    reason: str
    at: float

    def covers(self, dispatch_stamp: str | None) -> bool:
        """Whether the message was dispatched before the cancel arrived, and so was meant by it.

        A workflow dispatches the same occurrence again (WIRE.md 12.1), which is a new wish to run it.
        A stamp that is absent or no number says nothing, and then the cancel applies.
        """
        if dispatch_stamp is None:
            return True
        try:
            return not float(dispatch_stamp) > self.at  # NaN is not above anything
        except ValueError:
            return True


class Ledger(Generic[R]):
    """Running attempts with the runtime's handle `R` of each, tombstones, and counts of starts."""

    __slots__ = ("_count", "_redelivered", "_running", "_tombstones", "_unstarted")

    def __init__(self) -> None:
        # A list, since an attempt stays here until everything it published is confirmed, and its own retry copy may
        # arrive before that.
        self._running: dict[OccurrenceId, list[tuple[AttemptKey, R]]] = {}
        self._count = 0
        # Ordered dicts, because finding the oldest key of a plain one means stepping over all that were deleted.
        self._tombstones: OrderedDict[OccurrenceId, Tombstone] = OrderedDict()
        self._redelivered: OrderedDict[AttemptKey, int] = OrderedDict()
        self._unstarted: OrderedDict[AttemptKey, bool] = OrderedDict()  # whether it may have run before all the same

    def __len__(self) -> int:
        """How many attempts run here."""
        return self._count

    def __iter__(self) -> Iterator[R]:
        """The handles of all that runs here; the ledger may change meanwhile."""
        return iter([run for entries in self._running.values() for _, run in entries])

    def add(self, attempt: AttemptKey, run: R) -> None:
        """From now on the attempt runs here."""
        self._running.setdefault(attempt.occurrence_id, []).append((attempt, run))
        self._count += 1

    def remove(self, attempt: AttemptKey, run: R) -> None:
        """The attempt ended. Raises `KeyError` if this run was not here."""
        entries = self._running.get(attempt.occurrence_id, [])
        left = [entry for entry in entries if entry[1] is not run]
        if len(left) == len(entries):
            raise KeyError(attempt)
        if left:
            self._running[attempt.occurrence_id] = left
        else:
            del self._running[attempt.occurrence_id]
        self._count -= 1

    def running(self, occurrence_id: OccurrenceId) -> AttemptKey | None:
        """The attempt of this occurrence that was started last and still runs here."""
        entries = self._running.get(occurrence_id)
        return entries[-1][0] if entries else None

    def find(self, occurrence_id: OccurrenceId) -> tuple[R, ...]:
        """The handles of all that runs here for this occurrence, oldest first."""
        return tuple([run for _, run in self._running.get(occurrence_id, ())])

    def find_attempt(self, attempt: AttemptKey) -> R | None:
        """The handle of this very attempt, or `None` if it does not run here."""
        for known, run in reversed(self._running.get(attempt.occurrence_id, ())):
            if known == attempt:
                return run
        return None

    def cancel(self, occurrence_id: OccurrenceId, reason: str, at: float) -> None:
        """Remember a cancel that arrived at `at`; a second one replaces the first. Stopping what runs is the caller's.

        Remembered for running occurrences too: the attempt may end otherwise, or come back from a lost link.
        """
        self.forget(at)
        self._tombstones[occurrence_id] = Tombstone(reason, at)
        self._tombstones.move_to_end(occurrence_id)
        if len(self._tombstones) > TOMBSTONES_REMEMBERED:
            self._tombstones.popitem(last=False)

    def forget(self, now: float) -> None:
        """Drop the cancels that are older than a day."""
        while self._tombstones:
            oldest = next(iter(self._tombstones))
            if now - self._tombstones[oldest].at <= TOMBSTONE_LIFE:
                return
            self._tombstones.popitem(last=False)

    def cancelled(self, attempt: AttemptKey) -> str | None:
        """The reason why this attempt must not start, or `None`."""
        tombstone = self._tombstones.get(attempt.occurrence_id)
        return tombstone.reason if tombstone is not None and tombstone.covers(attempt.dispatch_stamp) else None

    def returned_unstarted(self, attempt: AttemptKey, *, redelivered: bool) -> None:
        """Remember that this attempt goes back to its queue without having run: the next redelivery says nothing new.

        If it had come as a redelivery itself, that one still says what it said; unless it came so because it had been
        given back like this before.
        """
        self._unstarted.setdefault(attempt, redelivered)
        if len(self._unstarted) > ATTEMPTS_REMEMBERED:
            self._unstarted.popitem(last=False)

    def was_returned_unstarted(self, attempt: AttemptKey) -> bool:
        """Whether it was fresh when this process gave it back without having run it, and has not begun here since."""
        return self._unstarted.get(attempt) is False

    def redelivered(self, attempt: AttemptKey) -> int:
        """Count a start of this attempt from a redelivered message; the first such is its second start, at least.

        Starts from fresh messages need no counting, and they are nearly all. 0 for one that this process itself gave
        back unstarted, if it was fresh. What went back so elsewhere, or with its link, or before anybody had looked at
        it, cannot be told from one that ran; and what went back from here and began elsewhere meanwhile is not known.
        """
        if self._unstarted.pop(attempt, None) is False:
            return 0
        count = self._redelivered.get(attempt, 0) + 1
        self._redelivered[attempt] = count
        if count > 1:
            self._redelivered.move_to_end(attempt)
        elif len(self._redelivered) > ATTEMPTS_REMEMBERED:
            self._redelivered.popitem(last=False)
        return count
