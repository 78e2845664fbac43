"""What a worker decides about a message that passes on a long delay (RELIABILITY.md 3.3)."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey, attempt_key
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy.admission import AlreadyConcluded, CancelledBeforeStart, Quarantine
from milvaion_trio.policy.hops import AtHop, SendOn, at_hop, hop, onward
from milvaion_trio.policy.ledger import Ledger

OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
BODY = b'{"id": "019d4a10-3b5c-7e21-8f04-6a1d2c9be077", "jobNameInWorker": "SomebodysJob"}'
COPY = Message(
    body=BODY,
    headers={
        headers.OCCURRENCE_ID: OCCURRENCE,
        headers.RETRY_COUNT: 1,
        headers.DISPATCH_STAMP: "100",
        "theirs": b"\xff",
    },
    message_id="copy",
    timestamp=100,
)
ATTEMPT = attempt_key(COPY, OCCURRENCE)
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()), st.just({})
)


def decide(
    message: Message, ledger: Ledger[str] | None = None, concluded: frozenset[AttemptKey] = frozenset()
) -> AtHop:
    return at_hop(message, ledger=Ledger[str]() if ledger is None else ledger, is_concluded=concluded.__contains__)


def waiting(left: int = 120, copy: Message = COPY) -> Message:
    return hop(copy, "jobs", left).message


def test_a_message_comes_out_as_it_went_in() -> None:
    assert hop(COPY, "jobs", 120).routing_key == topology.HOP_QUEUE
    assert onward(waiting(120)) == Publication(COPY, "jobs", delay=120)
    assert onward(waiting(0)) == Publication(COPY, "jobs")


def test_death_records_stay_behind() -> None:
    """Carried over, they can make the broker drop the message (RELIABILITY.md 0.12)."""
    died = evolve(waiting(), headers={**waiting().headers, "x-death": [{"queue": "jobs"}], "x-first-death-queue": "a"})

    assert onward(died) == Publication(COPY, "jobs", delay=120)


@given(left=JUNK, target=JUNK)
def test_any_header_is_survived(left: object, target: object) -> None:
    marked = evolve(COPY, headers={**COPY.headers, headers.DELAY_LEFT: left, headers.DELAY_TARGET: target})

    found = onward(marked)

    assert (found is None) is (not headers.text(target))
    assert found is None or (found.delay >= 0 and found.message == COPY)
    assert isinstance(decide(marked), SendOn | Quarantine)


def test_one_that_waits_is_alive() -> None:
    decision = decide(waiting())

    assert isinstance(decision, SendOn)
    assert decision.publication == Publication(COPY, "jobs", delay=120)
    assert decision.alive is not None
    assert decision.alive[0] == OCCURRENCE


def test_a_cancelled_one_ends_here() -> None:
    ledger = Ledger[str]()
    ledger.cancel(OCCURRENCE, "no need", at=200.0)

    decision = decide(waiting(), ledger)

    assert isinstance(decision, CancelledBeforeStart)
    assert decision.reason == "no need"


def test_one_dispatched_again_after_the_cancel_goes_on() -> None:
    ledger = Ledger[str]()
    ledger.cancel(OCCURRENCE, "no need", at=50.0)

    assert isinstance(decide(waiting(), ledger), SendOn)


def test_a_duplicate_of_a_concluded_attempt_ends_here() -> None:
    assert decide(waiting(), concluded=frozenset({ATTEMPT})) == AlreadyConcluded(ATTEMPT)


@pytest.mark.parametrize("running", [ATTEMPT, evolve(ATTEMPT, retry_count=0)], ids=["the same", "the one before"])
def test_while_the_occurrence_runs_here_nothing_is_said_for_it(running: AttemptKey) -> None:
    """The run speaks for itself; a heartbeat from here could come behind its final status."""
    ledger = Ledger[str]()
    ledger.add(running, "run")

    decision = decide(waiting(), ledger)

    assert isinstance(decision, SendOn)
    assert decision.alive is None


@pytest.mark.parametrize(
    "copy",
    [evolve(COPY, body=b"{"), evolve(COPY, body=b"{}"), evolve(COPY, headers={}), evolve(COPY, body=b"\xff\xfe{")],
    ids=["broken", "no job id", "no occurrence", "no UTF-8"],
)
def test_what_cannot_run_goes_on_to_where_it_is_refused(copy: Message) -> None:
    decision = decide(waiting(copy=copy))

    assert decision == SendOn(Publication(copy, "jobs", delay=120), None)
