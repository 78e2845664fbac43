"""Log entries of jobs on their way into batches: buffered per occurrence, sent in order, handed in from any thread.

Separate from the reporter, because job code comes here with whatever it likes, from wherever it likes, at any time:
nothing of that may raise, wait, or reach another job.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial

import trio

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import LogEntry, LogLevel, LogRecord
from milvaion_trio.model.wire import encode_logs
from milvaion_trio.ports import Outbox, Report, ReportKind

__all__ = ["BATCH_DELAY", "BATCH_SIZE", "LogBuffer", "as_logged", "in_trios_thread"]

BATCH_SIZE = 50
"""Entries per log message, as the .NET worker (WIRE.md 3.3)."""

BATCH_DELAY = 0.5
"""Seconds an entry waits for company, as the .NET worker (WIRE.md 3.3)."""

_log = logging.getLogger("milvaion_trio.runtime")


def as_logged(message: object, data: dict[str, object] | None) -> tuple[str, dict[str, JsonValue] | None]:
    """What a job gave to its log, in the form in which it is sent; what has no such form is shown as `str` or `repr`.

    Called where the job calls, so that what it changes afterwards does not show.
    """
    text = message if type(message) is str else _shown(message, str)
    return text, None if data is None else {name: _json(value) for name, value in data.items()}


def in_trios_thread(token: trio.lowlevel.TrioToken, act: Callable[[], None]) -> None:
    """Do it now, or if this is another thread, soon and in order."""
    if trio.lowlevel.in_trio_run():
        act()
    else:
        with contextlib.suppress(trio.RunFinishedError):  # of a thread that outlived the program's Trio
            token.run_sync_soon(act)


def _json(value: object) -> JsonValue:
    try:
        return jsonable(value)
    except Exception:
        return _shown(value, repr)


def _shown(value: object, show: type[str] | Callable[[object], str]) -> str:
    try:
        return f"{show(value)} "[:-1]  # a plain str, even if the object returns a subclass with methods of its own
    except Exception as error:
        return f"<{type(value).__name__}, whose {show.__name__} raises {type(error).__name__}>"


class LogBuffer:
    """The entries that are not in the outbox yet. A message holds entries of one occurrence only.

    Milvaion would take mixed ones. Unmixed, they keep their place among the occurrence's statuses, and its message is
    acked only when they are confirmed.
    """

    def __init__(
        self, identity: Identity, outbox: Outbox, now: Callable[[], Instant], next_id: Callable[[], str]
    ) -> None:
        self._identity = identity
        self._outbox = outbox
        self._now = now
        self._next_id = next_id
        self._token = trio.lowlevel.current_trio_token()
        self._entries: dict[OccurrenceId, list[LogRecord]] = {}
        self._count = 0
        self._dropped: dict[OccurrenceId, int] = {}
        self._first_entry = trio.Event()
        self._is_closed = False

    def log(
        self,
        occurrence_id: OccurrenceId,
        level: LogLevel,
        message: object,
        data: dict[str, object] | None,
        category: str,
    ) -> None:
        """Take what a job logs, from any thread. Never raises, whatever it is."""
        text, facts = as_logged(message, data)
        in_trios_thread(self._token, partial(self._log, occurrence_id, level, text, facts, category))

    def _log(
        self,
        occurrence_id: OccurrenceId,
        level: LogLevel,
        text: str,
        facts: Mapping[str, JsonValue] | None,
        category: str,
    ) -> None:
        entry = LogEntry(timestamp=self._now(), level=level, message=text, data=facts, category=category)
        self.take(occurrence_id, entry)

    def flush(self) -> None:
        """Hand every entry to the outbox."""
        for occurrence_id in list(self._entries):
            for records, report in self._reports(occurrence_id):
                if not self._outbox.add(report):
                    self._dropped[occurrence_id] = self._dropped.get(occurrence_id, 0) + len(records)
        if self._first_entry.is_set():
            self._first_entry = trio.Event()

    def rest_of(self, occurrence_id: OccurrenceId) -> list[Report]:
        """The last entries of an occurrence, for its conclusion, with a word about those that were dropped."""
        dropped = self._dropped.pop(occurrence_id, 0)
        if dropped:
            message = f"{dropped} log lines were dropped: the broker was away and the buffer for logs was full"
            self._log(occurrence_id, LogLevel.WARNING, message, {"DroppedLines": dropped}, "UserCode")
        return [report for _, report in self._reports(occurrence_id)]

    async def flush_regularly(self) -> None:
        """Flush every half second, counted from the first entry. Runs until cancelled."""
        while True:
            await self._first_entry.wait()
            await trio.sleep(BATCH_DELAY)
            self.flush()

    def close(self) -> None:
        """Flush, and from now on take nothing: who still logs is a thread that was left behind."""
        self.flush()
        self._is_closed = True

    def take(self, occurrence_id: OccurrenceId, entry: LogEntry) -> None:
        """Take an entry."""
        if self._is_closed:
            return
        record = LogRecord(
            occurrence_id=occurrence_id,
            worker_id=self._identity.instance_id,
            log=entry,
            message_timestamp=entry.timestamp,
        )
        self._entries.setdefault(occurrence_id, []).append(record)
        self._count += 1
        if self._count >= BATCH_SIZE:
            self.flush()
        else:
            self._first_entry.set()

    def _reports(self, occurrence_id: OccurrenceId) -> list[tuple[list[LogRecord], Report]]:
        records = self._entries.pop(occurrence_id, [])
        self._count -= len(records)
        reports = []
        for start in range(0, len(records), BATCH_SIZE):
            batch = records[start : start + BATCH_SIZE]
            try:
                bodies = encode_logs(batch, self._now(), self._identity.dialect)
            except Exception:
                # A defect of ours; the lines are lost, the job and the others are not.
                _log.exception("%d log lines of occurrence %s could not be encoded", len(batch), occurrence_id)
                continue
            # In the old dialect there is a message per entry.
            shares = [batch] if len(bodies) == 1 else [[record] for record in batch]
            for share, body in zip(shares, bodies, strict=True):
                message = Message(body=body, message_id=self._next_id(), content_type="application/json")
                reports.append(
                    (share, Report(ReportKind.LOG, Publication(message, topology.LOGS_QUEUE), occurrence_id))
                )
        return reports
