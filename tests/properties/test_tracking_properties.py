"""Our rows and those of the strict model of a Milvaion API, after any history of messages.

Each message is a batch of its own for the model: of several it would read the last one only, which is a stated
difference, as is that what goes on after all loses the end and the exception that it had.
"""

from typing import Any

from attrs import define
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.amqp import WireMessage
from tests.support.api_model import ApiModel
from tests.support.api_model.examples import JOB, OCCURRENCE, START, api_with_a_job, dead_letter, sent, status
from tests.support.api_model.net_json import write
from tests.support.api_model.net_values import NetDate
from tests.support.api_model.topology import EXTERNAL_OCCURRENCES, FAILED_JOBS, STATUSES

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.wire import decode_dead_letter, decode_external_occurrence, decode_status
from milvaion_trio.policy.keeping import dead_letter_read
from milvaion_trio.policy.tracking import external_seen, status_seen

dates = st.integers(0, 59).map("2026-04-02T09:15:{:02}Z".format)
numbers = st.integers(0, 8)
told = st.fixed_dictionaries(
    {},
    optional={
        "StartTime": st.none() | dates,
        "EndTime": st.none() | dates,
        "DurationMs": st.none() | st.integers(0, 9),
        "Result": st.sampled_from([None, "", "{}", "done"]),
        "Exception": st.sampled_from([None, "", "no", "why"]),
        "WorkerId": st.sampled_from(["report-worker", "other"]),
    },
)
bare = {"StartTime": None, "EndTime": None, "DurationMs": None, "Result": None, "Exception": None}
updates = st.builds(lambda number, members: status(number, **{**bare, **members}), numbers | st.just(1), told)


@define
class Both:
    """The model and our row, told the same."""

    api: ApiModel
    row: OccurrenceRecord | None
    seconds: float = 0.0

    @property
    def now(self) -> float:
        self.seconds += 1
        return START + self.seconds

    def take(self, queue: str, message: WireMessage) -> Instant:
        now = self.now
        self.api.take(queue, message, now)
        self.api.tick(now)
        return Instant.from_unix_ns(round(now) * 10**9)


def text_of(date: NetDate | float | None) -> str | None:
    return date.text if isinstance(date, NetDate) else None


@example([status(0, **{**bare, "EndTime": "2026-04-02T09:15:00Z"}), status(1, **bare)])
@example([status(0, **{**bare, "Exception": "no"}), status(1, **bare)])
@given(st.lists(updates, max_size=12))
def test_every_status_leaves_what_it_leaves_in_a_milvaion_api(messages: list[WireMessage]) -> None:
    row = OccurrenceRecord(id=OccurrenceId(OCCURRENCE), created_at=Instant.from_unix_ns(round(START) * 10**9))
    both = Both(api_with_a_job(), row)
    went_on = False
    for message in messages:
        before = row.status
        row = status_seen(row, decode_status(message.body), both.take(STATUSES, message))
        went_on |= row.status in (0, 1) and before not in (0, row.status)

        theirs = both.api.occurrence(OCCURRENCE)
        assert row.status == theirs.status
        assert [(change.before, change.after) for change in row.changes] == [
            (change.before, change.after) for change in theirs.status_changes
        ]
        assert (row.start_time and row.start_time.text) == text_of(theirs.start_time)
        assert (row.duration_ms, row.result) == (theirs.duration_ms, theirs.result)
        if not went_on:
            assert row.exception == theirs.exception
            assert (row.end_time and row.end_time.text) == text_of(theirs.end_time)
        if row.changes:
            assert row.worker_id == theirs.worker_id


@given(
    number=numbers,
    exception=st.sampled_from([None, "", "Type: E\n", "it was a Zombie"]),
    headers=st.fixed_dictionaries({}, optional={"x-retry-count": st.integers(0, 5), "MaxRetries": st.integers(0, 5)}),
)
def test_a_dead_letter_is_kept_as_a_milvaion_api_keeps_it(
    number: int, exception: str | None, headers: dict[str, HeaderValue]
) -> None:
    api = api_with_a_job()
    amqp: dict[str, tuple[str, object] | None] = {
        name: ("I", headers[name]) if name in headers else None for name in ("x-retry-count", "MaxRetries")
    }
    message = dead_letter(Status=number, Exception=exception, headers=amqp)
    api.take(FAILED_JOBS, message, START)

    letter = decode_dead_letter(message.body)
    envelope = Message(body=message.body, headers=headers)
    ours = dead_letter_read(None, OccurrenceId(OCCURRENCE), letter, envelope, Instant.from_unix_ns(0))

    [theirs] = api.failed_occurrences
    assert (ours.failure_type, ours.retry_count) == (int(theirs.failure_type), theirs.retry_count)
    assert (ours.job_id, ours.job_name, ours.display_name) == (theirs.job_id, theirs.job_name, theirs.display_name)
    assert bool(exception) is (ours.exception == theirs.exception)


def external(event: int, number: int, members: dict[str, Any]) -> WireMessage:
    body = {"ExternalJobId": "q", "CorrelationId": OCCURRENCE, "WorkerId": "report-worker"}
    around = {"EventType": event, "Status": number, "MessageTimestamp": "2026-04-02T09:15:00Z"}
    return sent(EXTERNAL_OCCURRENCES, write({**body, **members, **around}))


@given(told, st.lists(st.tuples(st.sampled_from([1, 3]), st.integers(2, 5), told), max_size=4))
def test_a_run_of_another_scheduler_ends_as_in_a_milvaion_api(
    start: dict[str, Any], ends: list[tuple[int, int, dict[str, Any]]]
) -> None:
    both = Both(api_with_a_job(queued=False), None)
    both.api.register_job(JOB.replace("7", "8"), "q", external_id="q")
    for message in (external(0, 1, start), *(external(*end) for end in ends)):
        now = both.take(EXTERNAL_OCCURRENCES, message)
        both.row = external_seen(both.row, decode_external_occurrence(message.body), now)

        assert both.row.status == both.api.occurrence(OCCURRENCE).status
