"""Which attempts were concluded here: the last so many, in memory, so that asking costs nothing on the way of a job."""

from collections import OrderedDict
from collections.abc import Collection, Iterator

from attrs import define, field

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId

__all__ = ["Concluded"]


@define(eq=False)
class Concluded:
    """Attempts in the order of their conclusion; the oldest are forgotten."""

    _most: int
    _attempts: OrderedDict[AttemptKey, None] = field(factory=OrderedDict, init=False)

    def __contains__(self, attempt: AttemptKey) -> bool:
        return attempt in self._attempts

    def __iter__(self) -> Iterator[AttemptKey]:
        """Oldest first."""
        return iter(self._attempts)

    def add(self, attempt: AttemptKey) -> None:
        """Remember it as the newest."""
        self._attempts[attempt] = None
        self._attempts.move_to_end(attempt)
        if len(self._attempts) > self._most:
            self._attempts.popitem(last=False)

    def withdraw(self, attempt: AttemptKey) -> None:
        """Forget this one, if it is known: it is about to run again."""
        self._attempts.pop(attempt, None)

    def discard(self, occurrences: Collection[OccurrenceId]) -> None:
        """Forget every attempt of these."""
        for attempt in [attempt for attempt in self._attempts if attempt.occurrence_id in occurrences]:
            del self._attempts[attempt]
