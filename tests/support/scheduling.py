"""Schedulers in virtual time: an embedded broker, a book in memory, and what may come between them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import trio
from attrs import define, field, frozen

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Entry, Millis, Overlap, Progress, Recurrence, RunEnd, Schedule
from milvaion_trio.ports import Binding, Exchange, Publisher, Queue, Topology
from milvaion_trio.ports.coordination import Beat, Token
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.scheduler.scheduler import Scheduler
from milvaion_trio.scheduler.telling import UNHEARD, Telling
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.testing.clock import clock_ns

__all__ = ["LEASE", "START", "Ground", "Process", "Reach", "Sent", "kept_link", "schedule"]

P = ParamSpec("P")
T = TypeVar("T")

START: Millis = 1_893_456_000_000
"""Second 0 of the virtual clock."""
LEASE = 10.0


def schedule(name: str, when: Recurrence, **more: Any) -> Schedule:
    """A schedule of a job of the tests, whose ticks run side by side unless it says otherwise."""
    told: dict[str, Any] = {"job": "Work", "worker_id": "tests", "pattern": "tests.work.*", "overlap": Overlap.ALLOW}
    return Schedule(id=name, when=when, **told | more)


@frozen
class Sent:
    """A dispatch that the broker has taken."""

    at: float
    """Seconds on Trio's clock."""
    schedule: str
    tick: float
    """Its time, as seconds of the virtual clock."""
    occurrence_id: str
    message: Message


@define(eq=False)
class Reach:
    """One process's way to what all share, which can be cut, or answer nobody."""

    shared: SqliteCoordination
    is_cut: bool = False
    answers_after: float = 0.0
    """Seconds for which an answer is on its way, once what was asked is done."""
    advances: list[bool] = field(factory=list, init=False)
    """What `advance` said, each time."""
    _hangs: trio.Event | None = field(default=None, init=False)

    name = "the tests' keeper"

    def hang(self) -> None:
        """Answer nobody from now on."""
        self._hangs = trio.Event()

    def go_on(self) -> None:
        """Answer all who wait."""
        assert self._hangs is not None
        self._hangs.set()
        self._hangs = None

    @property
    def leases(self) -> "Reach":
        return self

    @property
    def claims(self) -> "Reach":
        return self

    @property
    def book(self) -> "Reach":
        return self

    def open(self) -> AbstractAsyncContextManager[None]:
        return self.shared.open()

    async def acquire(self, name: str, holder: str, seconds: float) -> Token | None:
        return await self._ask(self.shared.acquire, name, holder, seconds)

    async def renew(self, name: str, token: Token, seconds: float) -> bool:
        return await self._ask(self.shared.renew, name, token, seconds)

    async def release(self, name: str, token: Token) -> bool:
        return await self._ask(self.shared.release, name, token)

    async def claim(self, key: str, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        return await self._ask(self.shared.claim, key, occurrence_id, seconds)

    async def give_up(self, key: str, occurrence_id: OccurrenceId) -> bool:
        return await self._ask(self.shared.give_up, key, occurrence_id)

    async def put(self, schedule: Schedule, now: Millis) -> bool:
        return await self._ask(self.shared.put, schedule, now)

    async def remove(self, schedule_id: str) -> bool:
        return await self._ask(self.shared.remove, schedule_id)

    async def pause(self, schedule_id: str) -> bool:
        return await self._ask(self.shared.pause, schedule_id)

    async def resume(self, schedule_id: str, now: Millis) -> bool:
        return await self._ask(self.shared.resume, schedule_id, now)

    async def read(self) -> tuple[int, Sequence[Entry]]:
        return await self._ask(self.shared.read)

    async def ended(self, end: RunEnd) -> None:
        await self._ask(self.shared.ended, end)

    async def has_ended(self, schedule_id: str, tick: Millis) -> bool:
        return await self._ask(self.shared.has_ended, schedule_id, tick)

    async def beat(self, token: Token, seconds: float) -> Beat | None:
        return await self._ask(self.shared.beat, token, seconds)

    async def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
        said = await self._ask(self.shared.advance, token, progress, taken)
        self.advances.append(said)
        return said

    async def _ask(self, ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._hangs is not None:
            await self._hangs.wait()
        if self.is_cut:
            raise LinkLost("the tests cut it")
        answer = await ask(*args, **kwargs)
        if self.answers_after:
            await trio.sleep(self.answers_after)
        return answer


@define(eq=False)
class Ground:
    """What schedulers stand on, and what they did."""

    broker: EmbeddedBroker = field(factory=EmbeddedBroker)
    signals: LocalSignals = field(factory=LocalSignals)
    sent: list[Sent] = field(factory=list, init=False)
    cancelled: list[Cancellation] = field(factory=list, init=False)
    ahead: float = field(default=0.0, init=False)
    """Seconds by which the wall clock was set."""
    coordination: SqliteCoordination = field(init=False)

    def __attrs_post_init__(self) -> None:
        # The keeper's clock is its own: leases run out whatever is done to ours.
        self.coordination = SqliteCoordination(clock=lambda: clock_ns() / 1e9)
        self.declare("tests.work.*")
        self.broker.on_publish.append(self._take)

    def declare(self, pattern: str) -> None:
        """Make a job's queue exist."""
        queue = topology.queue_name(pattern)
        exchange = Exchange(topology.JOBS_EXCHANGE, "topic")
        bound = Binding(topology.JOBS_EXCHANGE, queue, pattern)
        self.broker.declare_nowait(Topology(exchanges=[exchange], queues=[Queue(queue)], bindings=[bound]))

    def clock_ns(self) -> int:
        """The wall clock of all schedulers."""
        return clock_ns() + round(self.ahead * 1e9)

    @property
    def now(self) -> Millis:
        return self.clock_ns() // 1_000_000

    async def put(self, name: str, when: Recurrence, **more: Any) -> None:
        """Put a schedule into the book, as an operator does."""
        await self.coordination.put(schedule(name, when, **more), self.now)

    async def ended(
        self, name: str, tick: float, status: OccurrenceStatus = OccurrenceStatus.COMPLETED, error: str = ""
    ) -> None:
        """Tell the end of the run of the tick at this second, as a worker does."""
        end = RunEnd(schedule_id=name, tick=START + round(tick * 1000), status=status, at=self.now, error=error)
        await self.coordination.ended(end)

    async def progress(self, name: str) -> Progress:
        """How far a schedule has come, as the book has it."""
        _, entries = await self.coordination.read()
        (found,) = [entry for entry in entries if entry.schedule.id == name]
        return found.progress

    def ticks(self, name: str) -> list[float]:
        """The ticks of a schedule that were dispatched, in that order."""
        return [sent.tick for sent in self.sent if sent.schedule == name]

    @asynccontextmanager
    async def scheduling(
        self,
        holder: str = "a",
        *,
        reach: Reach | None = None,
        link: SupervisedLink[Publisher] | None = None,
        lease: float = LEASE,
        telling: Telling = UNHEARD,
    ) -> AsyncIterator[Scheduler]:
        """A scheduler that runs while the context is open and leaves properly."""
        async with kept_link(self.broker) as own:
            scheduler = Scheduler(
                coordination=self.coordination if reach is None else reach,
                link=link or own,
                signals=self.signals,
                holder=holder,
                lease=lease,
                clock_ns=self.clock_ns,
                telling=telling,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(scheduler.run)
                yield scheduler
                nursery.cancel_scope.cancel()

    async def start(self, nursery: trio.Nursery, holder: str) -> "Process":
        """Start a scheduler that can be stopped, killed, and cut off from what all share."""
        process = Process(holder, Reach(self.coordination))
        await nursery.start(process.run, self)
        return process

    async def hear_cancels(self, task_status: trio.TaskStatus[None]) -> None:
        """Note every cancel signal. Runs until cancelled."""
        async with self.signals.cancellations() as cancellations:
            task_status.started()
            async for cancellation in cancellations:
                self.cancelled.append(cancellation)

    def _take(self, publication: Publication) -> None:
        told = publication.message.headers
        if headers.TICK not in told:
            return
        tick = (int(str(told[headers.TICK])) - START) / 1000
        name, occurrence_id = str(told[headers.SCHEDULE]), str(told[headers.OCCURRENCE_ID])
        self.sent.append(Sent(trio.current_time(), name, tick, occurrence_id, publication.message))


@asynccontextmanager
async def kept_link(
    broker: EmbeddedBroker, connect: Callable[[], AbstractAsyncContextManager[Publisher]] | None = None
) -> AsyncIterator[SupervisedLink[Publisher]]:
    """A link to publish over, kept up while the context is open."""
    startup = Startup(10.0, trio.current_time())
    link = SupervisedLink("publishing", broker.name, connect or broker.publishing, Observers([]), startup)
    async with link.kept_up():
        yield link


@define(eq=False)
class Process:
    """A scheduler as a process that may die."""

    holder: str
    reach: Reach
    scheduler: Scheduler = field(init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)

    async def run(self, ground: Ground, task_status: trio.TaskStatus[None]) -> None:
        """Run until it leaves or is killed."""
        with self._scope:
            async with ground.scheduling(self.holder, reach=self.reach) as self.scheduler:
                task_status.started()
                await trio.sleep_forever()
        self._ended.set()

    async def leave(self) -> None:
        """Leave properly."""
        self._scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """Die: nothing is written or given up any more."""
        self.reach.is_cut = True
        await self.leave()
