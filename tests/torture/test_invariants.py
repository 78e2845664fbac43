"""The judges of the torture suite, on evidence made by hand: each finds what it is for, and nothing in a good run.

Shown here and not by scenarios, since a judge that sees nothing would pass them all.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from torture.counting import copies, extra_runs, recoveries
from torture.effects import Effect
from torture.evidence import Evidence, Fault, Leftover, LogLine, Resources, Status
from torture.expectations import Act, Expected, expected
from torture.invariants import INVARIANTS, judge

X, Y = "occurrence x", "occurrence y"


def status(occurrence: str, number: int, name: str, at: float, **more: Any) -> Status:
    return Status(
        occurrence=occurrence,
        status=number,
        message_id=f"{occurrence}:{name}",
        at=at,
        **{"instance": "one", "redelivered": False, **more},
    )


def effect(what: str, occurrence: str, attempt: int, at: float, **more: Any) -> Effect:
    defaults = {"pid": 1, "worker": "a", "run": 1, "token": f"{occurrence}{attempt}"}
    return Effect(what=what, occurrence=occurrence, attempt=attempt, at=at, **{**defaults, **more})


GOOD = Evidence(
    expected={
        X: Expected(status=2, attempts=2, delay=1.0),
        Y: Expected(status=3, attempts=1, dead_letter=True, most_runs=1),
    },
    statuses=(
        status(X, 1, "1:running", 1.0),
        status(Y, 1, "1:running", 1.5),
        status(Y, 3, "1:final", 2.0),
        status(X, 1, "2:running", 3.0),
        status(X, 2, "2:final", 4.0),
    ),
    dead_letters=(Y,),
    logs=tuple(
        LogLine(occurrence=o, token=t, number=n) for o, t in ((X, X + "1"), (X, X + "2"), (Y, Y + "1")) for n in (0, 1)
    ),
    effects=(
        effect("begin", X, 1, 1.0),
        effect("end", X, 1, 1.4),
        effect("begin", Y, 1, 1.5),
        effect("end", Y, 1, 1.9),
        effect("begin", X, 2, 2.9),
        effect("end", X, 2, 3.9),
    ),
    faults=(Fault(kind="worker-kill", whom="a", began=2.0, ended=2.2),),
    leftovers=(Leftover(path="a.db", rows=0, integrity="ok"),),
    resources=(Resources(worker="a", fds=20, threads=3, rss_kb=60_000),),
    most_extra_runs=0,
    heartbeat_limit=2.0,
    latest=2.0,
    explains_copies=True,
)


def with_status(*more: Status) -> Evidence:
    return evolve(GOOD, statuses=(*GOOD.statuses, *more))


def with_effects(*more: Effect, **changes: Any) -> Evidence:
    return evolve(GOOD, effects=(*GOOD.effects, *more), **changes)


AGAIN = effect("begin", Y, 1, 5.0, run=2, redelivered=True, token="again")
BAD: Sequence[tuple[str, str, Evidence]] = [
    ("I1", "never ended", evolve(GOOD, expected={**GOOD.expected, "z": Expected(status=2)})),
    ("I1", "never dispatched", with_status(status("z", 2, "1:final", 5))),
    ("I2", "two finals", with_status(status(X, 2, "1:final", 5))),
    ("I2", "two statuses under one id", with_status(status(X, 4, "2:final", 5))),
    ("I2", "another end than expected", evolve(GOOD, expected={**GOOD.expected, X: Expected(status=4, attempts=2)})),
    ("I2", "a copy that nothing explains", with_status(status(X, 2, "2:final", 5))),
    ("I3", "running behind the end", with_status(status(X, 1, "2:running:2", 5))),
    ("I3", "running behind the end of another", with_status(status(X, 1, "3:running", 5, instance="two"))),
    ("I4", "unannounced", with_effects(evolve(AGAIN, run=1), most_extra_runs=None)),
    ("I4", "too many of one", with_effects(AGAIN, most_extra_runs=None)),
    ("I4", "too many in all", with_effects(evolve(AGAIN, occurrence=X))),
    ("I5", "none", evolve(GOOD, dead_letters=())),
    ("I5", "a wrong one", evolve(GOOD, dead_letters=(X, Y))),
    ("I5", "a second one", evolve(GOOD, second_dead_letters=(Y,))),
    ("I6", "a gap", evolve(GOOD, logs=tuple(line for line in GOOD.logs if line.number or line.token != X + "1"))),
    ("I7", "no second attempt", evolve(GOOD, effects=GOOD.effects[:4])),
    ("I7", "too early", evolve(GOOD, expected={**GOOD.expected, X: Expected(status=2, attempts=2, delay=2.0)})),
    ("I7", "too late", evolve(GOOD, latest=0.1)),
    ("I8", "a message", evolve(GOOD, queues={"jobs": (1, 0)})),
    ("I8", "a row", evolve(GOOD, leftovers=(Leftover(path="a.db", rows=1, integrity="ok"),))),
    ("I8", "a damaged file", evolve(GOOD, leftovers=(Leftover(path="a.db", rows=0, integrity="malformed"),))),
    ("I9", "files", evolve(GOOD, resources=(Resources(worker="a", fds=900, threads=3, rss_kb=1),))),
    ("I10", "a long pause", evolve(GOOD, recovery_limit=0.5)),
    ("I11", "silence", evolve(GOOD, heartbeat_limit=0.3)),
    ("I12", "a changed queue", evolve(GOOD, changed_queues=("406",))),
    ("I13", "a stuck API", evolve(GOOD, stuck=("tried for ever",))),
    ("I14", "a secret", evolve(GOOD, unclean=("canary",))),
]


def test_a_good_run_violates_nothing() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(("invariant", "evidence"), [pytest.param(i, e, id=f"{i} {what}") for i, what, e in BAD])
def test_each_invariant_finds_what_violates_it(invariant: str, evidence: Evidence) -> None:
    assert invariant in {violation.invariant for violation in judge(evidence)}


def test_each_invariant_is_tried() -> None:
    assert {invariant for invariant, _, _ in BAD} == INVARIANTS.keys()


def test_a_scenario_can_be_judged_by_some_of_them() -> None:
    evidence = evolve(GOOD, dead_letters=(), queues={"jobs": (1, 0)}, judged=frozenset({"I5"}))

    assert {violation.invariant for violation in judge(evidence)} == {"I5"}


def test_a_second_run_by_another_process_may_begin_behind_the_end() -> None:
    """Which it cannot know of; it says that it is the second, and so does the job's code."""
    late = status(X, 1, "2:running:2", 5, instance="two")
    again = effect("begin", X, 2, 5.0, run=2, redelivered=True, token="again", pid=2)

    found = judge(evolve(with_status(late), effects=(*GOOD.effects, again), most_extra_runs=1))

    assert found == []


def test_a_delivery_that_comes_again_is_no_copy() -> None:
    """The API lost its connection: what it had not acked comes again, marked, behind what it has seen."""
    first = status(X, 2, "2:final", 4)

    assert copies([first, evolve(first, redelivered=True)]) == {}
    assert copies([first, first]) == {first.message_id: 1}
    assert copies([evolve(first, redelivered=True), first]) == {first.message_id: 1}


def test_a_copy_is_explained_by_a_publish_without_an_answer() -> None:
    lost_link = effect("unconfirmed", "", 0, 4.5, facts={"ids": [f"{X}:2:final"]})

    evidence = evolve(with_status(status(X, 2, "2:final", 5)), effects=(*GOOD.effects, lost_link))

    assert judge(evidence) == []


def test_extra_runs_are_counted_beyond_one_of_each_attempt() -> None:
    assert extra_runs(GOOD.effects) == 0
    assert extra_runs([*GOOD.effects, AGAIN]) == 1


def test_the_recovery_of_a_worker_ends_with_its_own_next_job() -> None:
    others = effect("begin", Y, 1, 2.3, worker="b")

    ((_, seconds),) = recoveries(evolve(GOOD, effects=(*GOOD.effects, others)))

    assert seconds == pytest.approx(0.7)


def test_a_recovery_that_another_fault_breaks_off_ends_there() -> None:
    (fault,) = GOOD.faults
    again = evolve(fault, began=fault.ended + 0.2, ended=fault.ended + 0.3)

    times = [seconds for _, seconds in recoveries(evolve(GOOD, faults=(fault, again)))]

    assert times == [pytest.approx(0.2), pytest.approx(0.4)]


def test_for_a_job_that_came_later_recovery_is_counted_from_its_dispatch() -> None:
    ((fault, seconds),) = recoveries(evolve(GOOD, dispatched={X: 2.5}))

    assert fault.ended < 2.5
    assert seconds == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (Act(ends=["ok"]), Expected(status=2)),
        (Act(ends=["fail", "ok"], delay=1), Expected(status=2, attempts=2, delay=1)),
        (Act(ends=["fail"]), Expected(status=3, attempts=3, dead_letter=True)),
        (Act(ends=["permanent"]), Expected(status=3, dead_letter=True)),
        (Act(ends=["fail", "fail", "time-out"]), Expected(status=5, attempts=3)),
    ],
)
def test_the_data_of_a_job_says_what_must_become_of_it(act: Act, what: Expected) -> None:
    assert expected(act, 2) == what
