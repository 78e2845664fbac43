"""What the embedded broker promises beyond the port: a look inside, bounded queues, faults on demand."""

import time
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.headers import passed_on
from milvaion_trio.ports import Binding, Broker, Confirmation, Exchange, Queue, Topology

JOBS = Queue("jobs", {"x-dead-letter-exchange": "dead"})
REPORTS = Queue("reports")
DEAD = Queue("dead")
TOPOLOGY = Topology(
    exchanges=[Exchange("dead", "topic")], queues=[JOBS, REPORTS, DEAD], bindings=[Binding("dead", "dead", "#")]
)


@pytest.fixture
def broker() -> EmbeddedBroker:
    broker = EmbeddedBroker(keep=3)
    broker.declare_nowait(TOPOLOGY)
    return broker


@pytest.fixture
async def connected(broker: EmbeddedBroker) -> AsyncIterator[EmbeddedBroker]:
    async with broker.publishing():
        yield broker


def message(number: int = 1) -> Message:
    return Message(body=b"%d" % number)


def to(queue: str, number: int = 1, delay: float = 0.0) -> Publication:
    return Publication(message(number), queue, "", delay)


def test_it_is_a_broker() -> None:
    """mypy checks the assignment, which is the point."""
    broker: Broker = EmbeddedBroker()

    assert broker.name == "the embedded broker"


# --- a look inside


async def test_a_view_shows_what_is_ready_and_what_is_unsettled(broker: EmbeddedBroker) -> None:
    for number in range(4):
        broker.publish_nowait(to("jobs", number))

    async with broker.consuming() as consumer:
        async with consumer.consume("jobs", prefetch=2) as deliveries:
            delivery = await deliveries.receive()
            view = broker.queue("jobs")
            assert view.ready == (message(2), message(3))
            assert (view.unacked, view.depth, view.consumers) == (2, 4, 1)

        view = broker.queue("jobs")
        assert view.ready == (message(1), message(2), message(3))
        assert (view.unacked, view.depth, view.consumers) == (1, 4, 0)

        delivery.ack()
        assert broker.queue("jobs").depth == 3


def test_a_view_of_no_queue_says_which_there_are(broker: EmbeddedBroker) -> None:
    with pytest.raises(LookupError, match="there is no queue 'job'; there are: jobs, reports, dead"):
        broker.queue("job")


def test_queues_are_listed_in_the_order_they_were_declared(broker: EmbeddedBroker) -> None:
    assert broker.queues == ("jobs", "reports", "dead")


async def test_delayed_messages_are_counted_with_the_next_due_time(
    connected: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    assert (connected.delayed, connected.next_due) == (0, None)

    connected.publish_nowait(to("jobs", 1, delay=60))
    connected.publish_nowait(to("jobs", 2, delay=20))

    assert (connected.delayed, connected.next_due) == (2, trio.current_time() + 20)
    await trio.sleep(20)
    await wait_all_tasks_blocked()
    assert (connected.delayed, connected.queue("jobs").ready) == (1, (message(2),))
    await trio.sleep(40)
    await wait_all_tasks_blocked()
    assert (connected.delayed, connected.next_due) == (0, None)
    assert connected.queue("jobs").ready == (message(2), message(1))


def test_a_delay_goes_on_from_one_run_of_trio_to_the_next(broker: EmbeddedBroker) -> None:
    """Each run has a clock of its own, which begins anywhere; a host on asyncio serves in several."""

    async def publish() -> float:
        async with broker.publishing():
            broker.publish_nowait(to("jobs", 1, delay=60))
            broker.publish_nowait(to("jobs", 2, delay=2))
            return time.monotonic()

    async def receive() -> tuple[Message, float, float]:
        async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=1) as deliveries:
            with trio.fail_after(10):
                delivery = await deliveries.receive()
            now = time.monotonic()
            return delivery.message, now, (broker.next_due or 0.0) - trio.current_time()

    published = trio.run(publish)
    time.sleep(1)
    received, now, left = trio.run(receive)

    assert received == message(2)
    assert now - published > 1.9
    assert left == pytest.approx(60 - (now - published), abs=0.5)


async def test_delayed_messages_with_equal_times_keep_their_order(
    connected: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    for number in range(5):
        connected.publish_nowait(to("jobs", number, delay=1))

    await trio.sleep(1.5)

    assert connected.queue("jobs").ready == tuple(message(number) for number in range(5))


async def test_a_message_due_while_no_connection_is_open_moves_when_one_is_opened(
    broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    broker.publish_nowait(to("jobs", delay=1))
    await trio.sleep(5)
    assert broker.queue("jobs").ready == ()

    async with broker.consuming():
        await wait_all_tasks_blocked()
        assert broker.queue("jobs").ready == (message(),)


async def test_a_lost_connection_moves_nothing(connected: EmbeddedBroker, autojump_clock: MockClock) -> None:
    connected.publish_nowait(to("jobs", delay=1))
    connected.drop_connection()

    await trio.sleep(5)

    assert connected.delayed == 1


async def test_idle_means_that_nothing_can_happen_by_itself(
    connected: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    assert connected.idle
    connected.publish_nowait(to("reports"))
    assert connected.idle

    connected.publish_nowait(to("jobs", delay=1))
    assert not connected.idle
    await trio.sleep(2)
    assert connected.idle

    async with connected.consuming() as consumer, consumer.consume("jobs", prefetch=1) as deliveries:
        connected.publish_nowait(to("jobs"))
        (await deliveries.receive()).ack()
        assert not connected.idle
        (await deliveries.receive()).ack()
        assert connected.idle


async def test_purge_drops_what_is_ready_and_says_how_much(broker: EmbeddedBroker) -> None:
    for number in range(3):
        broker.publish_nowait(to("jobs", number))

    async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=1) as deliveries:
        assert broker.purge("jobs") == 2
        assert broker.queue("jobs").unacked == 1
        (await deliveries.receive()).ack()

    assert broker.queue("jobs").depth == 0


async def test_observers_are_called_once_with_each_confirmed_publication(
    connected: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    seen: list[Publication] = []
    connected.on_publish.append(seen.append)

    connected.publish_nowait(to("jobs", 1))
    connected.publish_nowait(to("nobody", 2))
    connected.refuse_next(1)
    connected.publish_nowait(to("jobs", 3))
    connected.publish_nowait(to("jobs", 4, delay=1))
    await trio.sleep(2)

    assert seen == [to("jobs", 1), to("jobs", 4, delay=1)]


# --- bounds


def test_a_queue_that_nobody_consumes_keeps_the_newest_messages(broker: EmbeddedBroker) -> None:
    for number in range(5):
        broker.publish_nowait(to("reports", number))

    assert broker.queue("reports").ready == (message(2), message(3), message(4))


def test_a_job_queue_is_never_bounded(broker: EmbeddedBroker) -> None:
    """It is known by its dead-letter exchange."""
    for number in range(5):
        broker.publish_nowait(to("jobs", number))

    assert broker.queue("jobs").depth == 5


async def test_a_consumed_queue_is_not_bounded(broker: EmbeddedBroker) -> None:
    async with broker.consuming() as consumer, consumer.consume("reports", prefetch=1):
        for number in range(9):
            broker.publish_nowait(to("reports", number))

        assert broker.queue("reports").depth == 9


def test_ten_thousand_messages_are_kept_unless_said_otherwise() -> None:
    broker = EmbeddedBroker()
    broker.declare_nowait(TOPOLOGY)

    for _ in range(10_001):
        broker.publish_nowait(to("reports"))

    assert broker.queue("reports").depth == 10_000


# --- declaring and dead-lettering


def test_a_topology_with_problems_declares_nothing_and_lists_them_all(broker: EmbeddedBroker) -> None:
    with pytest.raises(SettingsError) as caught:
        broker.declare_nowait(
            Topology(
                exchanges=[Exchange("dead", "fanout"), Exchange("new", "headers"), Exchange("", "direct")],
                queues=[Queue("fine"), Queue("reports", {"x-max-length": 5})],
                bindings=[Binding("nowhere", "fine", "#"), Binding("dead", "nobody", "#")],
            )
        )

    assert len(caught.value.problems) == 6
    assert "fine" not in broker.queues


async def test_consuming_what_does_not_exist_raises_settings_error(broker: EmbeddedBroker) -> None:
    async with broker.consuming() as consumer:
        with pytest.raises(SettingsError, match="declare it before consuming"):
            async with consumer.consume("nobody", prefetch=1):
                pass
        with pytest.raises(ValueError, match="prefetch is 0"):
            async with consumer.consume("jobs", prefetch=0):
                pass


async def test_a_stopped_consumer_says_so(broker: EmbeddedBroker) -> None:
    async with broker.consuming() as consumer:
        async with consumer.consume("jobs", prefetch=1) as deliveries:
            pass

        with pytest.raises(trio.ClosedResourceError):
            await deliveries.receive()


async def test_dead_lettering_keeps_the_routing_key_and_counts_in_the_death_record(broker: EmbeddedBroker) -> None:
    """Without `x-dead-letter-routing-key` it is the message's own, as in RabbitMQ."""
    broker.declare_nowait(Topology(queues=[Queue("graves")], bindings=[Binding("dead", "graves", "jobs")]))
    broker.publish_nowait(to("jobs"))

    async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=1) as deliveries:
        (await deliveries.receive()).reject()
        (once,) = broker.queue("graves").ready
        broker.publish_nowait(Publication(once, "jobs"))
        (await deliveries.receive()).reject()
        _, twice = broker.queue("graves").ready

    deaths = twice.headers["x-death"]
    assert isinstance(deaths, list)
    (death,) = deaths
    assert {**death, "time": 0} == {
        "count": 2,
        "reason": "rejected",
        "queue": "jobs",
        "time": 0,
        "exchange": "",
        "routing-keys": ["jobs"],
    }
    assert passed_on(twice.headers) == {}


async def test_a_rejected_message_whose_dead_letter_exchange_takes_nothing_is_gone(broker: EmbeddedBroker) -> None:
    broker.declare_nowait(Topology(queues=[Queue("doomed", {"x-dead-letter-exchange": "nowhere"})]))
    broker.publish_nowait(to("doomed"))

    async with broker.consuming() as consumer, consumer.consume("doomed", prefetch=1) as deliveries:
        (await deliveries.receive()).reject()

    assert [broker.queue(name).depth for name in broker.queues] == [0, 0, 0, 0]


def test_a_new_binding_reaches_keys_that_were_used_before(broker: EmbeddedBroker) -> None:
    assert broker.publish_nowait(to("new")) is Confirmation.UNROUTABLE

    broker.declare_nowait(Topology(queues=[Queue("new")]))

    assert broker.publish_nowait(to("new")) is Confirmation.CONFIRMED


def test_a_new_routing_key_with_every_message_fills_no_memory(broker: EmbeddedBroker) -> None:
    for number in range(10_000):
        broker.publish_nowait(Publication(message(), f"key.{number}", "dead"))

    assert len(broker._vhost._routes) <= 4096


# --- faults on demand


async def test_refused_connections_leave_open_ones_alone(broker: EmbeddedBroker) -> None:
    async with broker.publishing() as publisher:
        broker.refuse_connections = True
        with pytest.raises(LinkLost):
            async with broker.consuming():
                pass
        assert await publisher.publish([to("jobs")]) == [Confirmation.CONFIRMED]

    broker.refuse_connections = False
    async with broker.consuming():
        pass


async def test_confirms_are_held_until_all_holds_are_left(broker: EmbeddedBroker, autojump_clock: MockClock) -> None:
    answered = trio.Event()

    async def publish() -> None:
        async with broker.publishing() as publisher:
            await publisher.publish([to("jobs")])
        answered.set()

    async with trio.open_nursery() as nursery:
        with broker.hold_confirms():
            with broker.hold_confirms():
                nursery.start_soon(publish)
                await trio.sleep(1)
            await trio.sleep(1)
            assert broker.queue("jobs").depth == 1
            assert not answered.is_set()

    assert answered.is_set()


async def test_a_queue_is_served_in_turn_over_connections_with_room(broker: EmbeddedBroker) -> None:
    async with broker.consuming() as one, broker.consuming() as two:
        async with one.consume("jobs", prefetch=1) as of_one, two.consume("jobs", prefetch=5) as of_two:
            for number in range(4):
                broker.publish_nowait(to("jobs", number))

            assert (await of_one.receive()).message == message(0)
            assert [(await of_two.receive()).message for _ in range(3)] == [message(1), message(2), message(3)]
