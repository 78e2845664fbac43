"""The transition table is the only way to a status, and it says what WIRE.md 4.2 and 4.3 say."""

import pytest

from milvaion_trio.model.errors import InvalidTransition
from milvaion_trio.model.occurrence import FINAL, TRANSITIONS, OccurrenceEvent, OccurrenceStatus, transition

S = OccurrenceStatus
E = OccurrenceEvent

ALLOWED = {
    S.QUEUED: {E.START: S.RUNNING, E.CANCEL: S.CANCELLED, E.REFUSE: S.FAILED, E.SKIP: S.SKIPPED, E.LOSE: S.UNKNOWN},
    S.RUNNING: {
        E.START: S.RUNNING,
        E.HEARTBEAT: S.RUNNING,
        E.RETURN: S.COMPLETED,
        E.FAIL: S.FAILED,
        E.RETRY: S.RUNNING,
        E.SNOOZE: S.RUNNING,
        E.INTERRUPT: S.RUNNING,
        E.CANCEL: S.CANCELLED,
        E.TIME_OUT: S.TIMED_OUT,
        E.REFUSE: S.FAILED,
        E.LOSE: S.UNKNOWN,
    },
    S.COMPLETED: {},
    S.FAILED: {E.DISPATCH_AGAIN: S.QUEUED},
    S.CANCELLED: {},
    S.TIMED_OUT: {E.DISPATCH_AGAIN: S.QUEUED},
    S.UNKNOWN: {
        E.START: S.RUNNING,
        E.HEARTBEAT: S.RUNNING,
        E.RETURN: S.COMPLETED,
        E.FAIL: S.FAILED,
        E.RETRY: S.RUNNING,
        E.SNOOZE: S.RUNNING,
        E.INTERRUPT: S.UNKNOWN,
        E.CANCEL: S.CANCELLED,
        E.TIME_OUT: S.TIMED_OUT,
        E.REFUSE: S.FAILED,
        E.DISPATCH_AGAIN: S.QUEUED,
    },
    S.SKIPPED: {},
}


@pytest.mark.parametrize("event", OccurrenceEvent)
@pytest.mark.parametrize("status", OccurrenceStatus)
def test_each_pair_of_status_and_event_has_exactly_the_listed_result(
    status: OccurrenceStatus, event: OccurrenceEvent
) -> None:
    expected = ALLOWED[status].get(event)

    if expected is None:
        with pytest.raises(InvalidTransition):
            transition(status, event)
    else:
        assert transition(status, event) is expected


def test_statuses_have_the_numbers_that_travel() -> None:
    assert {status.name: int(status) for status in OccurrenceStatus} == {
        "QUEUED": 0,
        "RUNNING": 1,
        "COMPLETED": 2,
        "FAILED": 3,
        "CANCELLED": 4,
        "TIMED_OUT": 5,
        "UNKNOWN": 6,
        "SKIPPED": 7,
    }


def test_only_a_new_dispatch_leads_out_of_an_end() -> None:
    assert {event for status, event in TRANSITIONS if status in FINAL} == {E.DISPATCH_AGAIN}


def test_unknown_is_not_an_end_since_a_late_heartbeat_heals_it() -> None:
    assert S.UNKNOWN not in FINAL
    assert transition(S.UNKNOWN, E.HEARTBEAT) is S.RUNNING


def test_a_refused_step_names_status_event_and_what_was_allowed() -> None:
    with pytest.raises(
        InvalidTransition, match=r"QUEUED cannot 'return'. Allowed there: start, cancel, refuse, skip, lose"
    ):
        transition(S.QUEUED, E.RETURN)


def test_a_refused_step_out_of_an_end_says_that_nothing_is_allowed() -> None:
    with pytest.raises(InvalidTransition, match=r"COMPLETED cannot 'start'. Allowed there: nothing"):
        transition(S.COMPLETED, E.START)
