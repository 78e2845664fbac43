"""What keepers write of schedules, progress and ends is read again as it was, also by other versions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.coordination.codec import (
    end_text,
    progress_text,
    read_end,
    read_progress,
    read_schedule,
    recurrence_text,
    schedule_text,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Every,
    Misfire,
    Once,
    OpenRun,
    Overlap,
    Progress,
    RunEnd,
    Schedule,
)

texts = st.text(min_size=1)
any_text = st.text(st.characters())  # lone surrogates too, as in the text of an error
numbers = st.integers(-(2**62), 2**62)
counts = st.integers(0, 2**40)
seconds = st.floats(0, 1e12)
statuses = st.sampled_from(OccurrenceStatus) | st.integers(8, 1000)
runs = st.builds(OpenRun, numbers, numbers)
recurrences = (
    st.builds(Cron, expression=texts, timezone=texts) | st.builds(Every, st.floats(0.1, 1e9)) | st.builds(Once, numbers)
)
schedules = st.builds(
    Schedule,
    id=st.from_regex(r"[\w☃]{1,20}", fullmatch=True),
    job=texts,
    worker_id=texts,
    pattern=texts,
    when=recurrences,
    data=st.none() | texts,
    overlap=st.sampled_from(Overlap),
    misfire=st.sampled_from(Misfire),
    grace=seconds,
    jitter=seconds,
    start=st.none() | numbers,
    end=st.none() | numbers,
    max_runs=st.none() | st.integers(1, 10**9),
    disable_after=counts,
    origin=st.text(),
)
progresses = st.builds(
    Progress,
    decided=st.none() | numbers,
    runs=counts,
    open_runs=st.lists(runs).map(tuple),
    waiting=st.lists(numbers).map(tuple),
    failures=counts,
    last_failure=st.none() | numbers,
    disabled=st.none() | numbers,
    disabled_why=any_text,
    last_tick=st.none() | numbers,
    last_status=st.none() | statuses,
    left_out=counts,
)
ends = st.builds(RunEnd, schedule_id=texts, tick=numbers, status=statuses, at=numbers, error=any_text)


@given(schedules)
def test_a_schedule_is_read_as_it_was_written(schedule: Schedule) -> None:
    assert read_schedule(schedule_text(schedule), recurrence_text(schedule.when)) == schedule


@given(progresses)
def test_progress_is_read_as_it_was_written(progress: Progress) -> None:
    read = read_progress(progress_text(progress))

    assert read == progress
    assert type(read.last_status) is type(progress.last_status)


@given(ends)
def test_an_end_is_read_as_it_was_written(end: RunEnd) -> None:
    assert read_end(end_text(end)) == end


def test_no_progress_is_the_first() -> None:
    assert read_progress(None) == read_progress(b"{}") == Progress()


def test_what_a_newer_version_added_is_passed_over() -> None:
    schedule = Schedule(id="a", job="j", worker_id="w", pattern="p", when=Every(5.0))
    texts = [schedule_text(schedule), recurrence_text(schedule.when)]
    definition, recurrence = (json.dumps({**json.loads(text), "colour": ["red"]}) for text in texts)

    assert read_schedule(definition, recurrence) == schedule
    assert read_progress('{"colour": 1, "runs": 5}') == Progress(runs=5)
    end = RunEnd(schedule_id="a", tick=1, status=77, at=2)
    assert read_end(json.dumps({**json.loads(end_text(end)), "colour": None})) == end


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", '{"id": "a"}', b"\xff", '{"kind": "lunar"}'])
def test_what_is_no_schedule_is_refused_with_its_text(text: str | bytes) -> None:
    schedule = Schedule(id="a", job="j", worker_id="w", pattern="p", when=Every(5.0))
    with pytest.raises(ValueError, match="this version cannot read"):
        read_schedule(text, recurrence_text(schedule.when))
    with pytest.raises(ValueError, match="this version cannot read"):
        read_schedule(schedule_text(schedule), text)


def test_the_order_of_fields_in_another_version_makes_no_other_text() -> None:
    """Else every worker of a mixed group would edit the book at its start."""
    schedule = Schedule(id="a", job="j", worker_id="w", pattern="p", when=Cron(expression="* * * * *"))

    for text in (schedule_text(schedule), recurrence_text(schedule.when)):
        assert list(json.loads(text)) == sorted(json.loads(text))
