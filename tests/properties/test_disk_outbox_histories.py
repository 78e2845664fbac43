"""Whatever links, disks and kills do, in any order: what the disk outbox says is concluded reaches the broker.

A history is played on a real file, without a thread, so that each one runs the same way again; memory holds four rows
only, so that most are read from the file.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.disks import disk_outbox, in_place
from tests.support.folders import new_folder
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, attempt, report
from tests.support.stored import left_by_a_kill
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, ReportsLost
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox import disk
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.store import Store
from milvaion_trio.ports import Confirmation, ReportKind

Lane: TypeAlias = OccurrenceId | None
Happening: TypeAlias = tuple[str, Any]

lanes = st.sampled_from([A, B])
happenings: st.SearchStrategy[list[Happening]] = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.sampled_from([A, B, None])),
        st.tuples(st.just("logs"), st.sampled_from([A, None])),
        st.tuples(st.just("running"), lanes),
        st.tuples(st.just("conclude"), lanes),
        st.tuples(st.just("conclude"), lanes),
        st.tuples(st.just("start"), lanes),
        st.tuples(st.just("answer"), st.lists(st.booleans(), min_size=1, max_size=4)),
        st.tuples(st.just("confirm"), st.just(0)),
        st.tuples(st.just("lose link"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.5, 40.0])),
        st.tuples(st.just("kill"), st.booleans()),
        st.tuples(st.just("leave"), st.just(0)),
        st.tuples(st.just("fill"), st.just(0)),
        st.tuples(st.just("mend"), st.just(0)),
        st.tuples(st.just("remove"), st.just(0)),
    ),
    max_size=40,
)


@define(eq=False)
class FakeLink:
    """A link on which each publish is answered when the history says so."""

    batch: Sequence[Publication] = ()
    _answer: list[bool] | int | None = None
    _answered: trio.Event = field(factory=trio.Event)
    _lost: trio.Event = field(factory=trio.Event)

    async def publish(self, publications: Sequence[Publication]) -> list[Confirmation]:
        self.batch, self._answered = publications, trio.Event()
        await self._answered.wait()
        answer, self.batch = self._answer, ()
        if not isinstance(answer, list):
            raise LinkLost
        return [Confirmation.CONFIRMED if is_taken else Confirmation.REFUSED for is_taken in answer]

    def answer(self, answer: list[bool] | None) -> None:
        self._answer = answer
        self._answered.set()

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """It never is."""

    async def lost(self) -> str:
        await self._lost.wait()
        return "lost"


@define(eq=False)
class History:
    """Plays happenings on outboxes, one process after the other, and keeps what must be true of them."""

    folder: Path
    clock: MockClock
    outbox: DiskOutbox = field(init=False)
    link: FakeLink = field(factory=FakeLink, init=False)
    life: trio.Nursery = field(init=False)
    accepted: dict[str, tuple[int, Lane, ReportKind]] = field(factory=dict, init=False)
    arrived: list[str] = field(factory=list, init=False)
    """In order, and what a lost link may have delivered too."""
    confirmed: set[str] = field(factory=set, init=False)
    attempts: dict[AttemptKey, str] = field(factory=dict, init=False)
    """Concluded ones, and the name of the row that says so."""
    waiting: set[AttemptKey] = field(factory=set, init=False)
    """Conclusions of this process that are neither confirmed nor lost."""
    unsafe: set[AttemptKey] = field(factory=set, init=False)
    """Concluded by this process, and not known to be in the file."""
    safe: set[AttemptKey] = field(factory=set, init=False)
    running: set[AttemptKey] = field(factory=set, init=False)
    """Started by this process, on a disk that takes it, and not concluded."""
    died: dict[AttemptKey, int] = field(factory=dict, init=False)
    is_full: bool = field(default=False, init=False)
    never_again: set[str] = field(factory=set, init=False)
    """Confirmed, and forgotten on a disk that outlived a kill."""
    may_lose: bool = field(default=False, init=False)
    """Whether something happened that takes rows along."""
    deaths_are_known: bool = field(default=True, init=False)
    has_refused: bool = field(default=False, init=False)
    """Whether the broker refused a row: those behind it may have been on their way with it."""

    @property
    def path(self) -> Path:
        return self.folder / "histories.outbox.db"

    async def play(self, happenings: Sequence[Happening]) -> None:
        left = iter([*happenings, ("mend", 0), ("wait", 2.0), ("end", 0)])
        while await self.live(left):
            pass
        self.check_order()

    async def live(self, left: Iterator[Happening]) -> bool:
        """The life of a process: false when it was the last. If cancelled, it ends."""
        self.outbox = disk_outbox(self.path, writer=in_place, durability="OFF")
        self.link, self.waiting = FakeLink(), set()
        self.is_full = False  # it would wait for that
        async with self.outbox.open(), trio.open_nursery() as self.life:
            self.life.start_soon(self.deliver)
            self.check_memory()
            for what, detail in left:
                await self.settle()
                if what == "end":
                    await self.finish()
                elif what == "kill":
                    self.kill(keeps_disk=detail)
                elif what == "leave":
                    self.leave()
                else:
                    self.do(what, detail)
                    continue
                self.life.cancel_scope.cancel()
                return what != "end"
        raise AssertionError("the end comes last")

    async def deliver(self) -> None:
        while True:
            try:
                await self.outbox.deliver(self.link)
            except LinkLost:
                self.link = FakeLink()

    async def settle(self) -> None:
        """Let everything be done that can be done now. If cancelled, some is not."""
        await wait_all_tasks_blocked()
        if not self.is_full and self.outbox._journal.trouble is None and self.path.exists():
            self.safe |= self.unsafe
            self.unsafe.clear()

    def do(self, what: str, detail: Any) -> None:
        match what:
            case "log":
                self.add(LOG, detail)
            case "logs":
                for _ in range(5):
                    self.add(LOG, detail)
            case "running":
                self.add(RUNNING, detail)
                self.outbox.add(report(HEARTBEAT, "alive", detail))
            case "conclude":
                self.conclude(detail)
            case "start":
                self.start(detail)
            case "answer":
                self.answer(detail)
            case "confirm":
                self.answer([True] * 1000)
            case "lose link":
                self.arrived += names(self.link.batch)[:detail]
                self.link.answer(None)
                self.link._lost.set()
            case "wait":
                self.clock.jump(detail)
            case "fill":
                self.is_full = True
            case "mend":
                self.is_full = False
            case "remove":
                self.path.unlink(missing_ok=True)
                self.safe.clear()
                self.may_lose, self.deaths_are_known = True, False

    def add(self, kind: ReportKind, lane: Lane) -> None:
        name = f"{len(self.accepted)} {kind.value}"
        if self.outbox.add(report(kind, name, lane)):
            self.accepted[name] = len(self.accepted), lane, kind

    def next_attempt(self, lane: OccurrenceId) -> AttemptKey:
        return attempt(lane, sum(1 for one in self.attempts if one.occurrence_id == lane))

    def start(self, lane: OccurrenceId) -> None:
        if self.is_full or self.outbox._journal.trouble is not None:
            self.deaths_are_known = False
        self.running.add(self.next_attempt(lane))
        self.life.start_soon(self.outbox.started, self.next_attempt(lane))

    def conclude(self, lane: OccurrenceId) -> None:
        key, name = self.next_attempt(lane), f"{len(self.accepted)} {FINAL.value}"
        self.accepted[name] = len(self.accepted), lane, FINAL
        self.attempts[key] = name
        self.waiting.add(key)
        self.unsafe.add(key)
        self.running.discard(key)
        if self.is_full or self.outbox._journal.trouble is not None:
            self.deaths_are_known = False
        self.life.start_soon(self.concluded, key, name)

    async def concluded(self, key: AttemptKey, name: str) -> None:
        try:
            await self.outbox.conclude(key, [report(FINAL, name, key.occurrence_id)])
        except ReportsLost:
            assert self.may_lose
            assert not self.outbox.is_concluded(key)
        else:
            assert name in self.confirmed, "a message would be acked whose end the broker does not have"
        self.waiting.discard(key)

    def answer(self, taken: list[bool]) -> None:
        batch = names(self.link.batch)
        if not batch:
            return
        answers = (taken * len(batch))[: len(batch)]
        sent = [name for name, is_taken in zip(batch, answers, strict=True) if is_taken]
        self.arrived += sent
        self.confirmed.update(sent)
        self.has_refused = self.has_refused or len(sent) < len(batch)
        assert self.never_again.isdisjoint(batch), "a row that was confirmed and forgotten is sent again"
        self.link.answer(answers)

    def kill(self, *, keeps_disk: bool) -> None:
        is_healthy = not self.is_full and self.outbox._journal.trouble is None and self.path.exists()
        if keeps_disk and self.path.exists():
            self.folder = left_by_a_kill(self.path).parent
            if is_healthy:
                self.never_again |= self.confirmed
        else:
            self.folder = new_folder()
            self.safe.clear()
            self.never_again.clear()
            self.deaths_are_known = False
        self.died = {one: self.died.get(one, 0) + 1 for one in self.running} | {
            one: count for one, count in self.died.items() if one not in self.running
        }
        self.running.clear()
        self.unsafe.clear()
        self.may_lose = True

    def leave(self) -> None:
        """In an orderly way: all is in the file, if that can be."""
        if self.is_full or self.outbox._journal.trouble is not None or not self.path.exists():
            self.unsafe.clear()
            self.may_lose, self.deaths_are_known = True, False
        self.running.clear()  # nobody died

    def check_memory(self) -> None:
        """What a new process knows of the earlier ones."""
        for key in self.safe:
            assert self.outbox.is_concluded(key), "a job would run again that is over"
        if self.deaths_are_known:
            for key, count in self.died.items():
                assert self.outbox.deaths(key) == (0 if key in self.attempts else count)

    async def finish(self) -> None:
        """Send all that is left; raises `AssertionError` for what is missing. If cancelled, some is left."""
        with trio.CancelScope() as scope:
            for _ in range(500):
                await wait_all_tasks_blocked()
                if not self.outbox.statistics().pending and not self.waiting:
                    break
                self.answer([True] * 1000)
                self.clock.jump(0.5)
            else:
                raise AssertionError(f"rows are left: {self.outbox.statistics()}")
        assert not scope.cancelled_caught
        for key, name in self.attempts.items():
            if self.outbox.is_concluded(key):
                assert name in self.confirmed, "it is said to be concluded, and nobody was told"
        if not self.may_lose:
            wanted = {name for name, (_, _, kind) in self.accepted.items() if kind is not RUNNING}
            assert wanted <= self.confirmed

    def check_order(self) -> None:
        """Statuses of an occurrence arrive in their order, logs too, and conclusions behind the logs before them."""
        for lane in () if self.has_refused else (A, B, None):
            for kinds in ((LOG, FINAL), (RUNNING, FINAL)):
                first = dict.fromkeys(self.arrived)  # again what came without a confirm, or was forgotten by a disk
                found = [self.accepted[name] for name in first if name in self.accepted]
                numbers = [number for number, of, kind in found if of == lane and kind in kinds]
                assert numbers == sorted(numbers)


def names(publications: Sequence[Publication]) -> list[str]:
    return [publication.message.body.decode() for publication in publications]


@contextmanager
def small_memory(history: History) -> Iterator[None]:
    """Four rows in memory, three in a page, and a disk that can be full."""
    write, opens = Store.write, Store.open

    def full(do: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            if history.is_full:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            do(*arguments)

        return called

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(disk, "HEAD_ROWS", 4)
        patched.setattr(disk, "PAGE", 3)
        patched.setattr(Store, "write", full(write))
        patched.setattr(Store, "open", full(opens))
        yield


@settings(max_examples=120)
@given(happenings)
@example([("logs", A), ("conclude", A), ("kill", True)])
@example([("logs", A), ("conclude", A), ("fill", 0), ("conclude", B), ("answer", [False]), ("kill", True)])
@example([("logs", None), ("logs", A), ("conclude", A), ("remove", 0), ("log", B), ("wait", 1.5)])
def test_histories(happenings: list[Happening]) -> None:
    """Nothing is lost but with a disk; what is concluded is told and not run again; confirmed rows stay confirmed."""
    clock = MockClock()
    history = History(new_folder(), clock)
    begun_in = history.folder
    try:
        with small_memory(history):
            trio.run(history.play, happenings, clock=clock)
    finally:
        for folder in {begun_in, history.folder}:
            shutil.rmtree(folder, ignore_errors=True)
