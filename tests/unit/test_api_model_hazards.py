"""The model bites: each hazard of RELIABILITY.md appendix C, and each rule of WIRE.md that only it checks."""

from typing import Any

import pytest
from tests.support.amqp import WireMessage
from tests.support.api_model import ApiModel, ApiSettings, FailureType, Generation, OccurrenceStatus, Rule, Verdict
from tests.support.api_model.examples import (
    JOB,
    OCCURRENCE,
    OTHER,
    START,
    api_with_a_job,
    dead_letter,
    log,
    sent,
    status,
    stored,
)
from tests.support.api_model.net_values import EMPTY_GUID
from tests.support.api_model.topology import FAILED_JOBS, LOGS, STATUSES

RUNNING, COMPLETED, FAILED, CANCELLED, TIMED_OUT, UNKNOWN = (OccurrenceStatus(number) for number in range(1, 7))
STARTED = {"StartTime": "2026-04-02T09:15:00Z"}


def rules(api: ApiModel) -> list[Rule]:
    return [complaint.rule for complaint in api.complaints]


# --- C1: the reader of the DLQ puts back whatever it cannot store --------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        sent(FAILED_JOBS, b"no JSON"),
        sent(FAILED_JOBS, b"\xef\xbb\xbf{}"),
        sent(FAILED_JOBS, b"[]"),
        dead_letter(Id="019d4a103b5c7e218f046a1d2c9be077"),
        dead_letter(Id=None),
        dead_letter(Id=OTHER),
        dead_letter(DisplayName=None),
        dead_letter(DisplayName="x" * 201),
        dead_letter(JobNameInWorker=None),
        dead_letter(JobNameInWorker="x" * 201),
        dead_letter(JobData=""),
        dead_letter(JobData="{"),
        dead_letter(JobData='{"a":"\\u0000"}'),
        dead_letter(JobData={"a": 1}),
        dead_letter(Exception="\0"),
        dead_letter(Exception="\ud800"),
        dead_letter(Status="Failed"),
        dead_letter(ExecuteAt="2026-04-02 09:15:30Z"),
        dead_letter(headers={"OccurrenceId": ("S", "not a guid")}),
        dead_letter(headers={"OccurrenceId": ("S", OCCURRENCE.replace("-", ""))}),
        dead_letter(headers={"OccurrenceId": ("S", b"\xff" * 16)}),
        dead_letter(headers={"OccurrenceId": ("I", 5)}),
        dead_letter(headers={"OccurrenceId": ("x", OCCURRENCE.encode())}),
        dead_letter(headers={"x-retry-count": ("S", "3")}),
        dead_letter(headers={"x-retry-count": ("x", b"\3\0\0\0")}),
        dead_letter(headers={"MaxRetries": ("S", "3")}),
        dead_letter(headers={"MaxRetries": ("l", 2**31)}),
        dead_letter(headers={"MaxRetries": ("T", 3)}),
        dead_letter(headers={"MaxRetries": ("A", [])}),
        dead_letter(headers={"MaxRetries": ("d", float("nan"))}),
    ],
    ids=lambda message: repr((message.body[:60], message.headers.get("OccurrenceId")))[:80],
)
def test_a_dead_letter_that_cannot_be_stored_blocks_the_queue_for_ever(message: WireMessage) -> None:
    """C1."""
    api = api_with_a_job()

    (settlement,) = api.take(FAILED_JOBS, message, START)

    assert settlement.verdict is Verdict.PARK
    assert len(api.requeues) == 1
    assert not api.failed_occurrences
    with pytest.raises(AssertionError, match="tried again for ever by a real API: 1"):
        api.assert_content(allow=set(Rule))


@pytest.mark.parametrize(
    ("header", "number"),
    [(("b", 3), 3), (("s", 3), 3), (("l", 3), 3), (("t", True), 1), (("d", 2.6), 3), (("V", None), 0), (None, 0)],
)
def test_other_numbers_are_converted_but_only_int32_and_int64_are_right(
    header: tuple[str, object] | None, number: int
) -> None:
    """A .NET worker would read the smaller ones as 0 and retry for ever (WIRE.md 0.2)."""
    api = api_with_a_job()

    stored(api, dead_letter(headers={"x-retry-count": header}))

    assert [row.retry_count for row in api.failed_occurrences] == [number]
    assert rules(api) == ([] if header is not None and header[0] == "l" else [Rule.HEADER_TYPE])


@pytest.mark.parametrize(
    ("members", "headers", "failure_type"),
    [
        ({}, {}, FailureType.MAX_RETRIES_EXCEEDED),
        ({}, {"x-retry-count": ("I", 1), "MaxRetries": ("I", 0)}, FailureType.MAX_RETRIES_EXCEEDED),
        ({}, {"x-retry-count": ("I", 0), "MaxRetries": ("I", 0)}, FailureType.UNHANDLED_EXCEPTION),
        ({"Status": 5}, {"x-retry-count": ("I", 0)}, FailureType.TIMEOUT),
        ({"Status": 4}, {"x-retry-count": ("I", 0)}, FailureType.CANCELLED),
        ({"Status": 6}, {"x-retry-count": ("I", 0)}, FailureType.WORKER_CRASH),
        ({"Exception": "a zombie"}, {"x-retry-count": ("I", 0)}, FailureType.ZOMBIE_DETECTION),
        ({"Status": 99}, {"x-retry-count": ("I", 0)}, FailureType.UNHANDLED_EXCEPTION),
    ],
)
def test_the_failure_type_is_the_first_that_fits(
    members: dict[str, Any], headers: dict[str, tuple[str, object] | None], failure_type: FailureType
) -> None:
    """WIRE.md 4.5."""
    api = api_with_a_job()

    stored(api, dead_letter(headers=headers, **members))

    assert [row.failure_type for row in api.failed_occurrences] == [failure_type]


def test_the_header_names_the_occurrence_before_the_property_and_correlation_id_does_not() -> None:
    """WIRE.md 4.5; the header `CorrelationId` is what 1.0 reads (WIRE.md 14)."""
    to_other = dead_letter(headers={"OccurrenceId": ("S", OTHER)})
    from_1_0 = dead_letter(headers={"OccurrenceId": None, "CorrelationId": ("S", OTHER)})
    new, old = api_with_a_job(), api_with_a_job(ApiSettings(generation=Generation.V1_0))

    stored(new, to_other, from_1_0)
    stored(old, from_1_0)

    assert [row.occurrence_id for row in new.failed_occurrences] == [OTHER, OCCURRENCE]
    assert [row.occurrence_id for row in old.failed_occurrences] == [OTHER]


@pytest.mark.parametrize(
    "message", [sent(FAILED_JOBS, b"null"), dead_letter(headers={"OccurrenceId": ("S", EMPTY_GUID)})]
)
def test_a_dead_letter_of_nobody_is_acknowledged_without_a_row(message: WireMessage) -> None:
    """WIRE.md 4.5; for our worker it is still wrong."""
    api = api_with_a_job()

    (settlement,) = api.take(FAILED_JOBS, message, START)

    assert settlement.verdict is Verdict.ACK
    assert not api.failed_occurrences
    assert api.complaints


# --- C2, C3: texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members", [{"Result": "\0"}, {"WorkerId": "x" * 101}, {"Result": None, "Exception": "\0", "Status": 3}]
)
def test_a_text_that_the_database_refuses_stops_all_statuses(members: dict[str, Any]) -> None:
    """C2."""
    api = api_with_a_job()

    stored(api, status(2, **members))
    other = stored(api, status(2, OccurrenceId=OTHER), now=START + 10)

    assert other.status == OccurrenceStatus.QUEUED
    assert api.occurrence(OTHER).status == OccurrenceStatus.QUEUED
    (requeue,) = api.requeues
    assert requeue.times > 10
    assert api.status_tracker.waiting == 2


@pytest.mark.parametrize(
    "entry",
    [{"Message": "\0"}, {"Category": "\0"}, {"Data": {"a": ["\0"]}}, {"Data": {"\0": 1}}, {"ExceptionType": "\0"}],
)
def test_a_log_entry_that_the_database_refuses_stops_all_logs(entry: dict[str, object]) -> None:
    """C2."""
    api = api_with_a_job()

    stored(api, log("before"))
    stored(api, log("beside", entry), now=START + 10)
    occurrence = stored(api, log("after"), now=START + 20)

    assert [row.message for row in occurrence.logs] == ["before"]
    assert len(api.requeues) == 1


def test_the_columns_take_what_just_fits() -> None:
    api = api_with_a_job()

    stored(api, status(1, WorkerId="x" * 100, **STARTED), dead_letter(DisplayName="\U0001f600" * 200, JobData="null"))

    api.assert_content()


@pytest.mark.parametrize(
    "message",
    [
        status(2, Result="\ud800"),
        status(2, Result="\udc00\ud800"),
        status(2, Result={}),
        status(2, Status="2"),
        status(2, OccurrenceId=OCCURRENCE.replace("-", "")),
        status(2, DurationMs=2**63),
        status(2, EndTime="2026-04-02T09:15:30+0000"),
        log("good", {"Message": "\ud800"}),
        log("good", {"Data": [1]}),
        log("good", OccurrenceId=None),
    ],
    ids=lambda message: repr(message.body[:70]),
)
def test_one_wrong_value_drops_the_whole_message(message: WireMessage) -> None:
    """C3: a status or all of a log batch is gone."""
    api = api_with_a_job()

    occurrence = stored(api, message)

    assert len(api.dropped) == 1
    assert not api.requeues
    assert not occurrence.logs
    assert occurrence.status == OccurrenceStatus.QUEUED


# --- C4: logs of nobody --------------------------------------------------------------------------------------------


def test_a_log_of_an_unknown_occurrence_drags_its_batch_along() -> None:
    """C4: the neighbours wait with it, and are dropped with it after 20 tries."""
    api = api_with_a_job()

    occurrence = stored(api, log("innocent"), log("early", OccurrenceId=JOB))
    assert not occurrence.logs
    assert rules(api) == [Rule.UNKNOWN_OCCURRENCE]

    for second in range(2, 14):
        api.tick(START + second)
        api.tick(START + second + 0.5)
    assert not occurrence.logs
    assert [dropped.queue for dropped in api.dropped] == [LOGS]
    assert Rule.LOGS_LOST in rules(api)


def test_an_early_log_is_stored_with_its_batch_when_its_occurrence_comes() -> None:
    api = api_with_a_job()
    stored(api, log("innocent"), log("early", OccurrenceId=JOB))

    api.queued(JOB, JOB)
    api.tick(START + 3)

    assert [row.message for row in api.occurrence(OCCURRENCE).logs] == ["innocent"]
    assert [row.message for row in api.occurrence(JOB).logs] == ["early"]
    assert not api.dropped


@pytest.mark.parametrize("message", [status(1, OccurrenceId=EMPTY_GUID), log("of nobody", OccurrenceId=EMPTY_GUID)])
def test_the_empty_guid_is_nobody(message: WireMessage) -> None:
    """W8."""
    api = api_with_a_job()

    stored(api, message)

    assert Rule.EMPTY_OCCURRENCE in rules(api)


# --- C5: order -----------------------------------------------------------------------------------------------------


def test_a_running_behind_a_final_in_one_batch_erases_it() -> None:
    """C5: only the last message of an occurrence counts."""
    api = api_with_a_job()

    occurrence = stored(api, status(1, **STARTED), status(2), status(1))

    assert occurrence.status == RUNNING
    assert occurrence.result is None
    assert rules(api) == [Rule.RUNNING_AFTER_FINAL]


def test_a_running_in_a_later_batch_is_refused_but_still_wrong() -> None:
    api = api_with_a_job()
    stored(api, status(1, **STARTED), status(2))

    occurrence = stored(api, status(1), now=START + 10)

    assert occurrence.status == COMPLETED
    assert rules(api) == [Rule.RUNNING_AFTER_FINAL]


def test_a_copy_of_an_earlier_running_is_no_running_behind_the_final() -> None:
    """What has the id of a message that came before is removed first."""
    api = api_with_a_job()
    running, final = status(1, message_id="r", **STARTED), status(2, message_id="f")

    occurrence = stored(api, running, final, running, final)

    api.assert_content()
    assert [message.status for message in occurrence.wire] == [RUNNING, COMPLETED]
    assert len(occurrence.messages) == 4
    assert [note.rule for note in api.notes if note.rule is not Rule.NO_MESSAGE_ID] == [Rule.COPY, Rule.COPY]


def test_one_instance_never_gives_two_messages_the_same_id() -> None:
    """W12."""
    api = api_with_a_job()

    stored(api, status(1, message_id="m", **STARTED), status(1, message_id="m"))

    assert rules(api) == [Rule.OTHER_BYTES]


def test_a_workflow_may_repeat_an_ended_occurrence() -> None:
    """The same occurrence id runs and ends again (WIRE.md 12.1)."""
    api = api_with_a_job()
    stored(api, status(1, **STARTED), status(3))

    dispatch = api.dispatcher.dispatch_again(OCCURRENCE, START + 10)
    occurrence = stored(api, status(1, **STARTED), status(2), now=START + 11)

    assert dispatch.occurrence_id == OCCURRENCE
    assert occurrence.status == COMPLETED
    api.assert_content()


# --- C6, C7: duplicates --------------------------------------------------------------------------------------------


def test_each_failed_counts_towards_switching_the_job_off() -> None:
    """C6: five of them within an hour, no matter of which occurrence."""
    api = api_with_a_job()

    for number in range(5):
        assert api.database.jobs[JOB].is_active
        stored(api, status(3, message_id=str(number)), now=START + 10 * number)

    job = api.database.jobs[JOB]
    assert not job.is_active
    assert job.disable_reason is not None
    assert api.dispatcher.held_back(job) == "it is inactive"
    assert rules(api) == [Rule.SECOND_FINAL] * 4


def test_old_failures_and_a_success_do_not_count() -> None:
    """The window is an hour; Completed starts again, TimedOut and Cancelled change nothing (WIRE.md 4.4)."""
    api = api_with_a_job()
    job = api.database.jobs[JOB]
    counts = []
    for number, (later, ended) in enumerate([(0, 3), (10, 3), (20, 5), (30, 4), (40, 3), (3700, 3), (3710, 2)]):
        occurrence = f"019d4d8e-91f0-7a3b-b2c6-{number:012x}"
        api.queued(occurrence, JOB, START)
        stored(api, status(ended, OccurrenceId=occurrence), now=START + later)
        counts.append(job.failures_in_a_row)

    assert counts == [1, 2, 2, 2, 3, 1, 0]


def test_a_batch_counts_once_per_job_and_never_for_jobs_that_opted_out() -> None:
    """WIRE.md 4.4."""
    api = api_with_a_job()
    job = api.database.jobs[JOB]

    stored(api, status(3), status(3, OccurrenceId=OTHER))
    assert job.failures_in_a_row == 1

    job.auto_disable = False
    stored(api, status(3), now=START + 10)
    assert job.failures_in_a_row == 1


def test_a_second_dead_letter_is_a_second_row() -> None:
    """C7: also a mere copy, but only that is what a lost confirm can cause."""
    api = api_with_a_job()

    stored(api, dead_letter(message_id="a"), dead_letter(message_id="a"))
    assert len(api.failed_occurrences) == 2
    assert rules(api) == []

    stored(api, dead_letter(message_id="b"))
    assert len(api.failed_occurrences) == 3
    assert rules(api) == [Rule.SECOND_DEAD_LETTER]


# --- C8, C9, C10: speed, memory, restart ---------------------------------------------------------------------------


def test_ten_statuses_are_read_per_interval() -> None:
    """C8: the prefetch is 10 and a batch is acknowledged as a whole, once per interval."""
    api = api_with_a_job()
    for _ in range(25):
        api.take(STATUSES, status(1, **STARTED), START)

    acknowledged = [len(api.tick(START + tick * 0.05)) for tick in range(7)]

    assert acknowledged == [10, 0, 10, 0, 5, 0, 0]


def test_statuses_are_acknowledged_when_stored_and_logs_before() -> None:
    """C9: an API that dies loses acknowledged log entries, but no status."""
    api = api_with_a_job()

    assert api.take(STATUSES, status(2), START) == []
    assert [done.verdict for done in api.take(LOGS, log("lost"), START)] == [Verdict.ACK]
    api.restart(START + 1)
    occurrence = stored(api, now=START + 2)

    assert occurrence.status == OccurrenceStatus.QUEUED
    assert not occurrence.logs


def test_a_starting_api_fails_what_is_old_and_takes_its_end_nevertheless() -> None:
    """C10: heartbeats do not bring it back, a final does."""
    api = api_with_a_job()
    stored(api, status(1, **STARTED))

    api.restart(START + 121)
    assert api.occurrence(OCCURRENCE).status == FAILED
    assert stored(api, status(1), now=START + 122).status == FAILED
    assert stored(api, status(2), now=START + 130).status == COMPLETED
    api.assert_content()


# --- the rest of the tracker and the zombie detector ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "sent_status", "after"),
    [
        (CANCELLED, 2, COMPLETED),
        (FAILED, 2, COMPLETED),
        (COMPLETED, 3, FAILED),
        (UNKNOWN, 1, RUNNING),
        (TIMED_OUT, 1, TIMED_OUT),
        (CANCELLED, 0, CANCELLED),
    ],
)
def test_only_running_and_queued_behind_an_end_are_refused(
    before: OccurrenceStatus, sent_status: int, after: OccurrenceStatus
) -> None:
    """WIRE.md 4.3."""
    api = api_with_a_job()
    api.occurrence(OCCURRENCE).status = before

    assert stored(api, status(sent_status)).status == after


def test_a_retry_keeps_the_first_start_and_worker() -> None:
    """A Running of a running occurrence is a heartbeat, whatever else it says (WIRE.md 4.3)."""
    api = api_with_a_job()
    first = stored(api, status(1, **STARTED)).start_time

    stored(api, status(1, StartTime="2026-04-02T10:00:00Z", WorkerId="other"), now=START + 60)

    occurrence = api.occurrence(OCCURRENCE)
    assert (occurrence.start_time, occurrence.worker_id) == (first, "report-worker")
    assert occurrence.last_heartbeat is not None
    assert occurrence.last_heartbeat >= START + 60


def test_an_api_of_1_0_has_no_guard() -> None:
    """WIRE.md 14."""
    api = api_with_a_job(ApiSettings(generation=Generation.V1_0))
    api.occurrence(OCCURRENCE).status = COMPLETED

    assert stored(api, status(1, CorrelationId=OCCURRENCE)).status == RUNNING


def test_silence_makes_an_occurrence_unknown_and_a_heartbeat_heals_it() -> None:
    """WIRE.md 4.8: Running by its last heartbeat, Queued by its creation and its own limit."""
    api = api_with_a_job()
    api.occurrence(OTHER).zombie_timeout_minutes = 60
    stored(api, status(1, **STARTED))

    for second in range(0, 600, 60):
        stored(api, status(1), now=START + second)
    api.tick(START + 800)
    assert api.occurrence(OCCURRENCE).status == RUNNING

    api.tick(START + 1000)
    assert api.occurrence(OCCURRENCE).status == UNKNOWN
    assert api.occurrence(OTHER).status == OccurrenceStatus.QUEUED
    assert not api.database.running
    assert stored(api, status(1), now=START + 1010).status == RUNNING


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (status(1, JobId=OTHER, **STARTED), Rule.WRONG_JOB_ID),
        (status(1, EndTime="2026-04-02T09:15:30Z"), Rule.STATUS_MEMBERS),
        (status(2, Result=None), Rule.STATUS_MEMBERS),
        (status(3, Result="x"), Rule.STATUS_MEMBERS),
        (status(5, StartTime=None), Rule.STATUS_MEMBERS),
        (status(0), Rule.STATUS_MEMBERS),
        (status(1, InstanceId=None), Rule.STATUS_MEMBERS),
        (status(1, WorkerId="report-worker-5f0c2a9b"), Rule.STATUS_MEMBERS),
        (status(1, StartTime="2026-04-02T09:15:00+00:00"), Rule.DATE_FORM),
        (status(1, OccurrenceId=OCCURRENCE.upper()), Rule.GUID_FORM),
        (status(2, Result="x" * 300_000), Rule.SIZE),
        (log({"Message": "x" * 9_000}), Rule.SIZE),
        (log({"Level": None}), Rule.LOG_MEMBERS),
        (log(*["m"] * 101), Rule.LOG_MEMBERS),
        (dead_letter(headers={"CorrelationId": None}), Rule.DEAD_LETTER_FORM),
        (dead_letter(headers={"x-death": ("A", [])}), Rule.RAW_DEAD_LETTER),
        (WireMessage("", FAILED_JOBS, False, {}, {}, dead_letter().body, 1), Rule.ROUTE),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_what_is_stored_can_still_be_wrong(message: WireMessage, rule: Rule) -> None:
    api = api_with_a_job()

    api.take(FAILED_JOBS if "failed_jobs" in message.routing_key else message.routing_key, message, START)
    api.tick(START)

    assert rule in rules(api)
    assert not api.requeues
    assert not api.dropped
    with pytest.raises(AssertionError, match=rule.name):
        api.assert_content()
    api.assert_content(allow=set(rules(api)))
