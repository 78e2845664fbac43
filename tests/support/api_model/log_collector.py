"""The log collector (WIRE.md 4.6): ack at once, store later, and one bad entry spoils its batch."""

from collections.abc import Iterable

from attrs import define, field
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import Database, LogRow
from tests.support.api_model.findings import Findings, Requeue, Rule
from tests.support.api_model.messages import LogRecord, read_logs
from tests.support.api_model.net_json import Unparsable, plain
from tests.support.api_model.postgres import Refused, check_jsonb, check_text
from tests.support.api_model.settings import ApiSettings, Generation
from tests.support.api_model.topology import LOGS
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage

__all__ = ["LogCollector"]


@define(eq=False)
class Waiting:
    """A batch with an entry whose occurrence was not there."""

    entries: list[tuple[LogRecord, WireMessage]]
    since: float
    tries: int = 0


@define(eq=False)
class LogCollector:
    """Keeps entries in memory, so that an API that dies loses them (RELIABILITY.md C9)."""

    database: Database
    findings: Findings
    conduct: Conduct
    settings: ApiSettings
    blocked: Requeue | None = None
    """Set when the database refuses a batch: from then on no log of any worker is stored."""
    _entries: list[tuple[LogRecord, WireMessage]] = field(factory=list)
    _waiting: list[Waiting] = field(factory=list)
    _next: float | None = None

    def take(self, wire: WireMessage, now: float) -> list[Settlement]:
        """A message arrives."""
        self.conduct.judge_envelope(LOGS, wire)
        generation = self.settings.generation
        try:
            logs = read_logs(wire.body, generation.value, batches=generation is Generation.V1_1)
        except Unparsable as error:
            self.findings.drop(LOGS, str(error), wire)
            return [Settlement(LOGS, wire, Verdict.DROP)]
        self.conduct.judge_logs(LOGS, logs, wire)
        if not logs.is_batch and len(self._entries) >= self.settings.log_buffer_limit:
            self.findings.drop(LOGS, "more entries buffered than a single one is added to", wire)
        else:
            self._entries.extend((record, wire) for record in logs.records)
        return [Settlement(LOGS, wire, Verdict.ACK)]

    def tick(self, now: float) -> None:
        """Store a batch when the interval is over, and look at what waits."""
        if self._next is not None and now < self._next:
            return
        self._next = now + self.settings.log_interval
        self._look_at_waiting(now)
        batch = self._entries[: self.settings.log_batch_limit]
        for record, wire in batch:
            try:
                _check(record)
            except Refused as refusal:
                self._stay_blocked(f"batch of {len(batch)}: {refusal}", wire)
                return
        del self._entries[: len(batch)]
        unknown = [(record, wire) for record, wire in batch if record.occurrence_id not in self.database.occurrences]
        for record, wire in unknown:
            self.findings.complain(
                Rule.UNKNOWN_OCCURRENCE, f"log of {record.occurrence_id} holds up {len(batch)} entries", wire
            )
        if not unknown:
            self._store(batch)
        elif self.settings.generation is Generation.V1_1:
            self._waiting.append(Waiting(batch, now))
        else:
            self._store([entry for entry in batch if entry not in unknown])
            self._lose(unknown, "unknown occurrence")

    def forget(self) -> None:
        """The process ends, and with it everything that was acknowledged and not yet stored."""
        self._entries.clear()
        self._waiting.clear()
        self.blocked = None

    @property
    def waiting(self) -> int:
        """Entries taken and not yet stored."""
        return len(self._entries) + sum(len(batch.entries) for batch in self._waiting)

    def _look_at_waiting(self, now: float) -> None:
        for batch in list(self._waiting):
            if all(record.occurrence_id in self.database.occurrences for record, _ in batch.entries):
                self._store(batch.entries)
            else:
                batch.tries += 1
                if batch.tries < self.settings.log_wait_tries and now - batch.since < self.settings.log_wait:
                    continue
                self._lose(batch.entries, "an occurrence of their batch never came")
            self._waiting.remove(batch)

    def _lose(self, entries: list[tuple[LogRecord, WireMessage]], why: str) -> None:
        self.findings.drop(LOGS, f"{len(entries)} log entries: {why}", entries[0][1])
        self.findings.complain(Rule.LOGS_LOST, f"{len(entries)} entries: {why}", entries[0][1])

    def _stay_blocked(self, reason: str, wire: WireMessage) -> None:
        if self.blocked is None:
            self.blocked = self.findings.requeue(LOGS, reason, wire)
        else:
            self.blocked.times += 1

    def _store(self, entries: Iterable[tuple[LogRecord, WireMessage]]) -> None:
        for record, wire in entries:
            self.database.occurrences[record.occurrence_id].logs.append(
                LogRow(
                    timestamp=record.timestamp,
                    level=record.level,
                    message=record.message,
                    data=plain(record.data),
                    category=record.category,
                    exception_type=record.exception_type,
                    wire=wire,
                )
            )


def _check(record: LogRecord) -> None:
    for name in ("level", "message", "category", "exception_type"):
        check_text(getattr(record, name), f"Log.{name}")
    check_jsonb(record.data, "Log.Data")
