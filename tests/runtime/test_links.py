"""Lost connections: jobs run on, reports wait, and both connections come back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from attrs import define, field
from tests.support.workers import story
from trio.testing import MockClock

from milvaion_trio import BrokerUnreachable, SettingsError, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedConsumer, EmbeddedPublisher
from milvaion_trio.broker.embedded.queues import EmbeddedDeliveries
from milvaion_trio.model import events
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.ports import Topology
from milvaion_trio.testing import under_test


@define(eq=False)
class CountingBroker(EmbeddedBroker):
    """Notes when somebody wants a connection to publish over."""

    asked: list[float] = field(factory=list, init=False)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[EmbeddedPublisher]:
        self.asked.append(trio.current_time())
        async with EmbeddedBroker.publishing(self) as publisher:
            yield publisher


@define(eq=False)
class SpoiledBroker(EmbeddedBroker):
    """Finds something wrong with whatever is declared, while there is a problem."""

    problem: str = field(default="", init=False)

    def declare_nowait(self, topology: Topology) -> None:
        if self.problem:
            raise SettingsError([self.problem])
        EmbeddedBroker.declare_nowait(self, topology)


@define(eq=False)
class ForbiddingConsumer(EmbeddedConsumer):
    """Lets nobody consume what its broker forbids."""

    forbids: Callable[[str], bool] = field(default=lambda _: False, kw_only=True)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[EmbeddedDeliveries]:
        if self.forbids(queue):
            raise SettingsError([f"Queue {queue!r} may not be consumed."])
        async with EmbeddedConsumer.consume(self, queue, prefetch=prefetch) as deliveries:
            yield deliveries


@define(eq=False)
class ForbiddingBroker(EmbeddedBroker):
    """Forbids to consume one queue."""

    forbidden: str = field(default="", init=False)

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[EmbeddedConsumer]:
        link = ForbiddingConsumer(
            "consuming", self.declare_nowait, self._vhost, self._delays, forbids=lambda queue: queue == self.forbidden
        )
        async with self._open(link) as opened:
            yield opened


@pytest.fixture
def worker(worker: Worker) -> Worker:
    @worker.job("work", timeout=0)
    async def work(data: float = 10) -> str:
        await trio.sleep(data)
        return "done"

    return worker


async def test_a_running_job_is_adopted_again_after_a_lost_connection(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """The broker delivers its message again; the run goes on, its outcome answers for the new delivery."""
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work", 30)
        await trio.sleep(5)
        kit.broker.drop_connection()
        assert (len(kit.queue().ready), kit.queue().unacked) == (1, 0)
        await trio.sleep(5)
        assert (len(kit.queue().ready), kit.queue().unacked) == (0, 1)

        await kit.run_until_idle()

    assert trio.current_time() == 30
    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_second_outage_is_like_the_first(worker: Worker, autojump_clock: MockClock) -> None:
    """It is told again, and the first try comes at once again."""
    broker = CountingBroker()
    async with under_test(worker, broker=broker) as kit:
        for _ in range(2):
            await trio.sleep(60)
            with broker.unreachable():
                await trio.sleep(300)
        await trio.sleep(60)
        broker.asked.clear()
        broker.drop_connection()
        dropped = trio.current_time()
        await trio.sleep(60)
        downs = [event for event in kit.events if isinstance(event, events.LinkDown) and event.link == "publishing"]

    assert 0.2 <= broker.asked[0] - dropped <= 0.6
    assert len(downs) == 5  # lost and refused, lost and refused, lost


async def test_a_link_lost_while_the_worker_says_goodbye_disturbs_nothing(
    worker: Worker, autojump_clock: MockClock
) -> None:
    broker = EmbeddedBroker()
    async with under_test(worker, broker=broker) as kit:
        await trio.sleep(1)
        with broker.hold_confirms():
            kit.drain()
            await trio.sleep(1)
            broker.drop_connection("publishing")
            await kit.stopped()


async def test_a_queue_that_was_declared_otherwise_meanwhile_ends_no_job(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and what is there is consumed, that queue too."""
    async with under_test(worker, broker=SpoiledBroker()) as kit:
        occurrence = kit.enqueue("work", 30)
        await trio.sleep(5)
        assert isinstance(kit.broker, SpoiledBroker)
        kit.broker.problem = "Queue 'jobs' exists with other arguments."
        kit.broker.drop_connection("consuming")
        await trio.sleep(5)
        later = kit.enqueue("work", 1)
        await kit.run_until_idle()

    assert story(kit, occurrence) == story(kit, later) == ["RUNNING", "COMPLETED"]
    assert caplog.messages == ["Queue 'jobs' exists with other arguments."]


async def test_another_reason_for_the_same_outage_is_told(worker: Worker, autojump_clock: MockClock) -> None:
    """One line per reason, not per try: whoever looks at the log needs the one that holds now."""
    broker = EmbeddedBroker()
    async with under_test(worker, broker=broker) as kit:
        await trio.sleep(1)
        with broker.unreachable():
            await trio.sleep(60)
        whys = [event.why for event in kit.events if isinstance(event, events.LinkDown) and event.link == "consuming"]

    assert whys == ["the embedded broker dropped the connection", "the embedded broker refuses connections"]


async def test_a_queue_that_may_not_be_consumed_any_more_stops_nothing_else(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Its intake waits until somebody has put it right; other jobs run, new ones too."""

    @worker.job("other")
    async def other() -> None: ...

    broker = ForbiddingBroker()
    async with under_test(worker, broker=broker) as kit:
        running = kit.enqueue("work", 30)
        await trio.sleep(5)
        broker.forbidden = "scheduled_jobs_queue.tests.work.wildcard"
        broker.drop_connection("consuming")
        await trio.sleep(5)
        beside = kit.enqueue("other")
        later = kit.enqueue("work", 1)
        await trio.sleep(60)
        assert story(kit, beside) == ["RUNNING", "COMPLETED"]
        with pytest.raises(LookupError):
            kit.occurrence(later).statuses[0]  # not told anything of yet

        broker.forbidden = ""
        await kit.run_until_idle()

    assert story(kit, later) == story(kit, running) == ["RUNNING", "COMPLETED"]


async def test_both_connections_come_back(worker: Worker, autojump_clock: MockClock) -> None:
    """Each is told down once and up once, and new work is served."""
    async with under_test(worker) as kit:
        await trio.sleep(5)
        kit.events.clear()
        kit.broker.drop_connection()
        await trio.sleep(1)
        told = [(type(event), event.link) for event in kit.events if isinstance(event, events.LinkDown | events.LinkUp)]
        occurrence = kit.enqueue("work")
        await kit.run_until_idle()

    assert sorted(told, key=str) == sorted(
        [(kind, link) for link in ("consuming", "publishing") for kind in (events.LinkDown, events.LinkUp)], key=str
    )
    assert kit.occurrence(occurrence).result == "done"


async def test_a_job_that_ends_during_an_outage_is_reported_after_it(worker: Worker, autojump_clock: MockClock) -> None:
    """The report waits, the message comes back and is acked behind it; the job does not run again."""
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work", 30)
        await trio.sleep(5)
        with kit.broker.unreachable():
            await trio.sleep(100)
            assert story(kit, occurrence) == ["RUNNING"]
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]
    final = kit.occurrence(occurrence).final
    assert final is not None
    assert final.duration_ms == 30_000


async def test_running_is_left_out_when_the_final_status_overtakes_it(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """A final status carries everything that its Running carried (DESIGN.md 7)."""
    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            await trio.sleep(31)  # a heartbeat waits for its confirm
            kit.broker.drop_connection("publishing")
            kit.broker.refuse_connections = True
            occurrence = kit.enqueue("work", 10)
            await trio.sleep(20)
        kit.broker.refuse_connections = False
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["COMPLETED"]


async def test_the_backoff_grows_to_5_seconds_at_most(worker: Worker, autojump_clock: MockClock) -> None:
    """A broker that is away is asked less and less often, and at least every 5 s: it is found within 15 (F5, I10)."""
    broker = CountingBroker()

    async with under_test(worker, broker=broker) as kit:
        await trio.sleep(1)
        broker.asked.clear()
        with broker.unreachable():
            await trio.sleep(3600)
        await trio.sleep(30)
        links = [type(event) for event in kit.events if isinstance(event, events.LinkDown | events.LinkUp)]

    waits = [later - earlier for earlier, later in pairwise([1.0, *broker.asked])]
    assert 0.2 <= waits[0] <= 0.6
    assert max(waits) < 5.001
    assert 3600 / 5 <= len(waits) <= 3600 / 1.5
    assert links == [events.LinkUp] * 2 + [events.LinkDown] * 4 + [events.LinkUp] * 2  # lost, then refused


@pytest.mark.parametrize("limit", [30.0, 5.0])
async def test_a_broker_that_never_answers_ends_the_start(autojump_clock: MockClock, limit: float) -> None:
    """One `BrokerUnreachable`, never a group, when the limit is up and not before (DESIGN.md 2)."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    settings = WorkerSettings(worker_id="tests", startup_connection_timeout=limit)
    worker = Worker(settings=settings, broker=broker, observers=())

    with pytest.raises(BrokerUnreachable, match=f"within {limit:g} s; .* refuses connections"):
        await worker.serve()

    assert trio.current_time() == limit


async def test_a_broker_that_answers_late_is_waited_for(worker: Worker, autojump_clock: MockClock) -> None:
    """Broker and worker are often started together."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True

    async def come_up() -> None:
        await trio.sleep(20)
        broker.refuse_connections = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_up)
        async with under_test(worker, broker=broker) as kit:
            occurrence = kit.enqueue("work")
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED


async def test_without_a_limit_the_broker_is_tried_for_ever(autojump_clock: MockClock) -> None:
    """`StartupConnectionTimeoutSeconds` of 0 or less; the worker can be told to leave all the same."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    settings = WorkerSettings(worker_id="tests", startup_connection_timeout=0)
    worker = Worker(settings=settings, broker=broker, observers=())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.serve)
        await trio.sleep(3600)
        began = trio.current_time()
        worker.drain()

    assert trio.current_time() == began


async def test_an_outage_after_the_start_has_no_limit(worker: Worker, autojump_clock: MockClock) -> None:
    """Only the start gives up; a worker that serves waits for its broker."""
    async with under_test(worker) as kit:
        with kit.broker.unreachable():
            await trio.sleep(7200)
        occurrence = kit.enqueue("work")
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "done"


async def test_contradictions_are_found_before_anything_is_connected(autojump_clock: MockClock) -> None:
    """One `SettingsError` that lists all of them."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    worker = Worker("tests", broker=broker, observers=())

    @worker.job("Send")
    async def send() -> None: ...

    @worker.job("SendJob")
    async def send_too(first: int, second: int) -> None: ...

    with pytest.raises(SettingsError) as caught:
        await worker.serve()

    assert len(caught.value.problems) == 2
    assert trio.current_time() == 0


async def test_queues_that_exist_otherwise_stop_the_start(worker: Worker, autojump_clock: MockClock) -> None:
    """Waiting does not change a queue's arguments, so the first answer is the last."""
    from milvaion_trio.ports import Queue, Topology

    broker = EmbeddedBroker()
    broker.declare_nowait(Topology(queues=[Queue("scheduled_jobs_queue.tests.work.wildcard", {"x-max-length": 5})]))

    with pytest.raises(SettingsError, match="x-max-length"):
        async with under_test(worker, broker=broker):
            pass
