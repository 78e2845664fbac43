"""How messages change an occurrence's row (WIRE.md 4.3, 4.8, 4.9), rule by rule."""

from typing import Any

import pytest
from attrs import evolve
from tests.support.amqp_vectors import vector

from milvaion_trio.model.headers import SCHEDULE, TICK
from milvaion_trio.model.history import OccurrenceRecord, StatusChange
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import EMPTY_GUID, ExternalOccurrence, JobMessage, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.wire import decode_status
from milvaion_trio.policy.tracking import (
    MAX_CHANGES,
    dispatched,
    external_seen,
    heard_of,
    is_lost,
    lost,
    status_seen,
)

S = OccurrenceStatus
NOW = Instant.parse("2026-04-02T09:15:30Z")
SECONDS = 1775121330
"""The same."""
ID = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
JOB = JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077")
ENDS = [S.COMPLETED, S.FAILED, S.CANCELLED, S.TIMED_OUT]


def row(status: int = S.QUEUED, **fields: Any) -> OccurrenceRecord:
    return OccurrenceRecord(id=ID, created_at=NOW, status=status, **fields)


def update(status: int, **fields: Any) -> StatusUpdate:
    told = {"worker_id": WorkerId("reports"), "instance_id": InstanceId("reports-1"), "job_id": JOB, **fields}
    return StatusUpdate(occurrence_id=ID, status=status, message_timestamp=NOW, **told)


def job(**fields: Any) -> JobMessage:
    return JobMessage(**{"id": JOB, "job_name_in_worker": "ReportJob", **fields})


def dispatch(
    before: OccurrenceRecord | None = None,
    message: JobMessage | None = None,
    headers: dict[str, object] | None = None,
    timestamp: int | None = SECONDS,
    now: Instant = NOW,
) -> OccurrenceRecord:
    return dispatched(before, ID, message or job(), headers or {}, timestamp, now)


# --- dispatches -------------------------------------------------------------------------------------------------------


def test_a_dispatch_makes_a_queued_occurrence_with_what_the_job_says() -> None:
    made = dispatch(
        message=job(
            display_name="Report",
            job_data='{"a":1}',
            execute_at=NOW.plus(-5),
            worker_id="reports",
            routing_pattern="reports.report.*",
            zombie_timeout_minutes=3,
        )
    )

    assert made == OccurrenceRecord(
        id=ID,
        job_id=JOB,
        job_name="ReportJob",
        display_name="Report",
        worker_id=WorkerId("reports"),
        created_at=NOW,
        execute_at=NOW.plus(-5),
        job_data='{"a":1}',
        pattern="reports.report.*",
        zombie_timeout=180.0,
    )


def test_what_a_dispatch_leaves_empty_is_not_known() -> None:
    """A dispatcher's cache makes "" of null, and workflows send no time."""
    made = dispatch(message=job(id=EMPTY_GUID, job_data="", worker_id="", zombie_timeout_minutes=0))

    assert made == OccurrenceRecord(id=ID, created_at=NOW, job_name="ReportJob")


@pytest.mark.parametrize(
    ("timestamp", "created"),
    [
        (SECONDS - 1, NOW),
        (SECONDS - 3600, NOW.plus(-3600)),
        (SECONDS + 3600, NOW),
        (None, NOW),
        (2**63, NOW),
        (-(2**63), NOW),
    ],
    ids=["just now", "long ago", "by a clock that is ahead", "without a time", "by no clock", "before all times"],
)
def test_a_dispatch_was_when_it_was_read_unless_that_was_long_ago(timestamp: int | None, created: Instant) -> None:
    assert dispatch(timestamp=timestamp).created_at == created


@pytest.mark.parametrize("seconds", [1, 3600])
def test_what_is_dispatched_to_run_at_once_was_dispatched_at_the_time_it_says(seconds: int) -> None:
    """AMQP has whole seconds only: an occurrence must not seem to start before it was dispatched."""
    exact = Instant.from_unix_ns((SECONDS - seconds) * 10**9 + 980_000_000)

    assert dispatch(message=job(execute_at=exact), timestamp=SECONDS - seconds).created_at == exact


def test_a_tick_is_created_when_it_is_read_and_executed_at_its_time() -> None:
    """Made up for after hours, it would else be found lost at once."""
    tick = (SECONDS - 7200) * 1000 + 250

    made = dispatch(headers={SCHEDULE: b"daily", TICK: str(tick)}, timestamp=SECONDS - 7200)

    assert (made.created_at, made.schedule_id, made.tick) == (NOW, "daily", tick)
    assert made.execute_at == NOW.plus(-7200 + 0.25)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "9" * 16, "²", b"\xff", 5])
def test_a_tick_that_is_none_is_none(text: object) -> None:
    assert dispatch(headers={TICK: text}).tick is None


def test_a_dispatch_that_is_read_after_a_status_fills_in_and_leaves_the_status() -> None:
    running = status_seen(None, update(S.RUNNING, start_time=NOW), NOW)

    made = dispatch(running, now=NOW.plus(3), headers={SCHEDULE: "daily", TICK: "5"})

    assert (made.status, made.created_at, made.job_name, made.tick) == (S.RUNNING, NOW, "ReportJob", 5)
    assert made.changes == running.changes


def test_a_dispatch_read_twice_changes_nothing() -> None:
    once = dispatch()

    assert dispatch(once, now=NOW.plus(60)) == once


@pytest.mark.parametrize("end", [S.FAILED, S.TIMED_OUT, S.UNKNOWN])
def test_a_step_that_a_workflow_dispatches_again_waits_again(end: S) -> None:
    """WIRE.md 12.1: under the same id, after its end."""
    ended = row(end, end_time=NOW, exception="no", runs=1)

    again = dispatch(ended, timestamp=SECONDS + 5, now=NOW.plus(5))

    assert (again.status, again.end_time, again.exception, again.runs) == (S.QUEUED, None, None, 1)
    assert again.changes == (StatusChange(NOW.plus(5), end, S.QUEUED),)


@pytest.mark.parametrize(
    ("end", "timestamp"), [(S.FAILED, SECONDS - 5), (S.FAILED, None), (S.COMPLETED, SECONDS + 5), (S.CANCELLED, 2**40)]
)
def test_an_old_dispatch_does_not_bring_back_what_has_ended(end: S, timestamp: int | None) -> None:
    ended = row(end, end_time=NOW)

    assert dispatch(ended, timestamp=timestamp, now=NOW.plus(9)).status == end


# --- statuses ---------------------------------------------------------------------------------------------------------


def test_an_unknown_occurrence_is_made() -> None:
    """A Milvaion API drops it; here the copy of its dispatch may just be late, or was never sent."""
    made = status_seen(None, update(S.RUNNING, start_time=NOW), NOW.plus(1))

    assert made == OccurrenceRecord(
        id=ID,
        job_id=JOB,
        worker_id=WorkerId("reports"),
        instance_id=InstanceId("reports-1"),
        status=S.RUNNING,
        created_at=NOW.plus(1),
        start_time=NOW,
        last_heard=NOW.plus(1),
        runs=1,
        run_started=NOW,
        changes=(StatusChange(NOW.plus(1), S.QUEUED, S.RUNNING),),
    )


@pytest.mark.parametrize("before", ENDS)
@pytest.mark.parametrize("after", [S.QUEUED, S.RUNNING])
def test_what_has_ended_does_not_run_again(before: S, after: S) -> None:
    ended = row(before)

    assert status_seen(ended, update(after, start_time=NOW), NOW) is ended


@pytest.mark.parametrize("before", [*S, 99])
@pytest.mark.parametrize("after", [*ENDS, S.UNKNOWN, S.SKIPPED, 99])
def test_every_other_change_is_made(before: int, after: int) -> None:
    assert status_seen(row(before), update(after), NOW).status == after


@pytest.mark.parametrize("before", [S.QUEUED, S.UNKNOWN, S.SKIPPED, 99])
def test_what_has_not_ended_may_run(before: int) -> None:
    assert status_seen(row(before), update(S.RUNNING), NOW).status == S.RUNNING


def test_a_heartbeat_changes_nothing_but_when_it_was_heard() -> None:
    running = status_seen(None, update(S.RUNNING, start_time=NOW), NOW)

    assert status_seen(running, update(S.RUNNING), NOW.plus(60)) == evolve(running, last_heard=NOW.plus(60))


def test_a_retry_keeps_the_first_start_and_the_worker_and_counts() -> None:
    running = status_seen(None, update(S.RUNNING, start_time=NOW), NOW)
    retried = update(S.RUNNING, start_time=NOW.plus(9), worker_id=WorkerId("other"), instance_id=InstanceId("other-1"))

    after = status_seen(running, retried, NOW.plus(9))

    assert (after.start_time, after.worker_id, after.instance_id) == (NOW, "reports", "other-1")
    assert (after.runs, after.run_started) == (2, NOW.plus(9))
    assert after.changes == running.changes


def test_a_running_with_an_end_is_no_heartbeat() -> None:
    running = row(S.RUNNING, start_time=NOW)

    after = status_seen(running, update(S.RUNNING, start_time=NOW.plus(1), duration_ms=0), NOW)

    assert (after.start_time, after.duration_ms, after.changes) == (NOW.plus(1), 0, ())


def test_fields_are_taken_only_when_they_are_there() -> None:
    ended = row(S.FAILED, start_time=NOW, end_time=NOW.plus(1), duration_ms=5, result="r", exception="no")
    bare = update(S.TIMED_OUT, job_id=EMPTY_GUID, worker_id="", instance_id="", result="", exception="")

    after = status_seen(evolve(ended, worker_id=WorkerId("reports")), bare, NOW)

    assert (after.start_time, after.end_time, after.duration_ms) == (NOW, NOW.plus(1), 5)
    assert (after.result, after.exception, after.worker_id, after.job_id) == ("r", "no", "reports", None)


def test_completed_clears_the_exception_even_its_own() -> None:
    ended = row(S.FAILED, exception="no")

    assert status_seen(ended, update(S.COMPLETED, exception="what"), NOW).exception is None


def test_the_last_hundred_changes_are_kept() -> None:
    seen: OccurrenceRecord | None = None
    for number in range(MAX_CHANGES + 20):
        seen = status_seen(seen, update(100 + number), NOW.plus(number))

    assert seen is not None
    assert len(seen.changes) == MAX_CHANGES == 100
    assert seen.changes[-1] == StatusChange(NOW.plus(119), 218, 219)


def test_messages_of_one_batch_are_all_applied_in_order() -> None:
    """A late Running behind the end takes nothing back, as it does where only the last one counts (A8)."""
    seen: OccurrenceRecord | None = None
    for told in (
        update(S.RUNNING, start_time=NOW),
        update(S.RUNNING, start_time=NOW.plus(2)),
        update(S.COMPLETED, start_time=NOW.plus(2), end_time=NOW.plus(3), duration_ms=1000, result="{}"),
        update(S.RUNNING),
    ):
        seen = status_seen(seen, told, NOW.plus(4))

    assert seen is not None
    assert (seen.status, seen.runs, seen.result) == (S.COMPLETED, 2, "{}")
    assert [change.after for change in seen.changes] == [S.RUNNING, S.COMPLETED]


@pytest.mark.parametrize("end", ["status_completed", "status_timed_out"])
def test_an_end_of_a_dotnet_worker_is_no_other_attempt(end: str) -> None:
    """Its start is told some ms later than it was told at the start (the vectors are its messages)."""
    statuses = [decode_status(str(vector(name)["body_raw"]).encode()) for name in ("status_running", end)]

    running = status_seen(None, statuses[0], NOW)
    ended = status_seen(running, statuses[1], NOW)

    assert statuses[0].start_time != statuses[1].start_time
    assert (running.runs, ended.runs, ended.start_time) == (1, 1, statuses[1].start_time)


def test_an_end_whose_start_was_never_read_counts_as_a_run() -> None:
    seen = status_seen(None, update(S.COMPLETED, start_time=NOW, end_time=NOW, duration_ms=1), NOW)

    assert seen.runs == 1
    assert status_seen(None, update(S.CANCELLED, end_time=NOW), NOW).runs == 0


@pytest.mark.parametrize("end", [*ENDS, S.RUNNING])
def test_a_history_read_twice_changes_only_when_it_was_heard_of(end: S) -> None:
    """A monitor that dies before it acknowledges gets them all again."""
    told = [
        update(S.RUNNING, start_time=NOW),
        update(S.RUNNING),
        update(S.RUNNING, start_time=NOW.plus(5)),
        update(end, start_time=NOW.plus(5), exception="no"),
    ]
    once: OccurrenceRecord | None = None
    for message in told:
        once = status_seen(once, message, NOW)
    twice = once
    for message in told:
        twice = status_seen(twice, message, NOW.plus(60))

    assert once is not None
    assert twice is not None
    assert evolve(twice, last_heard=None) == evolve(once, last_heard=None)


def test_unknown_heals() -> None:
    running = status_seen(None, update(S.RUNNING, start_time=NOW), NOW)
    gone = lost(running, NOW.plus(600))

    back = status_seen(gone, update(S.RUNNING), NOW.plus(700))

    assert (gone.status, gone.end_time) == (S.UNKNOWN, NOW.plus(600))
    assert "Zombie" in str(gone.exception)
    assert (back.status, back.end_time, back.exception, back.start_time) == (S.RUNNING, None, None, NOW)
    assert [change.after for change in back.changes] == [S.RUNNING, S.UNKNOWN, S.RUNNING]


# --- who is lost ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "after", "is_so"),
    [
        (row(), 600, False),
        (row(), 601, True),
        (row(zombie_timeout=60.0), 61, True),
        (row(zombie_timeout=3600.0), 601, False),
        (row(last_heard=NOW.plus(500)), 601, True),
        (row(execute_at=NOW.plus(100)), 700, False),
        (row(execute_at=NOW.plus(100)), 701, True),
        (row(execute_at=NOW.plus(-900)), 600, False),
        (row(S.RUNNING), 601, True),
        (row(S.RUNNING, last_heard=NOW.plus(100)), 700, False),
        (row(S.RUNNING, last_heard=NOW.plus(100)), 701, True),
        (row(S.RUNNING, zombie_timeout=60.0), 600, False),
        (row(S.RUNNING, zombie_timeout=3600.0), 3600, False),
        (row(S.UNKNOWN), 10_000, False),
        (row(S.COMPLETED), 10_000, False),
        (row(99), 10_000, False),
    ],
    ids=lambda value: None if isinstance(value, OccurrenceRecord) else str(value),
)
def test_what_was_not_heard_of_for_too_long_is_lost(seen: OccurrenceRecord, after: int, is_so: bool) -> None:
    assert is_lost(seen, NOW.plus(after), 600) is is_so


def test_times_are_compared_whatever_their_offset() -> None:
    local = evolve(row(), created_at=Instant.parse("2026-04-02T11:15:30+02:00"))

    assert not is_lost(local, NOW.plus(600), 600)
    assert is_lost(local, NOW.plus(601), 600)


def test_a_line_of_an_unknown_occurrence_makes_it() -> None:
    assert heard_of(None, ID, NOW) == row()
    known = row(S.COMPLETED)
    assert heard_of(known, ID, NOW) is known


# --- runs of other schedulers -----------------------------------------------------------------------------------------


def run(event: int, status: int, **fields: Any) -> ExternalOccurrence:
    told = {"external_job_id": "DEFAULT.report", "worker_id": WorkerId("quartz"), **fields}
    return ExternalOccurrence(correlation_id=ID, event_type=event, status=status, message_timestamp=NOW, **told)


def test_a_run_of_another_scheduler_starts_and_ends() -> None:
    told = {"external_occurrence_id": "q-1", "source": "Quartz", "job_type_name": "Reports", "scheduled_fire_time": NOW}
    started = external_seen(None, run(0, S.RUNNING, actual_fire_time=NOW.plus(1), **told), NOW.plus(2))
    ended = external_seen(
        started, run(1, S.FAILED, end_time=NOW.plus(5), duration_ms=4000, exception="no"), NOW.plus(6)
    )

    assert (started.status, started.start_time, started.runs) == (S.RUNNING, NOW.plus(1), 1)
    assert (started.job_name, started.display_name, started.worker_id) == ("DEFAULT.report", "Reports", "quartz")
    assert (started.external_id, started.source, started.execute_at) == ("q-1", "Quartz", NOW)
    assert (ended.status, ended.end_time, ended.duration_ms, ended.exception) == (S.FAILED, NOW.plus(5), 4000, "no")
    assert (ended.start_time, ended.source, ended.runs, ended.last_heard) == (NOW.plus(1), "Quartz", 1, NOW.plus(6))


def test_a_start_that_comes_after_its_end_only_fills_in() -> None:
    ended = external_seen(None, run(1, S.COMPLETED, end_time=NOW.plus(5), result="ok"), NOW.plus(6))

    after = external_seen(ended, run(0, S.RUNNING, start_time=NOW, external_occurrence_id="q-1"), NOW.plus(7))

    assert (after.status, after.start_time, after.external_id, after.result) == (S.COMPLETED, NOW, "q-1", "ok")


def test_a_veto_ends_a_run_that_never_began() -> None:
    assert external_seen(None, run(2, S.SKIPPED), NOW).status == S.SKIPPED
