"""The ledger against a naive model: plain lists that are searched and cut."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy import ledger as module
from milvaion_trio.policy.ledger import TOMBSTONE_LIFE, Ledger

OCCURRENCES = [OccurrenceId(name) for name in "abcd"]
STAMPS = [None, "50", "100.5", "400000", "soon"]
ATTEMPTS = [
    AttemptKey(occurrence, stamp, count, 0) for occurrence in OCCURRENCES for stamp in STAMPS for count in (0, 1)
]
TOMBSTONES = 3
STARTS = 4

attempts = st.sampled_from(ATTEMPTS)
occurrences = st.sampled_from(OCCURRENCES)


class LedgerAgainstLists(RuleBasedStateMachine):
    """Both get the same calls; whatever can be asked is asked after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "TOMBSTONES_REMEMBERED", TOMBSTONES)
        self.patch.setattr(module, "ATTEMPTS_REMEMBERED", STARTS)
        self.ledger = Ledger[object]()
        self.runs: list[tuple[AttemptKey, object]] = []
        self.tombstones: list[tuple[OccurrenceId, str, float]] = []
        self.starts: list[tuple[AttemptKey, int]] = []
        self.now = 0.0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(attempt=attempts)
    def add(self, attempt: AttemptKey) -> None:
        run = object()
        self.ledger.add(attempt, run)
        self.runs.append((attempt, run))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        attempt, run = self.runs.pop(data.draw(st.integers(0, len(self.runs) - 1)))
        self.ledger.remove(attempt, run)

    @rule(attempt=attempts)
    def remove_what_is_not_there(self, attempt: AttemptKey) -> None:
        with pytest.raises(KeyError):
            self.ledger.remove(attempt, object())

    @rule(seconds=st.sampled_from([0.0, 1.0, 50.0, 3600.0, TOMBSTONE_LIFE / 2, TOMBSTONE_LIFE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(occurrence=occurrences, reason=st.text(max_size=2))
    def cancel(self, occurrence: OccurrenceId, reason: str) -> None:
        self.ledger.cancel(occurrence, reason, self.now)
        self.forget_in_the_model()
        self.tombstones = [each for each in self.tombstones if each[0] != occurrence]
        self.tombstones = [*self.tombstones, (occurrence, reason, self.now)][-TOMBSTONES:]

    @rule()
    def forget(self) -> None:
        self.ledger.forget(self.now)
        self.forget_in_the_model()

    @rule(attempt=attempts)
    def start(self, attempt: AttemptKey) -> None:
        before = dict(self.starts).get(attempt, 0)

        assert self.ledger.redelivered(attempt) == before + 1

        self.starts = [each for each in self.starts if each[0] != attempt]
        self.starts = [*self.starts, (attempt, before + 1)][-STARTS:]

    @invariant()
    def the_same_runs_are_known(self) -> None:
        assert len(self.ledger) == len(self.runs)
        assert sorted(map(id, self.ledger)) == sorted(id(run) for _, run in self.runs)
        for occurrence in OCCURRENCES:
            mine = [entry for entry in self.runs if entry[0].occurrence_id == occurrence]
            assert self.ledger.find(occurrence) == tuple(run for _, run in mine)
            assert self.ledger.running(occurrence) == (mine[-1][0] if mine else None)
        for attempt in ATTEMPTS:
            found = [run for known, run in self.runs if known == attempt]
            assert self.ledger.find_attempt(attempt) is (found[-1] if found else None)

    @invariant()
    def the_same_attempts_are_cancelled(self) -> None:
        for attempt in ATTEMPTS:
            reasons = [
                reason
                for occurrence, reason, at in self.tombstones
                if occurrence == attempt.occurrence_id
                and (attempt.dispatch_stamp in (None, "soon") or float(attempt.dispatch_stamp) <= at)
            ]
            assert self.ledger.cancelled(attempt) == (reasons[0] if reasons else None)

    def forget_in_the_model(self) -> None:
        self.tombstones = [each for each in self.tombstones if self.now - each[2] <= TOMBSTONE_LIFE]


TestLedger = LedgerAgainstLists.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
