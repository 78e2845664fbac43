"""Rows that wait for their confirm: which go next, and what the broker's answer means for them.

Separate because all of it is decided synchronously, with the time passed in; the courier only sends and waits.
An outbox on disk needs the same order in memory, so it shares this with the one that lives in memory alone.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from attrs import define, field

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.stage import Stage
from milvaion_trio.outbox.statistics import OutboxStatistics
from milvaion_trio.outbox.tally import Tally
from milvaion_trio.ports import Confirmation, Report, ReportKind

__all__ = ["Backlog", "Row", "retry_delay"]

FIRST_RETRY = 1.0
LONGEST_RETRY = 30.0
"""A refusal by chance is over within a second; a queue that is full or missing needs minutes and a human."""


@define(eq=False)
class Row:
    """A report on its way."""

    report: Report
    number: int
    """Its place in the order of all rows."""
    lane: OccurrenceId | ReportKind
    """What must stay in order: the rows of an occurrence, or those of one kind that belong to none."""
    stage: Stage | None
    """`None` for rows of no occurrence."""
    times_refused: int = 0
    is_stored: bool = False
    """Whether it is in a file too."""
    is_queued: bool = False
    """Whether it may be sent, or has been."""
    is_gone: bool = False
    """Confirmed, or not worth sending any more."""

    @property
    def is_superseded(self) -> bool:
        """Whether it says that an attempt runs which is concluded meanwhile."""
        return self.report.kind is ReportKind.RUNNING and self.stage is not None and self.stage.is_concluded


@define(eq=False)
class _RefusedLane:
    """Rows that wait because the broker refused the first of them."""

    retry_at: float
    rows: list[Row] = field(factory=list, init=False)


@define(eq=False)
class Backlog:
    """All rows without a confirm. Each is waiting, in a refused lane, in the batch that the courier has, or elsewhere.

    Elsewhere: counted (`enter`) and not to be sent yet (`queue`), because it is on its way to a file or only there.
    """

    pending: int = field(default=0, init=False)
    """All of them, wherever they are."""
    pending_logs: int = field(default=0, init=False)
    pending_log_bytes: int = field(default=0, init=False)
    queued: int = field(default=0, init=False)
    """How many may be sent."""
    queued_bytes: int = field(default=0, init=False)
    confirmed: int = field(default=0, init=False)
    superseded: int = field(default=0, init=False)
    retried: int = field(default=0, init=False)
    """How often a row had to be sent again, because it was refused or its link was lost."""
    last_number: int = field(default=0, init=False)
    gone_from_file: list[int] = field(factory=list, init=False)
    """Numbers of stored rows that are gone, until somebody removes them there and clears this."""
    _waiting: deque[Row] = field(factory=deque, init=False)
    _refused: dict[OccurrenceId | ReportKind, _RefusedLane] = field(factory=dict, init=False)
    _taken: Sequence[Row] = field(default=(), init=False)
    """The batch that the courier has."""
    _stages: dict[OccurrenceId, Stage] = field(factory=dict, init=False)
    """The newest stage of each occurrence that has rows pending."""

    def append(self, report: Report, occurrence_id: OccurrenceId | None) -> bool:
        """Take a row, as one of that occurrence; `False` for a heartbeat of an attempt that is concluded already."""
        row = self.enter(report, occurrence_id)
        if row is not None:
            self.queue(row)
        return row is not None

    def enter(self, report: Report, occurrence_id: OccurrenceId | None) -> Row | None:
        """Count a row as the last one, not to be sent before it is queued; `None` as `append`."""
        kind = report.kind
        stage = None
        if occurrence_id is not None:
            stage = self._stages.get(occurrence_id)
            if stage is not None and stage.is_concluded and kind is ReportKind.HEARTBEAT:
                return None
            is_next = stage is not None and (stage.is_lost or (stage.is_concluded and kind is ReportKind.RUNNING))
            if stage is None or is_next:
                stage = self._stages[occurrence_id] = Stage(occurrence_id, self.last_number, stage)
            stage.pending += 1
            if kind is ReportKind.FINAL:
                stage.is_concluded = True
                stage.finals += 1
        if kind is ReportKind.LOG:
            self.pending_logs += 1
            self.pending_log_bytes += len(report.publication.message.body)
        self.pending += 1
        self.last_number += 1
        return Row(report, self.last_number, occurrence_id or kind, stage)

    def queue(self, row: Row) -> None:
        """Let a row be sent, behind all that are queued."""
        row.is_queued = True
        self.queued += 1
        self.queued_bytes += len(row.report.publication.message.body)
        self._waiting.append(row)

    # --- rows of a file -----------------------------------------------------------------------------------------------

    def recount(self, tally: Tally) -> None:
        """Count rows that an earlier process left in the file."""
        self.pending += tally.rows
        self.pending_logs += tally.log_rows
        self.pending_log_bytes += tally.log_bytes
        if tally.occurrence_id is not None:
            stage = self._stages[tally.occurrence_id] = Stage(tally.occurrence_id, is_recovered=True)
            stage.pending, stage.finals, stage.is_concluded = tally.rows, tally.finals, tally.finals > 0

    def again(self, report: Report, number: int) -> Row:
        """A row that was counted, was only in the file, and was read again."""
        stage = None
        if report.occurrence_id is not None:
            stage = self._stages.get(report.occurrence_id)
            while stage is not None and stage.after >= number and stage.earlier is not None:
                stage = stage.earlier
        return Row(report, number, report.occurrence_id or report.kind, stage, is_stored=True)

    def lasting(self) -> list[Row]:
        """The queued rows that have to last: statuses that say how something ended, and logs."""
        lasts = (ReportKind.FINAL, ReportKind.LOG)
        return [row for row in self._queued() if row.report.kind in lasts]

    def lose(self, kept: Iterable[Row]) -> set[OccurrenceId]:
        """Forget all rows but the queued ones and `kept`, since their file is gone.

        Returns the occurrences whose conclusions went with it.
        """
        left = [*self._queued(), *kept]
        self.pending = len(left)
        logs = [row for row in left if row.report.kind is ReportKind.LOG]
        self.pending_logs = len(logs)
        self.pending_log_bytes = sum(len(row.report.publication.message.body) for row in logs)
        rows = Counter(id(row.stage) for row in left)
        finals = Counter(id(row.stage) for row in left if row.report.kind is ReportKind.FINAL)
        lost: set[OccurrenceId] = set()
        for occurrence_id, newest in list(self._stages.items()):
            stage: Stage | None = newest
            while stage is not None:
                if stage.lose_all_but(rows[id(stage)], finals[id(stage)]):
                    lost.add(occurrence_id)
                stage = stage.earlier
            del self._stages[occurrence_id]
            while newest.earlier is not None and not newest.pending:
                newest = newest.earlier
            if newest.pending:
                self._stages[occurrence_id] = newest
        for row in left:
            row.is_stored = False
        self.gone_from_file.clear()
        return lost

    def _queued(self) -> list[Row]:
        return [*self._waiting, *self._taken, *(row for lane in self._refused.values() for row in lane.rows)]

    # --- on the way ---------------------------------------------------------------------------------------------------

    def stage(self, occurrence_id: OccurrenceId) -> Stage | None:
        """The newest stage of the occurrence, `None` when no row of it is pending."""
        return self._stages.get(occurrence_id)

    def statistics(self, dropped_logs: int) -> OutboxStatistics:
        """The outbox in numbers, with those of the logs that never came here."""
        return OutboxStatistics(
            pending=self.pending,
            pending_logs=self.pending_logs,
            confirmed=self.confirmed,
            dropped_logs=dropped_logs,
            superseded=self.superseded,
            retried=self.retried,
        )

    @property
    def has_refused(self) -> bool:
        """Whether some rows wait for another try."""
        return bool(self._refused)

    @property
    def next_retry(self) -> float:
        """When refused rows may be taken again; infinity when there are none."""
        return min((lane.retry_at for lane in self._refused.values()), default=math.inf)

    def take(self, limit: int, now: float) -> list[Row]:
        """The next rows to send, in order, at most `limit`. They are the caller's until settled or given back."""
        if self._refused:
            self._rejoin(now)
        batch: list[Row] = []
        waiting = self._waiting
        while waiting and len(batch) < limit:
            row = waiting[0]
            if self._refused and row.lane in self._refused:
                self._wait_behind(waiting.popleft())
            elif batch and row.stage is not None and (row.stage.must_wait or _may_be_next(row, batch)):
                # What it waits for is in this batch: a refusal would swap the two.
                break
            else:
                batch.append(waiting.popleft())
        self._taken = batch
        return batch

    def settle(self, batch: Sequence[Row], answers: Sequence[Confirmation], now: float) -> None:
        """Forget what is confirmed; the rest waits for another try, and what comes after it in its lane does too."""
        self._taken = ()
        for row, answer in zip(batch, answers, strict=True):
            if answer is Confirmation.CONFIRMED:
                self.confirmed += 1
                self._unqueue(row)
            else:
                self._hold(row, now)

    def give_back(self, batch: Sequence[Row]) -> None:
        """Nobody knows what arrived of the batch: all of it is next again, in the same order."""
        self._taken = ()
        self.retried += len(batch)
        self._waiting.extendleft(reversed(batch))

    def start_over(self) -> None:
        """For a fresh link: all rows in their first order, without those that say nothing any more."""
        rows = self._queued()
        self._refused.clear()
        self._waiting.clear()
        for row in sorted(rows, key=_number):
            if row.is_superseded or row.report.kind is ReportKind.HEARTBEAT:
                self._drop(row)
            else:
                self._waiting.append(row)

    def _rejoin(self, now: float) -> None:
        """Put the rows of lanes whose time has come ahead of all that came later."""
        due = [key for key, lane in self._refused.items() if lane.retry_at <= now]
        rows = [row for key in due for row in self._refused.pop(key).rows]
        self._waiting.extendleft(sorted(rows, key=_number, reverse=True))

    def _hold(self, row: Row, now: float) -> None:
        if row.is_superseded or row.report.kind is ReportKind.HEARTBEAT:
            # Its final may be confirmed already, from the same batch: Running must not come behind it (RELIABILITY W2).
            self._drop(row)
            return
        if row.lane not in self._refused:
            self._refused[row.lane] = _RefusedLane(now + retry_delay(row.times_refused))
        self._refused[row.lane].rows.append(row)
        row.times_refused += 1
        self.retried += 1

    def _wait_behind(self, row: Row) -> None:
        if row.report.kind is ReportKind.HEARTBEAT:
            self._drop(row)
        else:
            self._refused[row.lane].rows.append(row)

    def _drop(self, row: Row) -> None:
        if row.report.kind is ReportKind.RUNNING:
            self.superseded += 1
        self._unqueue(row)

    def _unqueue(self, row: Row) -> None:
        self.queued -= 1
        self.queued_bytes -= len(row.report.publication.message.body)
        self.forget(row)

    def forget(self, row: Row) -> None:
        """Count a row out that is not queued, or no longer."""
        row.is_gone = True
        if row.is_stored:
            self.gone_from_file.append(row.number)
        self.pending -= 1
        if row.report.kind is ReportKind.LOG:
            self.pending_logs -= 1
            self.pending_log_bytes -= len(row.report.publication.message.body)
        stage = row.stage
        is_final = row.report.kind is ReportKind.FINAL
        if stage is not None and stage.settle_one(is_final=is_final) and self._stages.get(stage.occurrence_id) is stage:
            del self._stages[stage.occurrence_id]


def retry_delay(times_refused: int) -> float:
    """Seconds until the next try: 1, 2, 4, 8, 16, 30, 30 …"""
    return min(FIRST_RETRY * 2.0 ** min(times_refused, 10), LONGEST_RETRY)


def _may_be_next(row: Row, batch: Sequence[Row]) -> bool:
    """Whether it may end another attempt of which an earlier process left the end too: nobody knows them apart."""
    return (
        row.report.kind is ReportKind.FINAL
        and row.stage is not None
        and row.stage.is_recovered
        and any(other.stage is row.stage and other.report.kind is ReportKind.FINAL for other in batch)
    )


def _number(row: Row) -> int:
    return row.number
