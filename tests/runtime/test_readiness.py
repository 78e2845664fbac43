"""Whether the worker takes jobs now, and what keeps it from that: it follows every part, and its changes are told."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from tests.support.workers import story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import SettingsError, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedConsumer
from milvaion_trio.broker.embedded.queues import EmbeddedDeliveries
from milvaion_trio.logs import log_event
from milvaion_trio.model.events import Event, LinkUp, ReadinessChanged, WorkerReady
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.readiness import Readiness
from milvaion_trio.testing import WorkerUnderTest, under_test

QUEUE = "scheduled_jobs_queue.tests.work.wildcard"


@pytest.fixture
def worker(worker: Worker) -> Worker:
    @worker.job("work", timeout=0)
    async def work(data: float = 10) -> str:
        await trio.sleep(data)
        return "done"

    return worker


def changes(kit: WorkerUnderTest) -> list[bool]:
    return [event.is_ready for event in kit.events if isinstance(event, ReadinessChanged)]


# --- of a worker ------------------------------------------------------------------------------------------------------


async def test_a_worker_is_ready_from_its_start_until_it_is_asked_to_leave(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Not while it drains, although jobs run on: whoever asks would send it no more work."""
    assert worker.readiness.problems == {"worker": "it does not serve"}
    seen = []
    async with under_test(worker) as kit:
        seen.append(worker.readiness.is_ready)
        kit.enqueue("work", 10)
        await trio.sleep(1)
        kit.drain()
        await trio.sleep(1)
        seen.append(worker.readiness.is_ready)
        assert worker.readiness.problems == {"worker": "it is leaving"}
        await kit.stopped()

    assert seen == [True, False]
    assert changes(kit) == [True, False]
    assert not worker.readiness.is_ready


async def test_nothing_is_told_before_the_worker_is_up(worker: Worker, autojump_clock: MockClock) -> None:
    """Connections come and queues are consumed; the first change is that all of it is there."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    states = []

    async def come_up() -> None:
        await trio.sleep(10)
        states.append(worker.readiness.problems)
        broker.refuse_connections = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_up)
        async with under_test(worker, broker=broker) as kit:
            await trio.sleep(1)

    assert states == [{"worker": "it is starting", "publishing": "the embedded broker refuses connections"}]
    told = [type(event) for event in kit.events if isinstance(event, LinkUp | WorkerReady | ReadinessChanged)]
    assert told[:4] == [LinkUp, LinkUp, WorkerReady, ReadinessChanged]


async def test_a_lost_connection_is_named_until_its_queues_are_consumed_again(
    worker: Worker, autojump_clock: MockClock
) -> None:
    async with under_test(worker) as kit:
        await trio.sleep(1)
        kit.events.clear()
        with kit.broker.unreachable():
            await trio.sleep(60)
            during = worker.readiness
        await trio.sleep(15)

        assert during.problems == {
            "publishing": "the embedded broker refuses connections",
            "consuming": "the embedded broker refuses connections",
            f"queue {QUEUE}": "it is not consumed",
        }
        assert changes(kit) == [False, True]
        assert worker.readiness.problems == {}


async def test_a_loss_is_named_at_once(worker: Worker, autojump_clock: MockClock) -> None:
    """Before anything is tried again, and before the lost connection is closed, which may take seconds."""
    async with under_test(worker) as kit:
        await trio.sleep(1)
        kit.events.clear()
        kit.broker.drop_connection("publishing")
        await wait_all_tasks_blocked()

        assert worker.readiness.problems == {"publishing": "the embedded broker dropped the connection"}
        await trio.sleep(1)
        assert changes(kit) == [False, True]


@define(eq=False)
class ForbiddenConsumer(EmbeddedConsumer):
    """Nobody may consume, while it is forbidden."""

    is_forbidden: list[bool] = field(factory=list)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[EmbeddedDeliveries]:
        if self.is_forbidden and queue == QUEUE:
            raise SettingsError([f"Queue {queue!r} may not be consumed."])
        async with EmbeddedConsumer.consume(self, queue, prefetch=prefetch) as deliveries:
            yield deliveries


@define(eq=False)
class ForbiddingBroker(EmbeddedBroker):
    is_forbidden: list[bool] = field(factory=list, init=False)

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[EmbeddedConsumer]:
        link = ForbiddenConsumer("consuming", self.declare_nowait, self._vhost, self._delays, self.is_forbidden)
        async with self._open(link) as opened:
            yield opened


async def test_a_connection_alone_does_not_make_a_worker_ready(worker: Worker, autojump_clock: MockClock) -> None:
    """Not as long as it may not consume a queue."""
    broker = ForbiddingBroker()
    async with under_test(worker, broker=broker) as kit:
        broker.is_forbidden.append(True)
        broker.drop_connection("consuming")
        await trio.sleep(60)
        during = worker.readiness
        broker.is_forbidden.clear()
        await trio.sleep(10)

        assert during.problems == {f"queue {QUEUE}": "it is not consumed"}
        assert changes(kit) == [True, False, True]


async def test_a_blocked_publisher_is_named_until_it_is_read_again(worker: Worker, autojump_clock: MockClock) -> None:
    """Jobs run meanwhile, and are reported and acked afterwards, once."""
    async with under_test(worker) as kit:
        await trio.sleep(1)
        kit.events.clear()
        with kit.broker.blocking("low on memory"):
            occurrence = kit.enqueue("work")
            await trio.sleep(60)
            during = worker.readiness
            assert kit.queue().unacked == 1
        await kit.run_until_idle()

        assert during.problems == {"publishing blocked": "low on memory"}
        assert changes(kit) == [False, True]
    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_publisher_that_is_lost_while_it_is_blocked_is_blocked_no_more(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """The next connection says for itself whether it is read."""
    async with under_test(worker) as kit:
        with kit.broker.blocking("low on disk"):
            await trio.sleep(1)
            with kit.broker.unreachable():
                await trio.sleep(20)
                assert "publishing blocked" not in worker.readiness.problems
            await trio.sleep(15)
            assert worker.readiness.problems == {"publishing blocked": "low on disk"}
        assert worker.readiness.is_ready


async def test_an_outbox_in_trouble_is_named(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Callable[[str], None]
) -> None:
    async with under_test(worker):
        outbox_trouble("the disk is full")
        assert worker.readiness.problems == {"outbox": "the disk is full"}
        outbox_trouble("")
        assert worker.readiness.is_ready


# --- by itself --------------------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def readiness(told: list[Event]) -> Readiness:
    readiness = Readiness(Observers([told.append]))
    readiness.report("worker", "")
    told.clear()
    return readiness


def test_only_what_changes_the_whole_is_told(readiness: Readiness, told: list[Event]) -> None:
    """A second problem is added, another reason replaces the first, and neither makes it less ready."""
    readiness.report("a", "broken")
    readiness.report("b", "broken too")
    readiness.report("a", "broken otherwise")
    readiness.report("a", "")
    readiness.report("c", "")
    assert readiness.now.problems == {"b": "broken too"}
    readiness.report("b", "")

    assert told == [ReadinessChanged(False, {"a": "broken"}), ReadinessChanged(True, {})]


def test_what_was_asked_for_does_not_change_any_more(readiness: Readiness) -> None:
    now = readiness.now
    readiness.report("a", "broken")

    assert now.is_ready


async def test_waiting_ends_when_the_part_is_well(readiness: Readiness) -> None:
    readiness.report("a", "broken")
    readiness.report("b", "broken")
    ended = trio.Event()

    async def wait() -> None:
        await readiness.wait_without("a")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        readiness.report("b", "")
        await wait_all_tasks_blocked()
        assert not ended.is_set()
        readiness.report("a", "")
        await ended.wait()
        await readiness.wait_without("a")


async def test_a_block_ends_when_its_part_gets_a_problem(readiness: Readiness) -> None:
    """And one that is entered too late ends at its first wait."""
    reached: list[str] = []
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            with readiness.only_without("a"):
                await trio.sleep_forever()
            reached.append("left")

        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        readiness.report("b", "broken")
        await wait_all_tasks_blocked()
        assert reached == []
        readiness.report("a", "broken")
    with readiness.only_without("a"):
        reached.append("entered")
        await trio.lowlevel.checkpoint()
        reached.append("never")

    assert reached == ["left", "entered"]


def test_readiness_is_in_the_log_of_who_wants_to_know(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG: what is wrong has a line of its own, where it was noticed."""
    caplog.set_level("DEBUG", "milvaion_trio")
    log_event(ReadinessChanged(False, {"publishing": "gone", "outbox": "full"}))
    log_event(ReadinessChanged(True, {}))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "not ready: publishing: gone; outbox: full"),
        ("DEBUG", "ready"),
    ]
