"""What the leader holds in memory: every entry, when each has to be looked at next, and what is not written yet.

Nothing here waits, so that no decision can be split by what happens meanwhile. The one who dispatches and the one who
writes both work on it.
"""

import heapq
import logging
from collections.abc import Iterable, Mapping, Sequence

import trio
from attrs import define, evolve, field, frozen

from milvaion_trio.model.instant import Instant
from milvaion_trio.model.schedule import Entry, Millis, OpenRun, Overlap, Progress, RunEnd
from milvaion_trio.policy.scheduling import Decision, Why, decide, due_at, end_seen
from milvaion_trio.scheduler.telling import Begun, Written

__all__ = ["Agenda", "Planned"]

_log = logging.getLogger("milvaion_trio.scheduler")


@frozen(eq=False)
class Planned:
    """A decision that is being carried out."""

    entry: Entry
    """As it was decided on."""
    decision: Decision


@define(eq=False)
class Agenda:
    """The entries of one term of leading."""

    revision: int | None = field(default=None, init=False)
    """Of the book, as it was read last."""
    _entries: dict[str, Entry] = field(factory=dict, init=False)
    _due: dict[str, Millis] = field(factory=dict, init=False)
    _heap: list[tuple[Millis, str]] = field(factory=list, init=False)
    """What `_due` says, and what it said once."""
    _planned: dict[str, Planned] = field(factory=dict, init=False)
    """What is on its way: until that has ended, nothing else is decided about its entry."""
    _unwritten: set[str] = field(factory=set, init=False)
    _taken: dict[RunEnd, None] = field(factory=dict, init=False)
    """Ends that are counted, in progress that is not written yet."""
    _begun: list[Begun] = field(factory=list, init=False)
    """Runs that the book does not have yet."""
    _being_written: int = field(default=0, init=False)
    """How many of them are in what is being written."""
    news: trio.Event = field(factory=trio.Event, init=False)
    """Set when something may have become due earlier; replaced by who waits for it."""
    unwritten: trio.Event = field(factory=trio.Event, init=False)
    """Set while there is something to write."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Sequence[Entry]:
        """All of them."""
        return tuple(self._entries.values())

    # --- what the book says -----------------------------------------------------------------------------------------

    def put(self, entry: Entry, now: Millis) -> None:
        """Take over an entry as the book has it; progress of this term stays, as only the leader makes any."""
        known = self._entries.get(entry.schedule.id)
        if known is not None and known.created == entry.created:
            entry = evolve(entry, progress=known.progress)
            if entry == known and entry.schedule.id in self._due:
                return
        elif entry.progress.created is None:
            entry = evolve(entry, progress=evolve(entry.progress, created=entry.created))
        self._set(entry, now)

    def keep(self, names: Iterable[str]) -> None:
        """Drop every entry but these."""
        for gone in self._entries.keys() - set(names):
            del self._entries[gone]
            self._due.pop(gone, None)
            self._unwritten.discard(gone)

    def count(self, ends: Iterable[RunEnd], now: Millis) -> None:
        """Count ends of runs. Those of what is on its way wait: whoever tells them does so until they are written."""
        for end in ends:
            name = end.schedule_id
            if end in self._taken or name in self._planned:
                continue
            entry = self._entries.get(name)
            if entry is not None:
                # By a clock that is ahead it would be disabled beyond what a resume of now takes back.
                seen = end_seen(entry, evolve(end, at=min(end.at, now)))
                if seen is not entry and all(run.tick != end.tick for run in entry.progress.open_runs):
                    # A leader dispatched it and died before it wrote so, and so before it told anybody.
                    self._begun.append(Begun(entry, OpenRun(end.tick, end.tick)))
                self._changed(seen, now)
            self._taken[end] = None
            self.unwritten.set()

    # --- what is due ------------------------------------------------------------------------------------------------

    @property
    def next_due(self) -> Millis | None:
        """When the next entry has to be looked at; `None` when none has."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def meets_open_run(self, now: Millis) -> bool:
        """Whether something is due whose run of before may have ended without anybody here knowing."""
        places = [0]
        while places:
            place = places.pop()
            if place >= len(self._heap) or self._heap[place][0] > now:
                continue  # what is below is due later still
            due, name = self._heap[place]
            if self._due.get(name) == due:
                entry = self._entries[name]
                if entry.progress.open_runs and entry.schedule.overlap is not Overlap.ALLOW:
                    return True
            places += (2 * place + 1, 2 * place + 2)
        return False

    def plan(self, now: Millis, limit: int) -> list[Planned]:
        """Decide about at most so many due entries; return what has to be carried out, the rest is done."""
        plans = []
        for _ in range(limit):
            due = self.next_due
            if due is None or due > now:
                break
            name = heapq.heappop(self._heap)[1]
            del self._due[name]
            planned = self._decided(self._entries[name], now)
            if planned is not None:
                self._planned[name] = planned
                plans.append(planned)
        return plans

    def done(self, planned: Planned, progress: Progress, now: Millis) -> None:
        """What was planned is carried out."""
        self._over(planned)
        entry = self._entries.get(planned.entry.schedule.id)
        if entry is None:
            return
        if entry.created == planned.entry.created:  # else it is another one of that name, and begins anew
            _tell(planned)
            entry = evolve(entry, progress=progress)
            ticks = frozenset(planned.decision.dispatches)
            self._begun.extend(Begun(entry, run) for run in progress.open_runs if run.tick in ticks)
        self._changed(entry, now)

    def put_off(self, planned: Planned, until: Millis) -> None:
        """What was planned may not have been carried out: decide anew then."""
        self._over(planned)
        if planned.entry.schedule.id in self._entries:
            self._schedule(planned.entry.schedule.id, until)

    # --- what is to be written --------------------------------------------------------------------------------------

    def to_write(self) -> tuple[Mapping[str, Progress], Sequence[RunEnd]]:
        """All progress that the book has not, and the ends that are counted in it."""
        self._being_written = len(self._begun)
        return {name: self._entries[name].progress for name in self._unwritten}, tuple(self._taken)

    def written(self, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> Written:
        """The book has this now; return what can be told of it."""
        entries = []
        for name, told in progress.items():
            entry = self._entries.get(name)
            if entry is None or entry.progress is told:
                self._unwritten.discard(name)
            if entry is not None:
                entries.append(evolve(entry, progress=told))
        begun, self._begun = self._begun[: self._being_written], self._begun[self._being_written :]
        for end in taken:
            self._taken.pop(end, None)
        if not self._unwritten and not self._taken:
            self.unwritten = trio.Event()
        return Written(entries=entries, begun=begun, ended=taken)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _decided(self, entry: Entry, now: Millis) -> Planned | None:
        try:
            decision = decide(entry, now)
        except Exception:  # an entry of a newer version, say: it must not stop the others
            _log.exception("schedule %s: nobody can say when it runs; it rests until it is edited", entry.schedule.id)
            return None
        planned = Planned(entry, decision)
        if decision.dispatches or decision.cancels:
            return planned
        _tell(planned)
        self._changed(evolve(entry, progress=decision.progress), now)
        return None

    def _changed(self, entry: Entry, now: Millis) -> None:
        """Progress was made, or not."""
        name, known = entry.schedule.id, self._entries[entry.schedule.id]
        if entry.progress != known.progress:
            self._unwritten.add(name)
            self.unwritten.set()
            if entry.progress.disabled is not None and entry.progress.disabled != known.progress.disabled:
                _log.error("schedule %s stopped: %s; it goes on when it is resumed", name, entry.progress.disabled_why)
        self._set(entry, now)

    def _set(self, entry: Entry, now: Millis) -> None:
        name = entry.schedule.id
        self._entries[name] = entry
        self._due.pop(name, None)
        if name in self._planned:
            return  # looked at when that has ended
        try:
            due = due_at(entry, now)
        except Exception:
            _log.exception("schedule %s: nobody can say when it runs; it rests until it is edited", name)
            return
        if due is not None:
            self._schedule(name, due)

    def _schedule(self, name: str, due: Millis) -> None:
        self._due[name] = due
        heapq.heappush(self._heap, (due, name))
        self.news.set()

    def _over(self, planned: Planned) -> None:
        name = planned.entry.schedule.id
        if self._planned.get(name) is planned:
            del self._planned[name]


def _tell(planned: Planned) -> None:
    """Log what is left out, now that it is: of what is put off, something else may come."""
    name = planned.entry.schedule.id
    for left_out in planned.decision.left_out:
        level = logging.DEBUG if left_out.why in (Why.PAUSED, Why.DISABLED) else logging.INFO  # these were told once
        last = Instant.from_unix_ms(left_out.tick).text
        why, count = left_out.why.value, left_out.count
        _log.log(level, "schedule %s: ticks left out because of %s: %d, the last at %s", name, why, count, last)
