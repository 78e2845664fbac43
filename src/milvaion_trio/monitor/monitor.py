"""`Monitor`: reads what workers report, keeps it, and notices who has fallen silent.

A message is taken, written together with others, and only then acknowledged, so that a monitor that dies loses nothing.
How messages become rows stands in `keeper`, what is done by the clock in `rounds`.
"""

import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, TypeVar

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost, StoreUnavailable
from milvaion_trio.model.events import Observer
from milvaion_trio.model.exception_groups import leaves, sole
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.settings import MonitorSettings
from milvaion_trio.monitor.batches import PREFETCH, Collector
from milvaion_trio.monitor.ends import Ends
from milvaion_trio.monitor.keeper import Keeper
from milvaion_trio.monitor.queues import QUEUES, TOPOLOGY, copies, others, refusal
from milvaion_trio.monitor.rounds import Rounds
from milvaion_trio.monitor.set_aside import SetAside
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.ports import Broker, Consumer, Deliveries, Delivery
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.ports.history import HistoryStore
from milvaion_trio.runtime.consuming import consumed_again
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink

__all__ = ["Monitor"]

FLUSH: Final = 5.0
"""Seconds in which a monitor that leaves writes what it has taken; the rest goes back to the queues."""
PATIENCE: Final = 3.0
"""Seconds for a reader that was killed to vanish from the broker, before it counts as one that is there."""
LOOK: Final = 0.2
"""Seconds between two looks for it."""

_log = logging.getLogger("milvaion_trio.monitor")

T = TypeVar("T")


@define(eq=False, kw_only=True)
class Monitor:
    """A reader of everything that workers report. One per virtual host, as a message goes to one reader only."""

    broker: Broker
    store: HistoryStore
    """Entered and left by the monitor."""
    coordination: Coordination | None = None
    """Whom to tell how scheduled runs ended; open while the monitor runs."""
    settings: MonitorSettings = field(factory=MonitorSettings)
    clock_ns: Callable[[], int] = time.time_ns
    observers: tuple[Observer, ...] = ()
    startup_timeout: float = 30.0
    """Seconds for the first connections; 0 or less for ever."""
    patterns: frozenset[str] = frozenset()
    """Routing patterns of workers of which it is known before they register: also their first dispatches are kept."""
    beside_others: bool = False
    """Whether to start although somebody else reads these queues: then each knows a part of what happened."""
    kept: int = field(default=0, init=False)
    """Messages that were written and acknowledged."""
    _keeper: Keeper = field(init=False)
    _thread: trio.CapacityLimiter = field(init=False)
    _working: trio.CancelScope = field(init=False)
    """Cancelled when the monitor is to leave."""
    _consuming: SupervisedLink[Consumer] = field(init=False)
    _set_aside: SetAside = field(init=False)
    _ends: Ends = field(init=False)
    _reads: trio.Event = field(init=False)
    _copied: frozenset[str] = field(default=frozenset(), init=False)
    """The patterns of which this connection has asked for copies."""
    _is_alone: bool = field(default=False, init=False)
    _in_trouble: int = field(default=0, init=False)
    """How many visits to the store have failed and are tried again: one that reads may succeed meanwhile."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and keep until cancelled; it has started once every queue is consumed.

        Raises `BrokerUnreachable`, `StoreUnavailable` where the store cannot be opened, and `SettingsError` where
        somebody else reads the queues. If cancelled, what was taken is written and acknowledged within 5 s, or goes
        back to its queue.
        """
        self._thread, self._keeper = trio.CapacityLimiter(1), Keeper(self.store, self.now)
        self._working = trio.CancelScope()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._run)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._working.cancel()
        except BaseExceptionGroup as group:
            raise sole(group) from None

    def now(self) -> Instant:
        """The monitor's clock."""
        return Instant.from_unix_ns(self.clock_ns())

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run until `_working` is cancelled; cancelled otherwise only before it has started."""
        observers, startup = Observers(self.observers), Startup(self.startup_timeout, trio.current_time())
        self._consuming = SupervisedLink("consuming", self.broker.name, self._declared, observers, startup)
        publishing = SupervisedLink("publishing", self.broker.name, self.broker.publishing, observers, startup)
        self._set_aside, self._ends, self._reads = SetAside(publishing), Ends(self.coordination), trio.Event()
        rounds = Rounds(keeper=self._keeper, ends=self._ends, settings=self.settings, do=self._done)
        with trio.CancelScope() as house:
            async with self._open_store(), publishing.kept_up(), self._consuming.kept_up():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._work, rounds)
                    await self._reads.wait()
                    house.shield = True  # from now on only `_working` ends it, so that links outlive what is flushed
                    task_status.started()

    async def _work(self, rounds: Rounds) -> None:
        with self._working:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._consuming.use, self._read)
                nursery.start_soon(self._ends.tell_again)
                nursery.start_soon(rounds.run)

    @contextlib.asynccontextmanager
    async def _open_store(self) -> AsyncIterator[None]:
        await self._in_thread(self.store.__enter__)
        try:
            await self._in_thread(self._keeper.open)
            yield
        finally:
            with trio.CancelScope(shield=True):  # a file that is open has to be closed
                await self._in_thread(partial(self.store.__exit__, None, None, None))

    # --- over one connection ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _declared(self) -> AsyncIterator[Consumer]:
        """A connection over which all that is read is declared. If cancelled, any part of it is."""
        async with self.broker.consuming() as consumer:
            if not self._is_alone and not self.beside_others:
                await self._find_alone(consumer)
                self._is_alone = True  # whoever comes later sees this one
            await consumer.declare(TOPOLOGY)
            self._copied = frozenset()
            await self._copy(consumer)
            yield consumer

    async def _copy(self, consumer: Consumer) -> None:
        """Have a copy of what is dispatched to the workers that are known by now. If cancelled, of some of it."""
        patterns = self._keeper.patterns | self.patterns
        if patterns != self._copied:
            await consumer.declare(copies(patterns - self._copied))
            self._copied = patterns

    async def _find_alone(self, consumer: Consumer) -> None:
        with trio.move_on_after(PATIENCE):
            while await others(consumer):  # noqa: ASYNC110  # a broker tells nobody
                await trio.sleep(LOOK)
        if found := await others(consumer):
            raise refusal(found, self.broker.name)

    async def _see_that_it_is_alone(self, consumer: Consumer) -> None:
        """Of two that start at the same time neither has seen the other before, and now each does."""
        readers = await others(consumer)
        if found := {queue: count - 1 for queue, count in readers.items() if count > 1}:
            raise refusal(found, self.broker.name)

    async def _read(self, consumer: Consumer) -> None:
        """Read over this connection until it is lost (`LinkLost`); cancelled, write what was taken."""
        collector = Collector(QUEUES, self.settings.batch_interval)
        in_hand: list[Delivery] = []
        try:
            async with contextlib.AsyncExitStack() as stack:
                sources = [await stack.enter_async_context(self._consumed(consumer, queue)) for queue in QUEUES]
                if not self._reads.is_set() and not self.beside_others:
                    await self._see_that_it_is_alone(consumer)
                self._keeper.reads_since = self.now()
                self._reads.set()
                try:
                    async with trio.open_nursery() as nursery:
                        for deliveries in sources:
                            nursery.start_soon(collector.receive, deliveries)
                        nursery.start_soon(self._set_aside.run)
                        while True:
                            in_hand += await collector.batch()
                            await self._keep(in_hand)
                            await self._copy(consumer)
                finally:
                    self._keeper.reads_since = None
                    if self._working.cancel_called:
                        with trio.move_on_after(FLUSH, shield=True):
                            await self._keep(in_hand)
                            await self._keep(collector.rest())
                            await self._set_aside.flush()
                    self._set_aside.forget()
        except BaseExceptionGroup as group:
            if lost := [each for each in leaves(group) if isinstance(each, LinkLost)]:
                raise lost[0] from None  # every source raised it
            raise

    def _consumed(self, consumer: Consumer, queue: str) -> contextlib.AbstractAsyncContextManager["Deliveries"]:
        """What is wrong with a queue stops the start; later it is waited for."""
        if not self._reads.is_set():
            return consumer.consume(queue, prefetch=PREFETCH)
        return consumed_again(consumer, queue, prefetch=PREFETCH, needed=TOPOLOGY)

    async def _keep(self, batch: list[Delivery]) -> None:
        """Write the batch, acknowledge it and leave it empty. If cancelled, it is left as it was, written or not."""
        if not batch:
            return
        taken = tuple(batch)
        kept = await self._done(partial(self._keeper.keep, taken))
        await self._ends.tell(kept.ends)
        batch.clear()  # first, as whoever leaves keeps what is still in it: nothing may be acknowledged twice
        unreadable = {id(delivery) for delivery, _ in kept.unreadable}
        for delivery, why in kept.unreadable:
            self._set_aside.take(delivery, why)
        for delivery in taken:
            if id(delivery) not in unreadable:
                delivery.ack()
        self.kept += len(taken) - len(unreadable)

    # --- the store --------------------------------------------------------------------------------------------------

    async def _done(self, function: Callable[[], T]) -> T:
        """Do something with the store, again until it is there. If cancelled, it may be done."""
        delays: Iterator[float] = reconnect_delays(iter(random.random, None))
        has_failed = False
        try:
            while True:
                if self._in_trouble and self._keeper.reads_since is not None:
                    self._keeper.reads_since = self.now()  # what was said meanwhile is still to be read
                try:
                    done = await self._in_thread(function)
                except StoreUnavailable as error:
                    if not self._in_trouble:
                        _log.error("nothing is kept, and nothing acknowledged, until it can be: %s", error)
                    self._in_trouble += not has_failed
                    has_failed = True
                else:
                    if has_failed and self._in_trouble == 1:
                        _log.info("no more trouble with %s", self.store.name)
                    return done
                await trio.sleep(next(delays))
        finally:
            self._in_trouble -= has_failed

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(function, limiter=self._thread)
