"""Whether a worker keeps the rules that the API itself does not check, message by message in order of arrival.

Copies with an equal message id are judged once: at least once is what we promise (RELIABILITY.md 2.2).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, field
from tests.support.api_model.database import ENDS, Database, Occurrence, OccurrenceStatus
from tests.support.api_model.findings import Findings, Rule
from tests.support.api_model.messages import LogMessage, Status
from tests.support.api_model.net_values import EMPTY_GUID, YEAR_ONE, NetDate
from tests.support.api_model.settings import Generation
from tests.support.api_model.topology import API_QUEUES
from tests.support.api_model.wire_message import WireMessage, message_id

__all__ = ["Conduct"]

MAX_EXCEPTION: Final = 64 * 1024
"""Bytes, as W5 of RELIABILITY.md 2.6 has them."""
MAX_RESULT: Final = 256 * 1024
MAX_LOG_MESSAGE: Final = 8 * 1024
MAX_LOGS: Final = 100
"""Entries of one message (WIRE.md 3.3)."""


@define(eq=False)
class Conduct:
    """Remembers what came before, and complains."""

    database: Database
    findings: Findings
    generation: Generation
    _seen: dict[str, tuple[bytes, str | None]] = field(factory=dict)
    """The body and the sending instance by message id."""
    _ended: dict[str, Status] = field(factory=dict)
    """The final status by occurrence."""

    def judge_envelope(self, queue: str, wire: WireMessage) -> None:
        """How it was published."""
        expected = API_QUEUES[queue]
        if (wire.exchange, wire.routing_key) != (expected.exchange, expected.key):
            self.findings.complain(Rule.ROUTE, f"{queue} by {wire.exchange!r}, {wire.routing_key!r}", wire)
        if wire.properties.get("delivery_mode") != 2:
            self.findings.note(Rule.NOT_PERSISTENT, queue, wire)
        if message_id(wire) is None:
            self.findings.note(Rule.NO_MESSAGE_ID, queue, wire)

    def is_copy(self, queue: str, wire: WireMessage, instance_id: str | None = None) -> bool:
        """Whether its id came before.

        Two instances that ran the same attempt give different messages the same id; of one instance that is a defect.
        Without an id, what the broker delivers again is taken for a copy.
        """
        identity = message_id(wire)
        if identity is None:
            return wire.redelivered
        known = self._seen.get(f"{queue} {identity}")
        if known is None:
            self._seen[f"{queue} {identity}"] = (wire.body, instance_id)
            return False
        if known[0] != wire.body and known[1] == instance_id:
            self.findings.complain(Rule.OTHER_BYTES, f"{queue}: {identity}", wire)
        self.findings.note(Rule.COPY, f"{queue}: {identity}", wire)
        return True

    def judge_status(self, status: Status, wire: WireMessage, occurrence: Occurrence | None, *, copy: bool) -> None:
        """One status update, at its arrival."""
        about = f"{_name(status)} for {status.occurrence_id}"
        complain = self.findings.complain
        if occurrence is None:
            rule = Rule.EMPTY_OCCURRENCE if status.occurrence_id == EMPTY_GUID else Rule.UNKNOWN_OCCURRENCE
            complain(rule, about, wire)
        elif status.job_id != occurrence.job_id and not (occurrence.is_external and status.job_id == EMPTY_GUID):
            complain(Rule.WRONG_JOB_ID, f"{about}: {status.job_id} instead of {occurrence.job_id}", wire)
        for problem in [*_member_problems(status), *self._sender_problems(status)]:
            complain(Rule.STATUS_MEMBERS, f"{about}: {problem}", wire)
        self._judge_dates(about, (status.start_time, status.end_time, status.message_timestamp), wire)
        self._judge_guids(wire, (status.occurrence_id, status.job_id))
        self._judge_size(about, {"Exception": (status.exception, MAX_EXCEPTION), "Result": (status.result, MAX_RESULT)})
        if copy:
            return
        ended = self._ended.get(status.occurrence_id)
        if status.status == OccurrenceStatus.RUNNING and ended is not None:
            complain(Rule.RUNNING_AFTER_FINAL, f"{about} behind {_name(ended)}", wire)
        elif status.status in ENDS:
            if ended is not None:
                complain(Rule.SECOND_FINAL, f"{about} after {_name(ended)}", wire)
            self._ended[status.occurrence_id] = status

    def begin_again(self, occurrence_id: str) -> None:
        """A workflow dispatches the occurrence once more, so that it may run and end again (WIRE.md 12.1)."""
        self._ended.pop(occurrence_id, None)

    def judge_logs(self, queue: str, logs: LogMessage, wire: WireMessage) -> None:
        """One log message, at its arrival."""
        complain = self.findings.complain
        self.is_copy(queue, wire)
        if logs.without_log:
            complain(Rule.LOG_MEMBERS, f"{logs.without_log} entries without a log", wire)
        if len(logs.records) > MAX_LOGS:
            complain(Rule.LOG_MEMBERS, f"{len(logs.records)} entries in one message", wire)
        if logs.is_batch and logs.count is not None and logs.count != len(logs.records) + logs.without_log:
            complain(Rule.LOG_MEMBERS, f"Count is {logs.count} for {len(logs.records)} entries", wire)
        for record in logs.records:
            about = f"log of {record.occurrence_id}"
            if record.occurrence_id == EMPTY_GUID:
                complain(Rule.EMPTY_OCCURRENCE, f"{about}: {record.message}", wire)
            if not record.level or record.message is None or record.timestamp == YEAR_ONE or not record.worker_id:
                complain(Rule.LOG_MEMBERS, f"{about} without level, message, timestamp or worker", wire)
            self._judge_dates(about, (record.timestamp, record.message_timestamp), wire)
            self._judge_size(about, {"Message": (record.message, MAX_LOG_MESSAGE)})

    def _sender_problems(self, status: Status) -> Iterable[str]:
        if not status.worker_id:
            yield "no WorkerId"
        if self.generation is Generation.V1_1:
            if not status.instance_id:
                yield "no InstanceId"
            elif status.instance_id == status.worker_id:
                yield "WorkerId is the instance, not the group"

    def _judge_dates(self, about: str, dates: Iterable[NetDate | None], wire: WireMessage) -> None:
        for date in dates:
            if date is not None and not date.is_utc:
                self.findings.complain(Rule.DATE_FORM, f"{about}: {date.text}", wire)

    def _judge_guids(self, wire: WireMessage, guids: Iterable[str]) -> None:
        for guid in guids:
            if guid != EMPTY_GUID and guid.encode() not in wire.body:
                self.findings.complain(Rule.GUID_FORM, guid, wire)

    def _judge_size(self, about: str, texts: Mapping[str, tuple[str | None, int]]) -> None:
        for name, (text, limit) in texts.items():
            if text is not None and len(text.encode()) > limit:
                self.findings.complain(Rule.SIZE, f"{about}: {name} has {len(text.encode())} bytes, more than {limit}")


def _member_problems(status: Status) -> Iterable[str]:
    """What WIRE.md 3.1 says is filled per kind, and what a final needs to stand for itself (RELIABILITY.md 2.6, W4)."""
    told = {
        "StartTime": status.start_time,
        "EndTime": status.end_time,
        "DurationMs": status.duration_ms,
        "Result": status.result,
        "Exception": status.exception,
    }
    present = {name for name, value in told.items() if value is not None}
    if status.status == OccurrenceStatus.RUNNING:
        if wrong := present - {"StartTime"}:
            yield f"a Running has no {', '.join(sorted(wrong))}"
    elif status.status in ENDS:
        text = "Result" if status.status in {OccurrenceStatus.COMPLETED, OccurrenceStatus.CANCELLED} else "Exception"
        ran = status.status in {OccurrenceStatus.COMPLETED, OccurrenceStatus.TIMED_OUT}
        wanted = {"EndTime", text} | ({"StartTime", "DurationMs"} if ran else set())
        if missing := wanted - present:
            yield f"no {', '.join(sorted(missing))}"
        if wrong := present - {"EndTime", "StartTime", "DurationMs", text}:
            yield f"{', '.join(sorted(wrong))} beside {text}"
        if ("StartTime" in present) != ("DurationMs" in present):
            yield "StartTime and DurationMs belong together"
    else:
        yield "no status that a worker reports"
    if status.duration_ms is not None and status.duration_ms < 0:
        yield f"DurationMs is {status.duration_ms}"
    if status.message_timestamp == YEAR_ONE:
        yield "no MessageTimestamp"


def _name(status: Status) -> str:
    try:
        return OccurrenceStatus(status.status).name.title()
    except ValueError:
        return f"status {status.status}"
