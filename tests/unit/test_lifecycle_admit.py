"""What to do with a message that has just arrived: every row of the decision (DESIGN.md 5.1)."""

import json

import pytest

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.policy.lifecycle import (
    Admission,
    Adopt,
    AlreadyConcluded,
    CancelledBeforeStart,
    Quarantine,
    Refuse,
    Run,
    admit,
)

OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
JOB = "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
BODY: dict[str, object] = {"id": JOB, "jobNameInWorker": "SendEmailJob", "displayName": "Mail", "jobData": '{"to":"a"}'}
STAMPED = AttemptKey(OCCURRENCE, "1000", 0, 0)
UNSTAMPED = AttemptKey(OCCURRENCE, None, 1, 0)


def dispatch(body: object = BODY, *, timestamp: int | None = 1000, **headers: HeaderValue) -> Message:
    """A message as the API sends it; `headers` by their names, with `_` for `-`."""
    return Message(
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"OccurrenceId": OCCURRENCE} | {name.replace("_", "-"): value for name, value in headers.items()},
        timestamp=timestamp,
    )


def dotnet_copy() -> Message:
    """A retry copy made by a .NET worker, which carries neither stamp."""
    return dispatch(timestamp=None, x_retry_count=1)


def decide(
    message: Message,
    *,
    redelivered: bool = False,
    running: tuple[AttemptKey, ...] = (),
    concluded: tuple[AttemptKey, ...] = (),
    cancelled_at: float | None = None,
    deaths: int = 0,
) -> Admission:
    ledger = Ledger[object]()
    for attempt in running:
        ledger.add(attempt, object())
    if cancelled_at is not None:
        ledger.cancel(OCCURRENCE, "enough", cancelled_at)
    return admit(
        message,
        redelivered=redelivered,
        ledger=ledger,
        is_concluded=concluded.__contains__,
        deaths=lambda *_: deaths,
        knows=lambda name: name.lower() == "sendemailjob",
        known_names=("SendEmailJob", "CleanUpJob"),
    )


# --- a run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redelivered", [False, True])
def test_an_ordinary_message_runs(redelivered: bool) -> None:
    admission = decide(dispatch(), redelivered=redelivered)

    assert isinstance(admission, Run)
    assert admission.occurrence_id == OCCURRENCE
    assert admission.attempt == STAMPED
    assert admission.job.id == JOB
    assert admission.job.job_data == '{"to":"a"}'
    assert admission.redelivered is redelivered


def test_a_retry_copy_of_ours_runs_as_its_own_attempt() -> None:
    message = dispatch(timestamp=None, x_mtrio_dispatch="1000", x_retry_count=2, x_mtrio_snoozes=4)

    admission = decide(message, concluded=(STAMPED,))

    assert isinstance(admission, Run)
    assert admission.attempt == AttemptKey(OCCURRENCE, "1000", 2, 4)


def test_a_retry_copy_of_a_dotnet_worker_runs() -> None:
    admission = decide(dotnet_copy())

    assert isinstance(admission, Run)
    assert admission.attempt == UNSTAMPED


def test_job_names_are_left_to_the_registry_to_compare() -> None:
    assert isinstance(decide(dispatch(BODY | {"jobNameInWorker": "SENDEMAILJOB"})), Run)


# --- concluded or running already -----------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [dispatch(x_retry_count=1), dispatch(x_mtrio_snoozes=1)], ids=["retry", "snooze"])
def test_an_attempt_that_comes_after_the_one_that_runs_here_is_not_adopted(later: Message) -> None:
    """A twin of what runs here asked for it. Acked with this run, it would be lost: its own retry copy is concluded."""
    assert isinstance(decide(later, running=(STAMPED,)), Run)


@pytest.mark.parametrize(("had_been_redelivered", "answer"), [(False, Run), (True, AlreadyConcluded)])
def test_a_message_that_went_back_without_a_run_is_new_though_its_unstamped_key_is_concluded(
    answer: type[object], *, had_been_redelivered: bool
) -> None:
    """It may be the copy of a workflow's next dispatch; its redelivered mark says nothing, unless it came with it."""
    ledger = Ledger[str]()
    ledger.returned_unstarted(UNSTAMPED, redelivered=had_been_redelivered)

    admission = admit(
        dotnet_copy(),
        redelivered=True,
        ledger=ledger,
        is_concluded=lambda attempt: attempt == UNSTAMPED,
        deaths=lambda *_: 0,
        knows=lambda _: True,
        known_names=(),
    )

    assert isinstance(admission, answer)


@pytest.mark.parametrize("redelivered", [False, True])
def test_a_concluded_attempt_does_not_run_again_however_it_comes_back(redelivered: bool) -> None:
    assert decide(dispatch(), redelivered=redelivered, concluded=(STAMPED,)) == AlreadyConcluded(STAMPED)


def test_an_attempt_that_is_concluded_and_waits_for_its_confirms_is_concluded() -> None:
    assert decide(dispatch(), redelivered=True, running=(STAMPED,), concluded=(STAMPED,)) == AlreadyConcluded(STAMPED)


def test_a_concluded_attempt_needs_no_readable_body() -> None:
    assert decide(dispatch(b"\xff"), concluded=(STAMPED,)) == AlreadyConcluded(STAMPED)


def test_a_new_dispatch_of_the_same_occurrence_runs() -> None:
    """A workflow repeats a step under the same occurrence id (WIRE.md 12.1)."""
    assert isinstance(decide(dispatch(timestamp=1060), concluded=(STAMPED,)), Run)


def test_without_a_stamp_a_redelivered_message_of_a_concluded_attempt_does_not_run() -> None:
    assert decide(dotnet_copy(), redelivered=True, concluded=(UNSTAMPED,)) == AlreadyConcluded(UNSTAMPED)


def test_without_a_stamp_a_fresh_message_runs_though_an_attempt_of_that_name_is_concluded() -> None:
    """Its key is not unique: a workflow's next dispatch leads to the same one."""
    assert isinstance(decide(dotnet_copy(), concluded=(UNSTAMPED,)), Run)


def test_without_a_stamp_the_message_of_what_runs_is_adopted_though_an_attempt_of_that_name_is_concluded() -> None:
    """The mark may be that of an earlier one, and acking this message would leave the run without custody."""
    admission = decide(dotnet_copy(), redelivered=True, running=(UNSTAMPED,), concluded=(UNSTAMPED,))

    assert admission == Adopt(OCCURRENCE, UNSTAMPED, UNSTAMPED)


@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize("message", [dispatch(), dotnet_copy()], ids=["stamped", "unstamped"])
def test_a_message_of_what_runs_here_is_adopted(message: Message, redelivered: bool) -> None:
    attempt = STAMPED if message.timestamp else UNSTAMPED

    admission = decide(message, redelivered=redelivered, running=(attempt,))

    assert admission == Adopt(OCCURRENCE, attempt, attempt)


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(AttemptKey(OCCURRENCE, "940", 0, 0), id="an earlier dispatch that was believed lost"),
        pytest.param(AttemptKey(OCCURRENCE, "1000", 1, 0), id="a later attempt"),
        pytest.param(AttemptKey(OCCURRENCE, "1000", 0, 1), id="the attempt after a snooze"),
        pytest.param(UNSTAMPED, id="an attempt from a .NET copy"),
    ],
)
def test_a_message_of_an_occurrence_that_runs_here_is_adopted_by_that_run(running: AttemptKey) -> None:
    assert decide(dispatch(), running=(running,)) == Adopt(OCCURRENCE, STAMPED, running)


def test_the_youngest_of_overlapping_runs_adopts() -> None:
    old, young = AttemptKey(OCCURRENCE, "940", 0, 0), AttemptKey(OCCURRENCE, "940", 1, 0)

    assert decide(dispatch(), running=(old, young), concluded=(old,)) == Adopt(OCCURRENCE, STAMPED, young)


def test_a_retry_copy_that_overtakes_the_confirms_of_the_attempt_before_runs() -> None:
    """Adopting it would lose the job: its predecessor is concluded and will not run it."""
    admission = decide(dispatch(x_retry_count=1), running=(STAMPED,), concluded=(STAMPED,))

    assert isinstance(admission, Run)
    assert admission.attempt.retry_count == 1


# --- cancelled before it started ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "cancelled_at"),
    [
        pytest.param(dispatch(), 1000.0, id="cancelled in the second of the dispatch"),
        pytest.param(dispatch(), 1060.0, id="cancelled later"),
        pytest.param(
            dispatch(x_mtrio_dispatch="1000.25"), 1000.5, id="a finer stamp of ours goes before the timestamp"
        ),
        pytest.param(dispatch(timestamp=2000, x_mtrio_dispatch="1000", x_retry_count=1), 1500.0, id="a retry copy"),
        pytest.param(dotnet_copy(), 0.0, id="without a stamp"),
        pytest.param(dispatch(x_mtrio_dispatch="soon"), 0.0, id="with a stamp that is no number"),
    ],
)
def test_a_message_dispatched_before_the_cancel_does_not_start(message: Message, cancelled_at: float) -> None:
    admission = decide(message, cancelled_at=cancelled_at)

    assert isinstance(admission, CancelledBeforeStart)
    assert admission.occurrence_id == OCCURRENCE
    assert admission.job.id == JOB
    assert admission.reason == "enough"


@pytest.mark.parametrize(
    ("message", "cancelled_at"),
    [
        pytest.param(dispatch(), 999.0, id="whole seconds"),
        pytest.param(dispatch(x_mtrio_dispatch="1000.75"), 1000.5, id="fractions"),
    ],
)
def test_a_message_dispatched_after_the_cancel_runs(message: Message, cancelled_at: float) -> None:
    assert isinstance(decide(message, cancelled_at=cancelled_at), Run)


def test_what_runs_here_is_adopted_though_it_was_cancelled_since_its_run_reports_that() -> None:
    assert decide(dispatch(), running=(STAMPED,), cancelled_at=2000.0) == Adopt(OCCURRENCE, STAMPED, STAMPED)


def test_a_cancelled_occurrence_of_an_unknown_job_is_cancelled_and_not_failed() -> None:
    message = dispatch(BODY | {"jobNameInWorker": "MissingJob"})

    assert isinstance(decide(message, cancelled_at=2000.0), CancelledBeforeStart)


# --- cannot run -----------------------------------------------------------------------------------------------------


def test_an_unknown_job_is_refused_with_the_names_that_are_known() -> None:
    admission = decide(dispatch(BODY | {"jobNameInWorker": "MissingJob"}))

    assert isinstance(admission, Refuse)
    assert admission.attempt == STAMPED
    assert admission.job.id == JOB
    assert admission.error == "This worker knows no job called 'MissingJob'. It knows: CleanUpJob, SendEmailJob."


def test_a_broken_body_with_ids_is_refused_with_all_that_could_be_read() -> None:
    admission = decide(dispatch(BODY | {"executionTimeoutSeconds": "soon"}))

    assert isinstance(admission, Refuse)
    assert admission.error.startswith("The message is not a valid job message: ")
    assert admission.job.id == JOB
    assert admission.job.job_name_in_worker == "SendEmailJob"
    assert admission.job.display_name == "Mail"
    assert admission.job.job_data == '{"to":"a"}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"ID": JOB, "JOBNAMEINWORKER": 7}, id="a name that is no text"),
        pytest.param({"Id": JOB.upper(), "jobNameInWorker": "SendEmailJob", "version": "x"}, id="an id in upper case"),
        pytest.param({"Id": JOB, "jobNameInWorker": "SendEmailJob", "jobData": {"to": "a"}}, id="data that is no text"),
    ],
)
def test_what_cannot_be_read_is_left_out_of_a_refused_message(body: object) -> None:
    admission = decide(dispatch(body))

    assert isinstance(admission, Refuse)
    assert admission.job.id == JOB
    assert admission.job.job_data is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"{", id="not JSON"),
        pytest.param([BODY], id="not an object"),
        pytest.param(None, id="null"),
        pytest.param(BODY | {"id": "seven"}, id="an id that is no guid"),
        pytest.param(BODY | {"id": 7}, id="an id that is no text"),
        pytest.param(BODY | {"id": "00000000-0000-0000-0000-000000000000"}, id="the empty guid"),
        pytest.param({"jobNameInWorker": "SendEmailJob"}, id="no id"),
    ],
)
def test_a_message_without_a_job_id_is_quarantined(body: object) -> None:
    admission = decide(dispatch(body))

    assert isinstance(admission, Quarantine)
    assert admission.problem


@pytest.mark.parametrize("header", [None, 7, "", "seven", "00000000-0000-0000-0000-000000000000", b"\xff", True])
def test_a_message_without_an_occurrence_id_is_quarantined(header: HeaderValue) -> None:
    admission = decide(dispatch(OccurrenceId=header))

    assert isinstance(admission, Quarantine)
    assert "occurrence id" in admission.problem


# --- what the process may have died of ------------------------------------------------------------------------------


@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize(("deaths", "is_suspect"), [(0, False), (1, False), (2, True)])
def test_what_the_process_died_of_twice_is_a_suspect(deaths: int, is_suspect: bool, redelivered: bool) -> None:
    admission = decide(dispatch(), redelivered=redelivered, deaths=deaths)

    assert isinstance(admission, Run)
    assert (admission.deaths, admission.is_suspect) == (deaths, is_suspect)


@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize("deaths", [3, 10])
def test_what_the_process_died_of_three_times_is_refused_and_says_why(deaths: int, redelivered: bool) -> None:
    """Also when it is not marked as redelivered: a broker may forget that when it dies too."""
    admission = decide(dispatch(), redelivered=redelivered, deaths=deaths)

    assert isinstance(admission, Refuse)
    assert admission.attempt == STAMPED
    assert admission.job.job_data == '{"to":"a"}'
    assert admission.error.startswith(f"The worker process died {deaths} times while SendEmailJob ran")
    assert "not run again" in admission.error
    assert "dead letter" in admission.error


def test_of_a_message_that_was_sent_away_the_deaths_under_earlier_keys_count_too() -> None:
    """Those in the message, of who sent it away, and those that the outbox of this worker knows."""
    away = dispatch(x_mtrio_parked=3, x_mtrio_snoozes=4, x_mtrio_deaths=1)

    admission = decide(away, deaths=1)

    assert isinstance(admission, Run)
    assert (admission.deaths, admission.attempt.snoozes) == (2, 4)
    assert isinstance(decide(away, deaths=2), Refuse)


@pytest.mark.parametrize(("redelivered", "expected"), [(False, Run), (True, Refuse)])
def test_without_a_stamp_only_a_redelivered_message_is_the_one_the_process_died_of(
    redelivered: bool, expected: type[Admission]
) -> None:
    """The deaths may be those of an earlier dispatch with the same key."""
    assert isinstance(decide(dotnet_copy(), redelivered=redelivered, deaths=3), expected)


def test_what_the_process_died_of_three_times_and_was_cancelled_is_cancelled() -> None:
    assert isinstance(decide(dispatch(), deaths=3, cancelled_at=2000.0), CancelledBeforeStart)


def test_what_was_concluded_after_all_is_concluded_however_often_the_process_died() -> None:
    assert decide(dispatch(), redelivered=True, deaths=3, concluded=(STAMPED,)) == AlreadyConcluded(STAMPED)


def test_what_runs_here_is_adopted_however_often_the_process_died() -> None:
    assert decide(dispatch(), deaths=3, running=(STAMPED,)) == Adopt(OCCURRENCE, STAMPED, STAMPED)


def test_a_decision_changes_nothing() -> None:
    ledger = Ledger[object]()

    first = admit(
        dispatch(),
        redelivered=False,
        ledger=ledger,
        is_concluded=lambda _: False,
        deaths=lambda *_: 0,
        knows=lambda _: True,
        known_names=(),
    )

    assert isinstance(first, Run)
    assert len(ledger) == 0
    assert ledger.redelivered(STAMPED) == 1
