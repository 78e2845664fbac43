"""The reader of `failed_jobs_queue` (WIRE.md 4.5): whatever goes wrong, it puts the message back and gets it again.

With a prefetch of 1 that is the end of it for all workers, so this is where a careless worker does most harm.
"""

import math
from decimal import Decimal
from typing import Final

from attrs import define, field
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import Database, FailedOccurrence, FailureType, OccurrenceStatus
from tests.support.api_model.findings import Findings, Rule
from tests.support.api_model.messages import DeadLetter, read_dead_letter
from tests.support.api_model.net_json import Unparsable
from tests.support.api_model.net_values import is_guid
from tests.support.api_model.postgres import DISPLAY_NAME, JOB_NAME, Refused, check_json_text, check_text
from tests.support.api_model.settings import Generation
from tests.support.api_model.topology import FAILED_JOBS
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage

__all__ = ["NO_EXCEPTION", "DeadLetterReader"]

NO_EXCEPTION: Final = "No exception recorded"
"""Stands for the API's own sentence, which nobody parses."""
MAX_EXCEPTION: Final = 3000
INT32: Final = range(-(2**31), 2**31)


class Thrown(Exception):
    """The real reader throws here; its answer to every exception is a requeue."""


@define(eq=False)
class DeadLetterReader:
    """Makes a failed occurrence of each message."""

    database: Database
    findings: Findings
    conduct: Conduct
    generation: Generation
    parked: list[WireMessage] = field(factory=list)
    """What comes back for ever."""

    def take(self, wire: WireMessage) -> list[Settlement]:
        """A message arrives. One that would come back for ever is put aside, for the test's own sake."""
        self.conduct.judge_envelope(FAILED_JOBS, wire)
        copy = self.conduct.is_copy(FAILED_JOBS, wire)
        try:
            row = self._row(wire)
        except (Unparsable, Refused, Thrown) as error:
            self.findings.requeue(FAILED_JOBS, str(error), wire)
            self.parked.append(wire)
            return [Settlement(FAILED_JOBS, wire, Verdict.PARK)]
        if row is not None:
            before = [other for other in self.database.failed_occurrences if other.occurrence_id == row.occurrence_id]
            if before and not copy:
                self.findings.complain(Rule.SECOND_DEAD_LETTER, row.occurrence_id, wire)
            self.database.failed_occurrences.append(row)
        return [Settlement(FAILED_JOBS, wire, Verdict.ACK)]

    def _row(self, wire: WireMessage) -> FailedOccurrence | None:
        letter = read_dead_letter(wire.body)
        if letter is None:
            self.findings.complain(Rule.DEAD_LETTER_FORM, "the document null", wire)
            return None
        occurrence_id = self._occurrence_id(wire)
        max_retries = _integer(wire, "MaxRetries", 3)
        retry_count = _integer(wire, "x-retry-count", 0)
        self._judge(wire, letter, occurrence_id)
        occurrence = self.database.occurrences.get(occurrence_id or "")
        if occurrence is None:
            self.findings.complain(Rule.UNKNOWN_OCCURRENCE, f"dead letter of {occurrence_id}", wire)
            return None
        if letter.id not in self.database.jobs:
            raise Refused(f"JobId: there is no job {letter.id}")
        exception = (letter.exception or NO_EXCEPTION)[:MAX_EXCEPTION]
        check_text(letter.display_name, "DisplayName", limit=DISPLAY_NAME, required=True)
        check_text(letter.job_name, "JobNameInWorker", limit=JOB_NAME, required=True)
        check_json_text(letter.job_data, "JobData")
        check_text(exception, "Exception")
        return FailedOccurrence(
            job_id=letter.id,
            occurrence_id=occurrence.id,
            display_name=letter.display_name or "",
            job_name=letter.job_name or "",
            worker_id=occurrence.worker_id,
            job_data=letter.job_data,
            exception=exception,
            retry_count=retry_count,
            max_retries=max_retries,
            failure_type=_failure_type(letter, retry_count, max_retries),
            original_execute_at=occurrence.start_time or occurrence.created_at,
        )

    def _occurrence_id(self, wire: WireMessage) -> str | None:
        letter, value = wire.headers.get(self.generation.value, ("V", None))
        if value is not None:
            if letter != "S":
                raise Thrown(f"header {self.generation.value} is of type {letter!r}, no long string")
            if not is_guid(value):
                raise Thrown(f"header {self.generation.value} is no guid: {value!r}")
            return str(value).lower()
        fallback = wire.properties.get("correlation_id")
        if fallback is None or fallback == "":
            return None
        if not is_guid(fallback):  # what the API really does is not known; this is the worse of the two
            raise Thrown(f"correlation_id is no guid: {fallback!r}")
        return str(fallback).lower()

    def _judge(self, wire: WireMessage, letter: DeadLetter, occurrence_id: str | None) -> None:
        complain = self.findings.complain
        if any(name.startswith(("x-death", "x-first-death", "x-last-death")) for name in wire.headers):
            complain(Rule.RAW_DEAD_LETTER, f"{letter.job_name} of {occurrence_id}", wire)
            return
        for name in ("x-retry-count", "MaxRetries"):
            kind, value = wire.headers.get(name, ("", None))
            if kind not in {"I", "l"}:
                complain(Rule.HEADER_TYPE, f"{name} = {value!r} of type {kind or 'none'}", wire)
        kind, value = wire.headers.get("CorrelationId", ("", None))
        if kind != "S" or value != occurrence_id:
            complain(Rule.DEAD_LETTER_FORM, f"header CorrelationId is {value!r}", wire)
        if wire.properties.get("correlation_id") != occurrence_id:
            complain(Rule.DEAD_LETTER_FORM, f"correlation_id is {wire.properties.get('correlation_id')!r}", wire)
        if wire.properties.get("delivery_mode") != 2:
            complain(Rule.DEAD_LETTER_FORM, "not persistent", wire)
        if letter.status != OccurrenceStatus.FAILED or not letter.exception:
            complain(Rule.DEAD_LETTER_FORM, f"Status {letter.status}, Exception {letter.exception!r}", wire)


def _integer(wire: WireMessage, name: str, absent: int) -> int:
    """As `Convert.ToInt32` has it: any number in range and any bool, but neither bytes, which texts are, nor dates."""
    if name not in wire.headers:
        return absent
    kind, value = wire.headers[name]
    match kind, value:
        case "V", _:
            return 0
        case "t" | "b" | "B" | "s" | "u" | "I" | "i" | "l", int() if int(value) in INT32:
            return int(value)
        case "f" | "d" | "D", float() | Decimal() if math.isfinite(value) and round(value) in INT32:
            return round(value)
    raise Thrown(f"header {name} is no integer: {value!r} of type {kind!r}")


def _failure_type(letter: DeadLetter, retry_count: int, max_retries: int) -> FailureType:
    if retry_count > 0 and retry_count >= max_retries:
        return FailureType.MAX_RETRIES_EXCEEDED
    match letter.status:
        case OccurrenceStatus.TIMED_OUT:
            return FailureType.TIMEOUT
        case OccurrenceStatus.CANCELLED:
            return FailureType.CANCELLED
        case OccurrenceStatus.UNKNOWN:
            return FailureType.WORKER_CRASH
        case OccurrenceStatus.FAILED if "zombie" in (letter.exception or "").lower():
            return FailureType.ZOMBIE_DETECTION
    return FailureType.UNHANDLED_EXCEPTION
