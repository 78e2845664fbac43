"""Rows for tests of history stores."""

from typing import Any

from hypothesis import strategies as st

from milvaion_trio.model.history import (
    FailedOccurrence,
    FailureType,
    InstanceRecord,
    LogLine,
    OccurrenceRecord,
    StatusChange,
    WorkerRecord,
)
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = [
    "JOB",
    "NOW",
    "failure",
    "failures",
    "instance",
    "instances",
    "instants",
    "line",
    "lines",
    "numbered",
    "occurrence",
    "occurrences",
    "worker",
    "workers",
]

NOW = Instant.parse("2026-04-02T09:15:30.1234567Z")
JOB = JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077")


def numbered(number: int) -> OccurrenceId:
    """An id; greater numbers are greater ids."""
    return OccurrenceId(f"019d4d8e-91f0-7a3b-b2c6-{number:012x}")


def occurrence(number: int, seconds: float = 0, **fields: Any) -> OccurrenceRecord:
    """One that was created so many seconds after `NOW`."""
    return OccurrenceRecord(id=numbered(number), created_at=NOW.plus(seconds), **fields)


def line(number: int, position: int, seconds: float = 0, **fields: Any) -> LogLine:
    """A line of that occurrence."""
    told = {"key": f"{number:032x}:{position:05}", "level": "Information", "message": f"line {position}", **fields}
    return LogLine(occurrence_id=numbered(number), at=NOW.plus(seconds), **told)


def failure(number: int, seconds: float = 0, **fields: Any) -> FailedOccurrence:
    """A dead letter of that occurrence."""
    told = {"job_id": JOB, "job_name": "ReportJob", "exception": "no", **fields}
    return FailedOccurrence(occurrence_id=numbered(number), failed_at=NOW.plus(seconds), **told)


def worker(name: str, **fields: Any) -> WorkerRecord:
    """A group."""
    return WorkerRecord(worker_id=WorkerId(name), registered_at=NOW, **fields)


def instance(group: str, name: str, **fields: Any) -> InstanceRecord:
    """A process of a group."""
    return InstanceRecord(worker_id=WorkerId(group), instance_id=InstanceId(name), last_heartbeat=NOW, **fields)


texts = st.text(max_size=20)  # with NUL, and beyond the first plane
instants = st.builds(
    lambda ticks, kind: Instant(NOW.ticks + ticks, kind),
    st.sampled_from([0, 1, 2, 36_000_000_000, -36_000_000_000]),
    st.sampled_from(["Z", "Z", "+01:00", "-01:00", ""]),
)
"""Few, in several forms, so that many are the same moment."""
statuses: st.SearchStrategy[OccurrenceStatus | int] = st.sampled_from([*OccurrenceStatus, 42, -1])
int64 = st.integers(-(2**63), 2**63 - 1)


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


occurrences: st.SearchStrategy[OccurrenceRecord] = st.builds(
    OccurrenceRecord,
    id=st.integers(0, 30).map(numbered),
    job_id=_maybe(st.just(JOB)),
    job_name=_maybe(st.sampled_from(["ReportJob", "REPORTJOB", "other", "Ünïcode"])),
    display_name=_maybe(texts),
    worker_id=_maybe(st.sampled_from(["reports", "Reports"])),
    instance_id=_maybe(texts),
    status=statuses,
    created_at=instants,
    execute_at=_maybe(instants),
    start_time=_maybe(instants),
    end_time=_maybe(instants),
    duration_ms=_maybe(int64),
    result=_maybe(texts),
    exception=_maybe(texts),
    job_data=_maybe(texts),
    pattern=_maybe(texts),
    last_heard=_maybe(instants),
    runs=st.integers(0, 9),
    run_started=_maybe(instants),
    changes=st.lists(st.builds(StatusChange, instants, statuses, statuses), max_size=3).map(tuple),
    zombie_timeout=_maybe(st.floats(1, 1e6)),
    schedule_id=_maybe(st.sampled_from(["daily", "hourly"])),
    tick=_maybe(st.integers(0, 10**15)),
    external_id=_maybe(texts),
    source=_maybe(texts),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
lines: st.SearchStrategy[LogLine] = st.builds(
    LogLine,
    key=st.uuids().map(str),
    occurrence_id=st.just(numbered(0)),
    at=instants,
    level=texts,
    message=texts,
    category=_maybe(texts),
    exception_type=_maybe(texts),
    data=_maybe(st.dictionaries(texts, json_values, max_size=3)),
    instance_id=_maybe(texts),
)
failures: st.SearchStrategy[FailedOccurrence] = st.builds(
    FailedOccurrence,
    occurrence_id=st.integers(0, 9).map(numbered),
    failed_at=instants,
    job_id=st.just(JOB),
    job_name=texts,
    display_name=_maybe(texts),
    worker_id=_maybe(texts),
    job_data=_maybe(texts),
    exception=texts,
    retry_count=st.integers(0, 1000),
    failure_type=st.sampled_from(FailureType),
    execute_at=_maybe(instants),
    message=st.binary(max_size=30),
    replayed_as=_maybe(st.just(numbered(99))),
)
workers: st.SearchStrategy[WorkerRecord] = st.builds(
    WorkerRecord,
    worker_id=texts,
    display_name=_maybe(texts),
    registered_at=instants,
    routing_patterns=st.dictionaries(texts, texts, max_size=3),
    job_types=st.lists(texts, max_size=3).map(tuple),
    max_parallel_jobs=st.integers(0, 2**31 - 1),
    version=_maybe(texts),
    heartbeat_interval=st.floats(1, 1e6),
    is_external=st.booleans(),
)
instances: st.SearchStrategy[InstanceRecord] = st.builds(
    InstanceRecord,
    worker_id=texts,
    instance_id=texts,
    host_name=_maybe(texts),
    ip_address=_maybe(texts),
    current_jobs=st.integers(0, 2**31 - 1),
    last_heartbeat=instants,
    lost_at=_maybe(instants),
    stopped_at=_maybe(instants),
)
