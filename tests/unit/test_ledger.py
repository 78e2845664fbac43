"""The ledger knows what runs here, what was cancelled, and how often an attempt was started, in bounded memory."""

import pytest

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy.ledger import ATTEMPTS_REMEMBERED, TOMBSTONE_LIFE, TOMBSTONES_REMEMBERED, Ledger, Tombstone

A = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
B = OccurrenceId("019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2")
FIRST = AttemptKey(A, "1000", 0, 0)
SECOND = AttemptKey(A, "1000", 1, 0)
OTHER = AttemptKey(B, "1000", 0, 0)


class Handle:
    """Stands for the runtime's handle of a run; all are equal, so that only identity tells them apart."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle)

    def __hash__(self) -> int:
        return 1


# --- what runs here -------------------------------------------------------------------------------------------------


def test_a_new_ledger_knows_nothing() -> None:
    ledger = Ledger[Handle]()

    assert len(ledger) == 0
    assert list(ledger) == []
    assert ledger.running(A) is None
    assert ledger.find(A) == ()
    assert ledger.find_attempt(FIRST) is None


def test_a_run_is_found_by_occurrence_and_by_attempt() -> None:
    ledger, run = Ledger[Handle](), Handle()

    ledger.add(FIRST, run)

    assert ledger.running(A) == FIRST
    assert ledger.find(A)[0] is run
    assert ledger.find_attempt(AttemptKey(A, "1000", 0, 0)) is run
    assert ledger.find_attempt(SECOND) is None
    assert ledger.find(B) == ()
    assert len(ledger) == 1


def test_a_removed_run_is_gone() -> None:
    ledger, run = Ledger[Handle](), Handle()
    ledger.add(FIRST, run)

    ledger.remove(FIRST, run)

    assert ledger.running(A) is None
    assert ledger.find_attempt(FIRST) is None
    assert len(ledger) == 0


def test_two_attempts_of_an_occurrence_may_overlap_and_the_younger_one_counts_as_running() -> None:
    ledger, old, new = Ledger[Handle](), Handle(), Handle()
    ledger.add(FIRST, old)
    ledger.add(SECOND, new)

    assert ledger.running(A) == SECOND
    assert [run is old for run in ledger.find(A)] == [True, False]
    assert ledger.find_attempt(FIRST) is old
    assert ledger.find_attempt(SECOND) is new
    assert len(ledger) == 2


def test_removing_the_older_of_two_overlapping_runs_keeps_the_younger() -> None:
    ledger, old, new = Ledger[Handle](), Handle(), Handle()
    ledger.add(FIRST, old)
    ledger.add(SECOND, new)

    ledger.remove(FIRST, old)

    assert ledger.running(A) == SECOND
    assert len(ledger) == 1


def test_two_runs_of_one_attempt_are_told_apart_by_their_handles() -> None:
    ledger, old, new = Ledger[Handle](), Handle(), Handle()
    ledger.add(FIRST, old)
    ledger.add(FIRST, new)

    assert ledger.find_attempt(FIRST) is new
    ledger.remove(FIRST, old)

    assert ledger.find_attempt(FIRST) is new


def test_removing_what_is_not_there_is_an_error() -> None:
    ledger, run = Ledger[Handle](), Handle()
    with pytest.raises(KeyError):
        ledger.remove(FIRST, run)

    ledger.add(FIRST, run)
    with pytest.raises(KeyError):
        ledger.remove(FIRST, Handle())

    assert len(ledger) == 1


def test_all_runs_can_be_walked_while_they_end() -> None:
    ledger, one, two = Ledger[Handle](), Handle(), Handle()
    ledger.add(FIRST, one)
    ledger.add(OTHER, two)

    for run in ledger:
        ledger.remove(FIRST if run is one else OTHER, run)

    assert len(ledger) == 0


# --- what was cancelled ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "covered"),
    [
        pytest.param("1000", True, id="dispatched before"),
        pytest.param("1500", True, id="dispatched in the same second"),
        pytest.param("1500.25", True, id="dispatched a moment before"),
        pytest.param("1500.75", False, id="dispatched a moment after"),
        pytest.param("1501", False, id="dispatched after"),
        pytest.param(None, True, id="no stamp"),
        pytest.param("", True, id="an empty stamp"),
        pytest.param("yesterday", True, id="no number"),
        pytest.param("nan", True, id="not a number"),
        pytest.param("-inf", True, id="before everything"),
        pytest.param("inf", False, id="after everything"),
        pytest.param("1" * 5000, False, id="a number beyond all"),
    ],
)
def test_a_tombstone_covers_what_was_dispatched_before_the_cancel(stamp: str | None, covered: bool) -> None:
    assert Tombstone("enough", 1500.5).covers(stamp) is covered


def test_a_cancel_holds_for_every_attempt_of_that_dispatch() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "enough", 1500.0)

    assert ledger.cancelled(FIRST) == "enough"
    assert ledger.cancelled(SECOND) == "enough"
    assert ledger.cancelled(AttemptKey(A, "1600", 0, 0)) is None
    assert ledger.cancelled(OTHER) is None


def test_a_second_cancel_covers_later_dispatches_too() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "enough", 1500.0)
    ledger.cancel(A, "really enough", 1700.0)

    assert ledger.cancelled(AttemptKey(A, "1600", 0, 0)) == "really enough"


def test_an_empty_reason_cancels_too() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "", 1500.0)

    assert ledger.cancelled(FIRST) == ""


def test_a_cancel_is_remembered_for_24_hours() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "enough", 1500.0)

    ledger.forget(1500.0 + TOMBSTONE_LIFE)
    assert ledger.cancelled(FIRST) == "enough"

    ledger.forget(1500.1 + TOMBSTONE_LIFE)
    assert ledger.cancelled(FIRST) is None


def test_a_later_cancel_lets_old_ones_be_forgotten() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "enough", 1500.0)

    ledger.cancel(B, "enough", 1501.0 + TOMBSTONE_LIFE)

    assert ledger.cancelled(FIRST) is None
    assert ledger.cancelled(OTHER) == "enough"


def test_a_repeated_cancel_is_remembered_from_its_last_time() -> None:
    ledger = Ledger[Handle]()
    ledger.cancel(A, "enough", 1500.0)
    ledger.cancel(B, "enough", 1600.0)
    ledger.cancel(A, "enough", 1700.0)

    ledger.forget(1650.0 + TOMBSTONE_LIFE)

    assert ledger.cancelled(FIRST) == "enough"
    assert ledger.cancelled(OTHER) is None


def test_the_newest_100_000_cancels_are_remembered() -> None:
    ledger = Ledger[Handle]()
    attempts = [AttemptKey(OccurrenceId(str(number)), "0", 0, 0) for number in range(TOMBSTONES_REMEMBERED + 2)]

    for attempt in attempts:
        ledger.cancel(attempt.occurrence_id, "enough", 10.0)

    assert [ledger.cancelled(attempt) for attempt in attempts[:3]] == [None, None, "enough"]
    assert ledger.cancelled(attempts[-1]) == "enough"


# --- how often an attempt was started -------------------------------------------------------------------------------


def test_starts_from_redeliveries_are_counted_from_1() -> None:
    ledger = Ledger[Handle]()

    assert [
        ledger.redelivered(FIRST),
        ledger.redelivered(FIRST),
        ledger.redelivered(SECOND),
        ledger.redelivered(FIRST),
    ] == [1, 2, 1, 3]


def test_what_this_process_gave_back_unstarted_has_not_been_started() -> None:
    """However often it went back, and only the once: a redelivery after a start says that again."""
    ledger = Ledger[Handle]()
    ledger.returned_unstarted(FIRST, redelivered=False)
    ledger.returned_unstarted(FIRST, redelivered=True)

    assert [ledger.redelivered(FIRST), ledger.redelivered(FIRST)] == [0, 1]


def test_what_came_as_a_redelivery_and_went_back_unstarted_may_have_been_started_elsewhere() -> None:
    ledger = Ledger[Handle]()
    ledger.returned_unstarted(FIRST, redelivered=True)
    ledger.returned_unstarted(FIRST, redelivered=True)

    assert [ledger.redelivered(FIRST), ledger.redelivered(FIRST)] == [1, 2]


def test_a_start_before_it_went_back_unstarted_is_still_counted() -> None:
    ledger = Ledger[Handle]()
    ledger.redelivered(FIRST)
    ledger.returned_unstarted(FIRST, redelivered=True)

    assert ledger.redelivered(FIRST) == 2


@pytest.mark.parametrize("redelivered", [False, True])
def test_what_has_begun_since_it_went_back_is_not_known_as_unstarted(*, redelivered: bool) -> None:
    ledger = Ledger[Handle]()
    ledger.returned_unstarted(FIRST, redelivered=redelivered)
    ledger.redelivered(FIRST)
    ledger.returned_unstarted(FIRST, redelivered=False)

    assert ledger.was_returned_unstarted(FIRST)


def test_the_newest_10_000_that_went_back_are_remembered() -> None:
    ledger = Ledger[Handle]()
    ledger.returned_unstarted(FIRST, redelivered=False)
    for number in range(ATTEMPTS_REMEMBERED):
        ledger.returned_unstarted(AttemptKey(A, "2000", number, 0), redelivered=False)

    assert not ledger.was_returned_unstarted(FIRST)
    assert ledger.was_returned_unstarted(AttemptKey(A, "2000", ATTEMPTS_REMEMBERED - 1, 0))


def test_the_redeliveries_of_the_newest_10_000_attempts_are_remembered() -> None:
    ledger = Ledger[Handle]()
    ledger.redelivered(FIRST)
    ledger.redelivered(OTHER)
    ledger.redelivered(FIRST)

    for number in range(ATTEMPTS_REMEMBERED - 1):
        ledger.redelivered(AttemptKey(A, "2000", number, 0))

    assert ledger.redelivered(FIRST) == 3
    assert ledger.redelivered(OTHER) == 1
