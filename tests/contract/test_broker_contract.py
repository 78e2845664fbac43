"""What every transport promises: the sentences of `ports.Broker` and its parts, one test each.

Only ports are used here, and `BrokerUnderTest` to cause faults; `tests/support/brokers.py` lists the transports.
"""

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
import trio.testing
from attrs import define, field
from tests.support.brokers import BROKERS, BrokerKind, BrokerUnderTest
from trio.testing import MockClock

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import DeliverySettled, LinkLost, SettingsError
from milvaion_trio.ports import (
    Binding,
    Broker,
    Confirmation,
    Deliveries,
    Delivery,
    Exchange,
    Publisher,
    Queue,
    Topology,
)

CONFIRMED = Confirmation.CONFIRMED
SOON = 10.0
"""Seconds in which a real broker has surely done what it is going to do."""

QUIET = 0.2
"""Seconds in which nothing came, so that nothing will."""

JOBS = "jobs"
DEAD = "dead"
TOPOLOGY = Topology(
    exchanges=[Exchange("topic", "topic"), Exchange("direct", "direct"), Exchange("fanout", "fanout")],
    queues=[
        Queue(JOBS, {"x-dead-letter-exchange": "direct", "x-dead-letter-routing-key": "buried"}),
        Queue(DEAD),
        Queue("other"),
    ],
    bindings=[
        Binding("direct", DEAD, "buried"),
        Binding("topic", JOBS, "worker.*"),
        Binding("topic", "other", "#.end"),
    ],
)


@pytest.fixture(params=BROKERS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    chosen: BrokerKind = request.param
    return chosen


@pytest.fixture
def clock(kind: BrokerKind) -> MockClock | None:
    """Virtual where the transport allows it. Every test asks for it, so that one that hangs fails at once."""
    return MockClock(autojump_threshold=0) if kind.has_virtual_time else None


@pytest.fixture
async def under_test(kind: BrokerKind) -> AsyncIterator[BrokerUnderTest]:
    async with kind.open() as under_test:
        async with under_test.broker.consuming() as consumer:
            await consumer.declare(TOPOLOGY)
        yield under_test


@pytest.fixture
def broker(under_test: BrokerUnderTest) -> Broker:
    return under_test.broker


def job(number: int = 1, *, key: str = JOBS, exchange: str = "", delay: float = 0.0) -> Publication:
    return Publication(Message(body=b"job %d" % number, message_id=f"id-{number}"), key, exchange, delay)


async def publish(broker: Broker, *publications: Publication) -> Sequence[Confirmation]:
    with trio.fail_after(SOON):
        async with broker.publishing() as publisher:
            return await publisher.publish(publications)


async def next_of(deliveries: Deliveries) -> Delivery:
    with trio.fail_after(SOON):
        return await deliveries.receive()


async def bodies(deliveries: Deliveries, count: int) -> list[bytes]:
    """Receive and ack that many."""
    received = []
    for _ in range(count):
        delivery = await next_of(deliveries)
        delivery.ack()
        received.append(delivery.message.body)
    return received


async def all_of(broker: Broker, queue: str) -> list[tuple[bytes, bool]]:
    """Empty a queue: bodies, each with whether it was redelivered."""
    found = []
    async with broker.consuming() as consumer, consumer.consume(queue, prefetch=100) as deliveries:
        while (delivery := await none_or_next(deliveries)) is not None or await consumer.depth(queue, may_wait=True):
            if delivery is not None:
                delivery.ack()
                found.append((delivery.message.body, delivery.redelivered))
    return found


async def none_or_next(deliveries: Deliveries) -> Delivery | None:
    """The next delivery, or `None` when none comes."""
    with trio.move_on_after(QUIET):
        return await deliveries.receive()
    return None


# --- topology -------------------------------------------------------------------------------------------------------


async def test_declaring_again_with_the_same_arguments_leaves_everything_alone(
    broker: Broker, clock: MockClock | None
) -> None:
    await publish(broker, job(1))

    async with broker.consuming() as consumer:
        await consumer.declare(TOPOLOGY)

    assert await all_of(broker, JOBS) == [(b"job 1", False)]
    assert await publish(broker, job(2, exchange="topic", key="worker.x")) == [CONFIRMED]
    assert await all_of(broker, JOBS) == [(b"job 2", False)]


@pytest.mark.parametrize(
    "topology",
    [
        pytest.param(Topology(queues=[Queue(DEAD, {"x-dead-letter-exchange": "direct"})]), id="queue with arguments"),
        pytest.param(Topology(queues=[Queue(JOBS)]), id="queue without arguments"),
        pytest.param(Topology(exchanges=[Exchange("topic", "fanout")]), id="exchange of another kind"),
    ],
)
async def test_declaring_with_other_arguments_raises_settings_error(
    broker: Broker, clock: MockClock | None, topology: Topology
) -> None:
    async with broker.consuming() as consumer:
        with pytest.raises(SettingsError):
            await consumer.declare(topology)


async def test_declaring_on_a_lost_link_raises_link_lost(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    async with under_test.broker.consuming() as consumer:
        await under_test.drop("consuming")
        with trio.fail_after(SOON):
            await consumer.lost()

        with pytest.raises(LinkLost):
            await consumer.declare(TOPOLOGY)


PATTERNS = [
    ("a.b", "a.b", True),
    ("a.b", "a.b.c", False),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.b.c", False),
    ("*.b", "a.b", True),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("a.#", "b.a", False),
    ("#", "anything.at.all", True),
    ("#", "", True),
    ("*", "", False),
    ("a.#.z", "a.z", True),
    ("a.#.z", "a.b.c.z", True),
    ("a.#.z", "a.b.c", False),
    ("#.b.#", "a.b.c", True),
    ("*.#", "", False),
    ("#.*", "a", True),
    ("report-worker.generatereport.*", "report-worker.generatereport.job", True),
]


async def test_a_topic_exchange_takes_a_star_for_one_word_and_a_hash_for_any_number(
    broker: Broker, clock: MockClock | None
) -> None:
    cases = {f"words-{number}": case for number, case in enumerate(PATTERNS)}
    async with broker.consuming() as consumer:
        await consumer.declare(
            Topology(
                exchanges=[Exchange(name, "topic") for name in cases],
                queues=[Queue(name) for name in cases],
                bindings=[Binding(name, name, pattern) for name, (pattern, _, _) in cases.items()],
            )
        )

        answers = await publish(broker, *(job(exchange=name, key=key) for name, (_, key, _) in cases.items()))

        assert answers == [CONFIRMED if takes else Confirmation.UNROUTABLE for _, _, takes in PATTERNS]
        assert [await consumer.depth(name, may_wait=True) for name in cases] == [takes for _, _, takes in PATTERNS]


async def test_a_direct_exchange_takes_the_very_key(broker: Broker, clock: MockClock | None) -> None:
    """Stars and hashes mean nothing to it."""
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(bindings=[Binding("direct", "other", "#.*")]))

    answers = await publish(broker, job(1, exchange="direct", key="buried"), job(2, exchange="direct", key="buried.x"))

    assert answers == [CONFIRMED, Confirmation.UNROUTABLE]
    assert await all_of(broker, DEAD) == [(b"job 1", False)]
    assert await all_of(broker, "other") == []


async def test_a_fanout_exchange_takes_any_key(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(bindings=[Binding("fanout", DEAD, "a"), Binding("fanout", "other", "b")]))

    await publish(broker, job(exchange="fanout", key="c"))

    assert await all_of(broker, DEAD) == [(b"job 1", False)]
    assert await all_of(broker, "other") == [(b"job 1", False)]


async def test_the_default_exchange_takes_the_name_of_a_queue(broker: Broker, clock: MockClock | None) -> None:
    await publish(broker, job(key="other"))

    assert await all_of(broker, "other") == [(b"job 1", False)]


async def test_a_queue_with_several_matching_bindings_gets_a_message_once(
    broker: Broker, clock: MockClock | None
) -> None:
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(bindings=[Binding("topic", "other", "#"), Binding("topic", "other", "*.end")]))

    await publish(broker, job(exchange="topic", key="the.end"))

    assert await all_of(broker, "other") == [(b"job 1", False)]


# --- publishing -----------------------------------------------------------------------------------------------------


async def test_a_confirmed_message_is_in_every_queue_it_was_routed_to(broker: Broker, clock: MockClock | None) -> None:
    assert await publish(broker, job(exchange="topic", key="worker.end")) == [CONFIRMED]

    assert await all_of(broker, JOBS) == [(b"job 1", False)]
    assert await all_of(broker, "other") == [(b"job 1", False)]


async def test_answers_come_in_the_order_of_the_publications(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    async with under_test.broker.publishing() as publisher:
        answers = await publisher.publish([job(1), job(2, key="nobody"), job(3)])
        await under_test.refusing_next(1)
        later = await publisher.publish([job(4), job(5)])

    assert list(answers) == [CONFIRMED, Confirmation.UNROUTABLE, CONFIRMED]
    assert list(later) == [Confirmation.REFUSED, CONFIRMED]


async def test_an_unknown_exchange_takes_nothing(broker: Broker, clock: MockClock | None) -> None:
    assert await publish(broker, job(exchange="nowhere")) == [Confirmation.UNROUTABLE]


async def test_a_refused_message_is_not_stored(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    await under_test.refusing_next(1)

    await publish(under_test.broker, job())

    assert await all_of(under_test.broker, JOBS) == []


async def test_publishing_nothing_answers_nothing(broker: Broker, clock: MockClock | None) -> None:
    assert list(await publish(broker)) == []


async def test_publish_returns_only_after_the_confirm_however_long_it_takes(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    """There is no time limit: a timer that gives up would not mean failure."""
    answers: list[Confirmation] = []

    async def publish_one() -> None:
        async with under_test.broker.publishing() as publisher:
            answers.extend(await publisher.publish([job()]))

    async with trio.open_nursery() as nursery:
        async with under_test.without_confirms():
            nursery.start_soon(publish_one)
            await trio.sleep(3600 if clock else 2)
            before = list(answers)

    assert before == []
    assert answers == [CONFIRMED]


async def test_publish_raises_link_lost_when_the_connection_dies_before_the_confirm(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    """Any prefix may have arrived then."""
    with trio.fail_after(SOON):
        async with under_test.without_confirms(), under_test.broker.publishing() as publisher:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drop_soon, under_test, "publishing")
                with pytest.raises(LinkLost):
                    await publisher.publish([job(1), job(2)])
            with pytest.raises(LinkLost):
                await publisher.publish([job(3)])

    arrived = [body for body, _ in await all_of(under_test.broker, JOBS)]
    assert arrived in ([], [b"job 1"], [b"job 1", b"job 2"])


async def _drop_soon(under_test: BrokerUnderTest, which: str) -> None:
    await trio.sleep(0.1)
    await under_test.drop("publishing" if which == "publishing" else "consuming")


async def test_if_cancelled_any_prefix_may_have_arrived(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    async with under_test.without_confirms(), under_test.broker.publishing() as publisher:
        with trio.move_on_after(1):
            await publisher.publish([job(1), job(2)])

    arrived = [body for body, _ in await all_of(under_test.broker, JOBS)]
    assert arrived in ([], [b"job 1"], [b"job 1", b"job 2"])


@pytest.fixture
async def alone(kind: BrokerKind) -> AsyncIterator[BrokerUnderTest]:
    """As `under_test`, on a server that may be hurt."""
    async with kind.open_alone() as under_test:
        async with under_test.broker.consuming() as consumer:
            await consumer.declare(TOPOLOGY)
        yield under_test


@define(eq=False)
class Heard:
    """What a publisher told about being blocked."""

    whys: list[str] = field(factory=list)
    _news: trio.Event = field(factory=trio.Event)

    def tell(self, why: str) -> None:
        self.whys.append(why)
        self._news.set()

    async def until(self, count: int) -> None:
        with trio.fail_after(SOON):
            while len(self.whys) < count:
                self._news = trio.Event()
                await self._news.wait()


async def test_a_broker_that_reads_no_publishes_says_so_and_gets_them_once_when_it_reads_again(
    alone: BrokerUnderTest, clock: MockClock | None
) -> None:
    """`publish` waits as long as it takes. RabbitMQ tells a connection when it tries to publish."""
    heard, answers = Heard(), list[Confirmation]()

    async def publish_one(publisher: Publisher) -> None:
        answers.extend(await publisher.publish([job()]))

    async with alone.broker.publishing() as publisher:
        publisher.on_blocked(heard.tell)
        async with trio.open_nursery() as nursery:
            async with alone.blocking():
                nursery.start_soon(publish_one, publisher)
                await heard.until(1)
                await trio.sleep(3600 if clock else 1)
                during = list(answers)
            await heard.until(2)
        assert await publisher.publish([job(2)]) == [CONFIRMED]

    assert during == []
    assert answers == [CONFIRMED]
    assert "memory" in heard.whys[0]
    assert heard.whys[1:] == [""]
    assert await all_of(alone.broker, JOBS) == [(b"job 1", False), (b"job 2", False)]


async def test_who_asks_late_hears_at_once_that_a_publisher_is_blocked(
    alone: BrokerUnderTest, clock: MockClock | None
) -> None:
    early, late = Heard(), Heard()
    async with alone.broker.publishing() as publisher:
        publisher.on_blocked(early.tell)
        async with trio.open_nursery() as nursery, alone.blocking():
            nursery.start_soon(publisher.publish, [job()])
            await early.until(1)
            publisher.on_blocked(late.tell)
            at_once = list(late.whys)
        publisher.on_blocked((after := Heard()).tell)

    assert at_once == early.whys[:1]
    assert late.whys == early.whys
    assert after.whys == []


async def test_a_blocked_publisher_that_is_lost_raises_link_lost(
    alone: BrokerUnderTest, clock: MockClock | None
) -> None:
    heard = Heard()

    async def drop() -> None:
        await heard.until(1)
        await alone.drop("publishing")

    async with alone.broker.publishing() as publisher, alone.blocking():
        publisher.on_blocked(heard.tell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drop)
            with trio.fail_after(SOON), pytest.raises(LinkLost):
                await publisher.publish([job()])


async def test_deliveries_and_acks_go_on_while_publishers_are_blocked(
    alone: BrokerUnderTest, clock: MockClock | None
) -> None:
    """That is what two kinds of connections are for."""
    await publish(alone.broker, job(1), job(2))
    heard = Heard()
    async with alone.broker.publishing() as publisher:
        publisher.on_blocked(heard.tell)
        async with trio.open_nursery() as nursery, alone.blocking():
            nursery.start_soon(publisher.publish, [job(3)])
            await heard.until(1)
            async with alone.broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
                assert await bodies(deliveries, 2) == [b"job 1", b"job 2"]


async def test_a_delayed_message_waits_in_the_broker(broker: Broker, clock: MockClock | None) -> None:
    """Publishing it does not wait, and it arrives neither early nor much late."""
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=10) as deliveries:
        start = trio.current_time()
        assert await publish(broker, job(1, delay=2), job(2)) == [CONFIRMED, CONFIRMED]
        published = trio.current_time() - start

        assert await bodies(deliveries, 2) == [b"job 2", b"job 1"]

        waited = trio.current_time() - start
    if clock:
        assert (published, waited) == (0, 2)
    else:
        assert published < 1.9
        assert 1.95 <= waited < 4.9


async def test_delayed_messages_come_in_the_order_of_their_times(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=10) as deliveries:
        await publish(broker, job(1, delay=5), job(2, delay=1), job(3, delay=2))

        assert await bodies(deliveries, 3) == [b"job 2", b"job 3", b"job 1"]


async def test_a_delayed_message_outlives_every_connection(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    await publish(under_test.broker, job(delay=1))
    async with under_test.unreachable():
        await trio.sleep(2)

    assert await all_of(under_test.broker, JOBS) == [(b"job 1", False)]


async def test_depth_counts_what_is_ready_and_what_waits_to_reach_the_queue(
    kind: BrokerKind, broker: Broker, clock: MockClock | None
) -> None:
    """Unsettled deliveries are not counted. A broker that does not know where messages wait for counts all or none."""
    async with broker.consuming() as consumer:
        assert await consumer.depth(JOBS, may_wait=True) == 0
        await publish(broker, job(1), job(2), job(3, key="other"), job(4, delay=5), job(5, key="other", delay=5))
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            await next_of(deliveries)
            assert await consumer.depth(JOBS, may_wait=True) == (2 if kind.knows_destinations else 3)
            assert await consumer.depth(JOBS, may_wait=False) == (2 if kind.knows_destinations else 1)


async def test_depth_on_a_lost_link_raises_link_lost(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    async with under_test.broker.consuming() as consumer:
        await under_test.drop("consuming")
        with trio.fail_after(SOON):
            await consumer.lost()

        with pytest.raises(LinkLost):
            await consumer.depth(JOBS, may_wait=True)


# --- deliveries -----------------------------------------------------------------------------------------------------


async def test_a_message_is_delivered_as_it_was_published(broker: Broker, clock: MockClock | None) -> None:
    message = Message(
        body=b'{"Id": "\xc3\xa4"}',
        headers={"OccurrenceId": "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193", "x-retry-count": 2, "IsRecurring": True},
        message_id="the message id",
        correlation_id="the correlation id",
        content_type="application/json",
        timestamp=1775121301,
    )
    await publish(broker, Publication(message, "worker.x", "topic"))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        delivery = await next_of(deliveries)

        assert delivery.message == message
        assert delivery.queue == JOBS
        assert delivery.redelivered is False


async def test_deliveries_come_in_queue_order(broker: Broker, clock: MockClock | None) -> None:
    await publish(broker, *(job(number) for number in range(20)))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=3) as deliveries:
        assert await bodies(deliveries, 20) == [b"job %d" % number for number in range(20)]


async def test_receive_waits_for_a_message(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_publish_later, broker, 0.5)

            assert await bodies(deliveries, 1) == [b"job 1"]


async def _publish_later(broker: Broker, seconds: float) -> None:
    await trio.sleep(seconds)
    await publish(broker, job(1))


async def test_receive_is_always_a_checkpoint(broker: Broker, clock: MockClock | None) -> None:
    """Also when a delivery is there already: a busy queue must not keep cancellation and other tasks away."""
    await publish(broker, job(1), job(2))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=2) as deliveries:
        (await next_of(deliveries)).ack()
        with trio.testing.assert_checkpoints():
            await next_of(deliveries)


async def test_a_cancelled_receive_loses_no_delivery(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=10) as deliveries:
        with trio.move_on_after(0.1):
            await deliveries.receive()
        await publish(broker, job(1), job(2))
        await trio.sleep(0.5)
        with trio.CancelScope() as scope:
            scope.cancel()
            await deliveries.receive()

        assert await bodies(deliveries, 2) == [b"job 1", b"job 2"]


async def test_several_receivers_get_each_delivery_once(broker: Broker, clock: MockClock | None) -> None:
    received: list[bytes] = []

    async def receive(deliveries: Deliveries) -> None:
        received.extend(await bodies(deliveries, 5))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=4) as deliveries:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(receive, deliveries)
            await publish(broker, *(job(number) for number in range(20)))

    assert sorted(received) == sorted(b"job %d" % number for number in range(20))


@pytest.mark.parametrize("settle", ["ack", "reject"])
async def test_no_more_than_prefetch_deliveries_are_unsettled(
    broker: Broker, clock: MockClock | None, settle: str
) -> None:
    await publish(broker, job(1), job(2), job(3))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=2) as deliveries:
        first = await next_of(deliveries)
        await next_of(deliveries)
        assert await none_or_next(deliveries) is None

        getattr(first, settle)()

        assert (await next_of(deliveries)).message.body == b"job 3"


async def test_consumers_of_a_queue_share_its_messages(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as one, broker.consuming() as two:
        async with one.consume(JOBS, prefetch=1) as of_one, two.consume(JOBS, prefetch=1) as of_two:
            await publish(broker, job(1), job(2))

            got = {(await next_of(of_one)).message.body, (await next_of(of_two)).message.body}

    assert got == {b"job 1", b"job 2"}


async def test_consumers_with_room_are_served_in_turn(broker: Broker, clock: MockClock | None) -> None:
    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=10) as one, consumer.consume(JOBS, prefetch=10) as two:
            await publish(broker, *(job(number) for number in range(6)))

            assert len(await bodies(one, 3)) == len(await bodies(two, 3)) == 3


# --- settling -------------------------------------------------------------------------------------------------------


async def test_an_acked_message_is_forgotten(broker: Broker, clock: MockClock | None) -> None:
    await publish(broker, job())

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        (await next_of(deliveries)).ack()

    assert await all_of(broker, JOBS) == []
    assert await all_of(broker, DEAD) == []


async def test_a_requeued_message_is_delivered_again_at_once_marked_as_redelivered(
    broker: Broker, clock: MockClock | None
) -> None:
    await publish(broker, job(1), job(2))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        (await next_of(deliveries)).requeue()
        again = await next_of(deliveries)

        assert (again.message.body, again.redelivered) == (b"job 1", True)
        again.ack()
        assert (await next_of(deliveries)).redelivered is False


async def test_requeued_messages_keep_their_order(broker: Broker, clock: MockClock | None) -> None:
    await publish(broker, *(job(number) for number in range(4)))

    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=3) as deliveries:
            received = [await next_of(deliveries) for _ in range(3)]
        for delivery in (received[1], received[0], received[2]):
            delivery.requeue()
        await trio.sleep(0.5)

        async with consumer.consume(JOBS, prefetch=10) as deliveries:
            assert await bodies(deliveries, 4) == [b"job 0", b"job 1", b"job 2", b"job 3"]


async def test_a_rejected_message_goes_to_the_dead_letter_exchange_as_it_is(
    broker: Broker, clock: MockClock | None
) -> None:
    """The broker may only add its own death headers."""
    message = Message(body=b"poison", headers={"OccurrenceId": "x"}, message_id="m", correlation_id="c", timestamp=7)
    await publish(broker, Publication(message, JOBS))

    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=1) as deliveries, consumer.consume(DEAD, prefetch=1) as dead:
            (await next_of(deliveries)).reject()
            buried = await next_of(dead)

            assert (buried.message.body, buried.message.message_id, buried.message.correlation_id) == (
                b"poison",
                "m",
                "c",
            )
            assert buried.message.timestamp == 7
            assert buried.message.headers["OccurrenceId"] == "x"
            assert buried.message.headers["x-first-death-reason"] == "rejected"
            assert buried.message.headers["x-first-death-queue"] == JOBS
            assert buried.redelivered is False
            buried.ack()
            assert await none_or_next(deliveries) is None


async def test_a_rejected_message_is_dropped_where_there_is_no_dead_letter_exchange(
    broker: Broker, clock: MockClock | None
) -> None:
    await publish(broker, job(key="other"))

    async with broker.consuming() as consumer, consumer.consume("other", prefetch=1) as deliveries:
        (await next_of(deliveries)).reject()
        assert await none_or_next(deliveries) is None

    assert await all_of(broker, "other") == []


@pytest.mark.parametrize("first", ["ack", "requeue", "reject"])
@pytest.mark.parametrize("second", ["ack", "requeue", "reject"])
async def test_settling_twice_raises(broker: Broker, clock: MockClock | None, first: str, second: str) -> None:
    await publish(broker, job())

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        delivery = await next_of(deliveries)
        getattr(delivery, first)()
        with pytest.raises(DeliverySettled):
            getattr(delivery, second)()


@pytest.mark.parametrize("settle", ["ack", "requeue", "reject"])
async def test_settling_on_a_lost_link_has_no_effect(
    under_test: BrokerUnderTest, clock: MockClock | None, settle: str
) -> None:
    """The broker delivers the message again, marked as redelivered."""
    broker = under_test.broker
    await publish(broker, job())

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        delivery = await next_of(deliveries)
        await under_test.drop("consuming")
        with trio.fail_after(SOON):
            await consumer.lost()
        getattr(delivery, settle)()
        with pytest.raises(DeliverySettled):
            getattr(delivery, settle)()

    assert await all_of(broker, JOBS) == [(b"job 1", True)]
    assert await all_of(broker, DEAD) == []


# --- connections ----------------------------------------------------------------------------------------------------


async def test_leaving_a_consuming_connection_returns_every_unsettled_delivery_in_order(
    broker: Broker, clock: MockClock | None
) -> None:
    """Received or not: what was handed to the consumer counts as delivered."""
    await publish(broker, *(job(number) for number in range(5)))

    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=4) as deliveries:
        received = [await next_of(deliveries) for _ in range(3)]
        received[1].ack()
        await trio.sleep(0.5)

    assert await all_of(broker, JOBS) == [
        (b"job 0", True),
        (b"job 2", True),
        (b"job 3", True),
        (b"job 4", True),
    ]


async def test_losing_a_consuming_connection_returns_every_unsettled_delivery_in_order(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    broker = under_test.broker
    await publish(broker, *(job(number) for number in range(5)))

    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=3) as one, consumer.consume(JOBS, prefetch=1):
            (await next_of(one)).requeue()
            await next_of(one)
            await trio.sleep(0.5)
            await under_test.drop("consuming")
            with trio.fail_after(SOON):
                await consumer.lost()

    assert await all_of(broker, JOBS) == [(b"job %d" % number, number < 4) for number in range(5)]


async def test_stopping_a_consumer_gives_back_only_what_was_not_received(
    broker: Broker, clock: MockClock | None
) -> None:
    """Received deliveries stay valid while the link lives."""
    await publish(broker, job(1), job(2), job(3))

    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=2) as deliveries:
            received = await next_of(deliveries)
            await trio.sleep(0.5)
        assert await all_of(broker, JOBS) == [(b"job 2", True), (b"job 3", False)]

        received.ack()
        await trio.sleep(0.5)

    assert await all_of(broker, JOBS) == []


async def test_deliveries_received_from_a_stopped_consumer_return_with_the_link(
    broker: Broker, clock: MockClock | None
) -> None:
    await publish(broker, job(1))

    async with broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            await next_of(deliveries)
        assert await all_of(broker, JOBS) == []

    assert await all_of(broker, JOBS) == [(b"job 1", True)]


async def test_receive_raises_link_lost_once_the_link_is_gone(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    """To who waits, to who comes later, and even when a delivery had been handed to the consumer."""
    broker = under_test.broker
    with trio.fail_after(SOON):
        async with broker.consuming() as consumer:
            async with consumer.consume(JOBS, prefetch=1) as full, consumer.consume("other", prefetch=1) as empty:
                await publish(broker, job(1))
                await trio.sleep(0.5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drop_soon, under_test, "consuming")
                    with pytest.raises(LinkLost):
                        await empty.receive()
                for deliveries in (empty, full, full):
                    with pytest.raises(LinkLost):
                        await deliveries.receive()

    assert await all_of(broker, JOBS) == [(b"job 1", True)]


async def test_consuming_on_a_lost_link_raises_link_lost(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    async with under_test.broker.consuming() as consumer:
        await under_test.drop("consuming")
        with trio.fail_after(SOON):
            await consumer.lost()

        with pytest.raises(LinkLost):
            async with consumer.consume(JOBS, prefetch=1):
                pass


async def test_lost_returns_when_the_connection_is_gone(under_test: BrokerUnderTest, clock: MockClock | None) -> None:
    async with under_test.broker.publishing() as publisher, under_test.broker.consuming() as consumer:
        for link in (publisher, consumer):
            with trio.move_on_after(1) as scope:
                await link.lost()
            assert scope.cancelled_caught

        await under_test.drop("all")

        with trio.fail_after(SOON):
            await publisher.lost()
            await consumer.lost()


async def test_losing_one_kind_of_connection_leaves_the_other_alone(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    broker = under_test.broker
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        async with broker.publishing() as publisher:
            await under_test.drop("publishing")
            with trio.fail_after(SOON):
                await publisher.lost()

        await publish(broker, job(1))
        assert await bodies(deliveries, 1) == [b"job 1"]

    async with broker.publishing() as publisher, broker.consuming() as consumer:
        await under_test.drop("consuming")
        with trio.fail_after(SOON):
            await consumer.lost()

        assert await publisher.publish([job(2)]) == [CONFIRMED]


async def test_leaving_the_context_closes_the_connection(broker: Broker, clock: MockClock | None) -> None:
    async with broker.publishing() as publisher, broker.consuming() as consumer:
        pass

    with trio.fail_after(SOON):
        await publisher.lost()
        await consumer.lost()
    with pytest.raises(LinkLost):
        await publisher.publish([job()])
    with pytest.raises(LinkLost):
        await consumer.declare(TOPOLOGY)


async def test_opening_raises_link_lost_when_no_connection_can_be_had(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    broker = under_test.broker
    with trio.fail_after(6 * SOON):
        async with under_test.unreachable():
            for connection in (broker.publishing(), broker.consuming()):
                with pytest.raises(LinkLost):
                    async with connection:
                        pass

    assert await publish(broker, job()) == [CONFIRMED]


async def test_becoming_unreachable_loses_the_open_connections(
    under_test: BrokerUnderTest, clock: MockClock | None
) -> None:
    async with under_test.broker.publishing() as publisher, under_test.broker.consuming() as consumer:
        async with under_test.unreachable():
            with trio.fail_after(SOON):
                await publisher.lost()
                await consumer.lost()


async def test_what_is_raised_inside_a_connection_comes_out_as_it_is(broker: Broker, clock: MockClock | None) -> None:
    """Not wrapped in a group because the transport has tasks of its own."""
    for connection in (broker.publishing(), broker.consuming()):
        with pytest.raises(ZeroDivisionError):
            async with connection:
                raise ZeroDivisionError


async def test_a_cancelled_connection_ends_with_the_cancellation(broker: Broker, clock: MockClock | None) -> None:
    for connection in (broker.publishing(), broker.consuming()):
        with trio.CancelScope() as scope:
            async with connection:
                scope.cancel()
                await trio.sleep_forever()

        assert scope.cancelled_caught


async def test_what_is_raised_inside_a_cancelled_connection_is_not_swallowed(
    broker: Broker, clock: MockClock | None
) -> None:
    async def fail(scope: trio.CancelScope) -> None:
        async with broker.consuming():
            scope.cancel()
            raise ZeroDivisionError

    # The scope swallows what is a cancellation, so that only the caught error shows what came out.
    with trio.CancelScope() as scope, pytest.raises(ZeroDivisionError) as caught:
        await fail(scope)
    assert caught.type is ZeroDivisionError


async def test_the_name_is_for_people_and_has_no_secrets(broker: Broker, clock: MockClock | None) -> None:
    assert broker.name
    assert "password" not in broker.name.lower()
