"""What people do with schedules: write them down, look, pause and resume, take them out, have one run now.

Separate from the leading scheduler, which is none of those who ask: it learns of it from the book.
"""

import difflib
import uuid
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import NoSuchSchedule, SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Millis, Schedule
from milvaion_trio.policy.schedule_making import check_schedule, make_schedule, said_with
from milvaion_trio.ports.coordination import Coordination, ScheduleBook
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.scheduler.ticks import tick_message

__all__ = ["ScheduleDesk", "message_by_hand", "planned"]


@frozen
class ScheduleDesk:
    """The book, as clients and commands use it. Raises `LinkLost` when its keeper cannot be reached."""

    coordination: Coordination
    """Open as long as it is asked."""
    now: Callable[[], Millis]

    @property
    def _book(self) -> ScheduleBook:
        return self.coordination.book

    async def entries(self) -> Sequence[Entry]:
        """All schedules, by name, with how far they have come. If cancelled, nothing changes."""
        return (await self._book.read())[1]

    async def entry(self, schedule_id: str) -> Entry:
        """One of them; raises `NoSuchSchedule`. If cancelled, nothing changes."""
        entries = await self.entries()
        for entry in entries:
            if entry.schedule.id == schedule_id:
                return entry
        raise _missing(schedule_id, entries)

    async def put(self, schedule: Schedule) -> bool:
        """Add it, or replace the one of this name; `False` when it was there just so.

        Raises `SettingsError` for one that could never run, and where the name is taken by a schedule of other workers,
        which would never run again. If cancelled, it may be done.
        """
        check_schedule(schedule)
        for entry in await self.entries():
            group = entry.schedule.worker_id
            if entry.schedule.id == schedule.id and group != schedule.worker_id:
                raise SettingsError(
                    [
                        f"There is a schedule {schedule.id!r} for the workers {group!r} in {self.coordination.name}, "
                        f"and this one is for {schedule.worker_id!r}. Give it another id, or remove the other first."
                    ]
                )
        return await self._book.put(schedule, self.now())

    async def pause(self, schedule_id: str) -> None:
        """No tick of it runs from now on; raises `NoSuchSchedule`. If cancelled, it may be done."""
        if not await self._book.pause(schedule_id):
            raise _missing(schedule_id, await self.entries())

    async def resume(self, schedule_id: str) -> None:
        """Its ticks run again, also where failures had stopped it; raises `NoSuchSchedule`.

        If cancelled, it may be done.
        """
        if not await self._book.resume(schedule_id, self.now()):
            raise _missing(schedule_id, await self.entries())

    async def remove(self, schedule_id: str) -> None:
        """Take it out, with its progress; raises `NoSuchSchedule`. If cancelled, it may be done."""
        if not await self._book.remove(schedule_id):
            raise _missing(schedule_id, await self.entries())

    async def by_hand(self, schedule_id: str) -> Publication:
        """The message that has it run now, whether it is paused or not; raises `NoSuchSchedule`.

        If cancelled, nothing changes.
        """
        return message_by_hand(await self.entry(schedule_id), self.now())


def planned(to: Destination, keywords: Mapping[str, object]) -> Schedule:
    """The schedule of a job that these keywords say, those of `ScheduleKeywords`.

    Raises `SettingsError` with every mistake.
    """
    schedule_id = keywords.get("id")
    name = to.job_name if schedule_id is None else str(schedule_id)
    try:
        said = said_with({word: value for word, value in keywords.items() if word != "id"})
        return make_schedule(name, said, job=to.job_name, worker_id=to.worker_id, pattern=to.pattern, origin="client")
    except SettingsError as error:
        raise SettingsError([f"Schedule {name!r}: {problem}" for problem in error.problems]) from None


def message_by_hand(entry: Entry, now: Millis) -> Publication:
    """A run of the schedule's job that is no tick: no other one waits for it, and it counts for nothing."""
    publication = tick_message(entry, now)
    message = publication.message
    occurrence_id = OccurrenceId(str(uuid.uuid4()))
    ours = {headers.OCCURRENCE_ID: occurrence_id, headers.ORIGIN: "client"}
    rest = {name: value for name, value in message.headers.items() if name != headers.TICK}
    return evolve(publication, message=evolve(message, headers={**rest, **ours}, correlation_id=occurrence_id))


def _missing(schedule_id: str, entries: Sequence[Entry]) -> NoSuchSchedule:
    names = [entry.schedule.id for entry in entries]
    spelled = {name.lower(): name for name in names}
    near = difflib.get_close_matches(schedule_id.lower(), spelled, n=1)
    return NoSuchSchedule(schedule_id, names, spelled[near[0]] if near else None)
