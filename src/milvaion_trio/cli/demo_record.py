"""What became of each occurrence of the demo, gathered from the worker's events and from what it publishes.

Separate because the self-check, the live view and the closing table all read it, and none of them writes.
"""

import enum
from collections.abc import Callable

import trio
from attrs import define, field

from milvaion_trio.cli.message_lines import occurrences_of
from milvaion_trio.cli.narration import Mood, Remark, logged, remark
from milvaion_trio.cli.outcome_line import outcome_line
from milvaion_trio.model import events, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus
from milvaion_trio.model.wire import decode_logs, decode_status

__all__ = ["Ending", "Fate", "Record"]


class Ending(enum.Enum):
    """The ways an occurrence can leave a worker."""

    COMPLETED = "completed"
    DEAD_LETTER = "failed, dead letter"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    RETURNED = "back in its queue"


_ENDINGS = {
    OccurrenceStatus.COMPLETED: Ending.COMPLETED,
    OccurrenceStatus.FAILED: Ending.DEAD_LETTER,
    OccurrenceStatus.TIMED_OUT: Ending.TIMED_OUT,
    OccurrenceStatus.CANCELLED: Ending.CANCELLED,
}


@define(eq=False)
class Fate:
    """One occurrence: where it stands, and how it came there."""

    job_name: str
    state: str = "waits"
    mood: Mood = Mood.QUIET
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    next_try: float | None = None
    """When it runs again, while it waits for that."""
    ending: Ending | None = None
    text: str = ""
    """The result or the error, whole."""
    latest: str = ""
    """What it said last, in a line."""
    statuses: tuple[OccurrenceStatus, ...] = ()
    log_entries: int = 0
    dead_letters: int = 0


@define(eq=False)
class Record:
    """The fates of all occurrences. Its methods are an observer of the worker and one of the broker."""

    clock: Callable[[], float]
    tell: Callable[[Remark], None]
    """Called with everything worth a line."""
    fates: dict[OccurrenceId, Fate] = field(factory=dict, init=False)
    is_leaving: bool = field(default=False, init=False)
    """Whether the worker was asked to leave."""
    is_complete: bool = field(default=False, init=False)
    """Whether everything was played before the worker was asked to leave."""
    _one_ended: trio.Event = field(factory=trio.Event, init=False)

    def happened(self, event: events.Event) -> None:
        """Take in an event of the worker."""
        match event:
            case events.JobStarted(job_name, occurrence_id, attempt):
                fate = self.fates.setdefault(occurrence_id, Fate(job_name))
                fate.state, fate.mood, fate.attempts, fate.next_try = "running", Mood.PLAIN, attempt, None
                fate.started = self.clock() if fate.started is None else fate.started
            case events.JobRetried(job_name, occurrence_id, _, delay, why):
                fate = self.fates[occurrence_id]
                is_snooze = why == OccurrenceEvent.SNOOZE.value
                fate.state, fate.mood, fate.next_try = (
                    "snoozes" if is_snooze else "tries again",
                    Mood.WAITING,
                    self.clock() + delay,
                )
            case events.JobConcluded(_, occurrence_id, _, status, _, text):
                self._end(occurrence_id, _ENDINGS[status])
                self.fates[occurrence_id].text = text or ""
                self.fates[occurrence_id].latest = outcome_line(text or "")
            case events.JobReturned(_, occurrence_id):
                self._end(occurrence_id, Ending.RETURNED)
            case events.ShutdownBegan():
                self.is_leaving = True
        if (words := remark(event)) is not None:
            self.tell(words)

    def published(self, publication: Publication) -> None:
        """Take in a message that the worker has published."""
        body, key = publication.message.body, publication.routing_key
        if key == topology.STATUS_QUEUE:
            update = decode_status(body)
            fate = self.fates[update.occurrence_id]
            fate.statuses += (OccurrenceStatus(update.status),)
        elif key == topology.LOGS_QUEUE:
            for record in decode_logs(body).logs:
                self.fates[record.occurrence_id].log_entries += 1
            for words in logged(publication):
                self._said(words)
        elif publication.exchange == topology.DEAD_LETTER_EXCHANGE:
            for occurrence_id in occurrences_of(publication):
                self.fates[occurrence_id].dead_letters += 1

    async def until_all_ended_but(self, job_name: str) -> None:
        """Return when every occurrence has ended, those of this job aside. If cancelled, nothing changes."""
        while any(fate.ending is None for fate in self.fates.values() if fate.job_name != job_name):
            await self._one_ended.wait()

    def _said(self, words: Remark) -> None:
        if words.occurrence_id is None:
            return
        fate = self.fates[words.occurrence_id]
        if fate.ending is None:
            fate.latest = words.text
        self.tell(Remark(words.text, words.mood, fate.job_name, words.occurrence_id))

    def _end(self, occurrence_id: OccurrenceId, ending: Ending) -> None:
        fate = self.fates[occurrence_id]
        fate.ending, fate.state, fate.ended, fate.next_try = ending, ending.value, self.clock(), None
        fate.mood = _MOODS[ending]
        self._one_ended.set()
        self._one_ended = trio.Event()


_MOODS = {
    Ending.COMPLETED: Mood.GOOD,
    Ending.DEAD_LETTER: Mood.BAD,
    Ending.TIMED_OUT: Mood.BAD,
    Ending.CANCELLED: Mood.BAD,
    Ending.RETURNED: Mood.WAITING,
}
