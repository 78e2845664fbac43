"""Whatever links and broker do, no row is lost, none overtakes a refused one, and no Running follows its final."""

from typing import Literal, TypeAlias

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, report

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.backlog import Backlog, Row
from milvaion_trio.ports import Confirmation, ReportKind

Happening: TypeAlias = tuple[ReportKind, OccurrenceId | None] | list[bool] | Literal["given back", "fresh link"]
"""A row comes; a batch is answered, each row taken or not; a batch gets no answer; a link is opened."""

rows = st.tuples(st.sampled_from([RUNNING, HEARTBEAT, LOG, FINAL]), st.sampled_from([A, B, None]))
answers = st.lists(st.booleans(), min_size=1, max_size=4)
happenings: st.SearchStrategy[list[Happening]] = st.lists(
    st.one_of(rows, rows, answers, st.sampled_from(("given back", "fresh link"))), max_size=40
)


@define
class History:
    """Plays happenings on a backlog and keeps what a broker and a reader would see."""

    backlog: Backlog = field(factory=Backlog)
    accepted: list[tuple[str, ReportKind, OccurrenceId | None]] = field(factory=list)
    arrived: list[Row] = field(factory=list)
    """Confirmed rows, in order; what a lost link may have delivered is left out, for it may have not."""
    now: float = 0.0

    def play(self, happening: Happening) -> None:
        if happening == "given back":
            batch = self.backlog.take(3, self.now)
            self.check_order(batch)
            self.backlog.give_back(batch)
        elif happening == "fresh link":
            self.backlog.start_over()
        elif isinstance(happening, list):
            self.now += 0.7
            batch = self.backlog.take(len(happening), self.now)
            self.check_order(batch)
            taken = happening[: len(batch)]
            self.arrived += [row for row, is_taken in zip(batch, taken, strict=True) if is_taken]
            self.backlog.settle(
                batch, [Confirmation.CONFIRMED if is_taken else Confirmation.REFUSED for is_taken in taken], self.now
            )
        elif not isinstance(happening, str):
            kind, occurrence_id = happening
            name = f"{len(self.accepted)} {kind.value}"
            if self.backlog.append(report(kind, name, occurrence_id), occurrence_id):
                self.accepted.append((name, kind, occurrence_id))

    def check_order(self, batch: list[Row]) -> None:
        """Rows leave in order, and none while an earlier one of its lane waits for another try."""
        for lane in {row.lane for row in batch}:
            numbers = [row.number for row in batch if row.lane == lane]
            assert numbers == sorted(numbers)
            assert lane not in self.backlog._refused

    def finish(self) -> None:
        while self.backlog.pending:
            self.now += 31
            batch = self.backlog.take(3, self.now)
            self.check_order(batch)
            assert batch
            self.arrived += batch
            self.backlog.settle(batch, [Confirmation.CONFIRMED] * len(batch), self.now)


@given(happenings)
def test_every_row_that_says_something_arrives_once(happenings: list[Happening]) -> None:
    """A confirmed row is never sent again; logs and finals are never dropped."""
    history = History()

    for happening in happenings:
        history.play(happening)
    history.finish()

    names = [row.report.publication.message.body.decode() for row in history.arrived]
    assert len(set(names)) == len(names)
    assert {name for name, kind, _ in history.accepted if kind in (LOG, FINAL)} <= set(names)
    assert history.backlog.confirmed == len(names)
    assert history.backlog.pending_logs == 0
    assert history.backlog._stages == {}


@given(happenings)
def test_no_running_or_heartbeat_arrives_behind_a_final_of_its_own_attempt(happenings: list[Happening]) -> None:
    history = History()

    for happening in happenings:
        history.play(happening)
    history.finish()

    for index, row in enumerate(history.arrived):
        if row.report.kind in (RUNNING, HEARTBEAT) and row.stage is not None:
            finals = [other for other in history.arrived[:index] if other.report.kind is FINAL]
            assert not any(final.stage is row.stage for final in finals)


@given(happenings)
def test_no_row_of_an_attempt_arrives_before_the_conclusion_of_the_last_one(happenings: list[Happening]) -> None:
    history = History()

    for happening in happenings:
        history.play(happening)
    history.finish()

    for index, row in enumerate(history.arrived):
        if row.stage is not None and row.stage.earlier is not None:
            assert not any(later.stage is row.stage.earlier for later in history.arrived[index:])
