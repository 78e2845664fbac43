"""How consumers on RabbitMQ live, how links end, and that nothing is left behind when they do.

The promises that every transport makes are in `test_broker_contract`.
"""

import gc
import logging
import os
import threading
from contextlib import suppress

import pytest
import trio
from attrs import evolve
from tests.support import servers
from tests.support.amqp import connect
from tests.support.amqp_faults import methods_sent
from tests.support.hostile import CASES, POISONOUS, publish_case
from tests.support.proxy import Passage, Proxy, Toxics
from tests.support.steps import passes

from milvaion_trio.broker import connecting
from milvaion_trio.broker.amqp.encoding import ack_frame
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.broker.rabbitmq.consumer import RabbitMQConsumer
from milvaion_trio.broker.rabbitmq.deliveries import RabbitMQDeliveries
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.ports import Binding, Confirmation, Consumer, Deliveries, Exchange, Link, Queue, Topology

CONFIRMED = Confirmation.CONFIRMED
SOON = 10.0
JOBS = "jobs"

# Half a minute of waiting: the driver that is no default waits in the long run of the tests.
takes_long = pytest.mark.parametrize("driver", ["amqp", pytest.param("aio-pika", marks=pytest.mark.long)])


@pytest.fixture
async def broker(proxy: Proxy, vhost: str, driver: str) -> RabbitMQBroker:
    """With one queue; a heartbeat of 1 s, so that silence is noticed within 8."""
    settings = RabbitMQSettings(host=servers.HOST, port=proxy.port, virtual_host=vhost, driver=driver)
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_queue(JOBS)
    return RabbitMQBroker(settings, client_name="tests", heartbeat=1)


def job(number: int = 1, key: str = JOBS) -> Publication:
    return Publication(Message(body=b"%d" % number), key)


async def publish(broker: RabbitMQBroker, count: int) -> None:
    async with broker.publishing() as publisher:
        assert await publisher.publish([job(number) for number in range(count)]) == [CONFIRMED] * count


async def bodies(deliveries: Deliveries, count: int) -> list[bytes]:
    """Receive and ack that many."""
    found = []
    with trio.fail_after(SOON):
        for _ in range(count):
            delivery = await deliveries.receive()
            delivery.ack()
            found.append(delivery.message.body)
    return found


async def ready(broker: RabbitMQBroker, queue: str = JOBS) -> int:
    async with broker.consuming() as consumer:
        state = await consumer.state(queue)
        assert state is not None
        return state.ready


# --- topology -------------------------------------------------------------------------------------------------------


async def test_every_problem_of_a_topology_is_told_and_the_rest_is_declared(broker: RabbitMQBroker, vhost: str) -> None:
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_queue("old", {"x-max-length": ("I", 5)})
        await client.declare_exchange("topics", "fanout")
    topology = Topology(
        exchanges=[Exchange("topics", "topic"), Exchange("good", "topic")],
        queues=[Queue("old", {"x-dead-letter-exchange": "x"}), Queue("amq.mine"), Queue("new"), Queue("n" * 256)],
        bindings=[Binding("nowhere", "new", "#"), Binding("good", "new", "#")],
    )

    async with broker.consuming() as consumer, broker.publishing() as publisher:
        with pytest.raises(SettingsError) as caught:
            await consumer.declare(topology)
        assert await publisher.publish([Publication(Message(body=b""), "any", "good")]) == [CONFIRMED]

    exchange, old, reserved, long, binding = caught.value.problems
    assert "Exchange 'topics' (topic) exists" in exchange
    assert "inequivalent arg 'type'" in exchange
    assert "Queue 'old' exists" in old
    assert "'x-dead-letter-exchange'" in old
    assert "rabbitmqctl set_permissions" in reserved
    assert "nnn" in long
    assert "no exchange 'nowhere'" in binding


async def test_a_missing_permission_is_told(broker: RabbitMQBroker, vhost: str) -> None:
    servers.rabbitmq().control("set_permissions", "-p", vhost, "guest", "^mtrio", "^mtrio", "^mtrio")
    async with broker.consuming() as consumer:
        with pytest.raises(SettingsError, match="Queue 'mine' may not be declared: ACCESS_REFUSED"):
            await consumer.declare(Topology(queues=[Queue("mine")]))
        with pytest.raises(SettingsError, match="Queue 'jobs' may not be consumed: ACCESS_REFUSED"):
            async with consumer.consume(JOBS, prefetch=1):
                pass
        assert await consumer.state("nothing") is None


async def test_names_may_have_any_letters(broker: RabbitMQBroker) -> None:
    """Job names make queue names; pamqp alone allows a few letters only."""
    name = "scheduled_jobs_queue.größe*(1)'ß"
    binding = Binding("tö*", name, "ä.#")
    topology = Topology(exchanges=[Exchange("tö*", "topic")], queues=[Queue(name)], bindings=[binding])
    async with broker.consuming() as consumer, broker.publishing() as publisher:
        await consumer.declare(topology)
        assert await publisher.publish([Publication(Message(body=b"a"), "ä.ö", "tö*")]) == [CONFIRMED]
        async with consumer.consume(name, prefetch=1) as deliveries:
            assert await bodies(deliveries, 1) == [b"a"]


async def test_consuming_a_queue_that_does_not_exist_costs_nothing(broker: RabbitMQBroker) -> None:
    await publish(broker, 1)
    async with broker.consuming() as consumer:
        for ask in (consumer.depth("nowhere", may_wait=True), consumer.consume("nowhere", prefetch=1).__aenter__()):
            with pytest.raises(SettingsError, match="Queue 'nowhere' does not exist"):
                await ask
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            assert await bodies(deliveries, 1) == [b"0"]


# --- messages -------------------------------------------------------------------------------------------------------


async def test_whatever_the_broker_lets_through_arrives_and_can_be_published_again(
    broker: RabbitMQBroker, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No message costs the connection, which every other job of the worker depends on (RELIABILITY.md 0.3)."""
    async with connect(servers.rabbitmq().port, vhost) as client:
        for case in CASES:
            assert await publish_case(client, case, JOBS)
    async with broker.consuming() as consumer, broker.publishing() as publisher:
        async with consumer.consume(JOBS, prefetch=100) as deliveries:
            for _ in ("as they came", "as they were published again"):
                arrived: list[Message] = []
                with trio.fail_after(2 * SOON):
                    for _case in CASES:
                        delivery = await deliveries.receive()
                        arrived.append(delivery.message)
                        delivery.ack()
                answers = await publisher.publish([Publication(message, JOBS) for message in arrived])

                assert [message.body for message in arrived] == [case.body for case in CASES]
                assert set(answers) == {CONFIRMED}

    assert len(POISONOUS) >= 4
    assert caplog.text == ""


def is_closed_in_order(passage: Passage) -> bool:
    """Whether goodbye was said and answered: RabbitMQ has heard all that was said before, and requeued the rest."""
    return b"\x00\x0a\x00\x32" in passage.up.seen and b"\x00\x0a\x00\x33" in passage.down.seen


async def test_acks_given_just_before_leaving_are_not_lost(broker: RabbitMQBroker, proxy: Proxy) -> None:
    await publish(broker, 300)
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=300) as deliveries:
        received = [await deliveries.receive() for _ in range(300)]
        (passage,) = proxy.passages
        for delivery in received:
            delivery.ack()

    assert is_closed_in_order(passage)
    assert await ready(broker) == 0


async def test_acks_given_before_a_cancellation_are_not_lost(broker: RabbitMQBroker, proxy: Proxy) -> None:
    await publish(broker, 30)
    with trio.CancelScope() as scope:
        async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=30) as deliveries:
            (passage,) = proxy.passages
            for number in range(30):
                delivery = await deliveries.receive()
                if number < 20:
                    delivery.ack()
            scope.cancel()
            await trio.sleep_forever()

    assert is_closed_in_order(passage)
    assert await ready(broker) == 10


async def test_a_cancelled_consumer_gives_back_what_it_did_not_receive(broker: RabbitMQBroker) -> None:
    """While its link lives on: nobody else would do it."""
    await publish(broker, 5)
    async with broker.consuming() as consumer:
        with trio.CancelScope() as scope:
            async with consumer.consume(JOBS, prefetch=5) as deliveries:
                received = await deliveries.receive()
                scope.cancel()
                await trio.sleep_forever()
        async with consumer.consume(JOBS, prefetch=5) as deliveries:
            assert await bodies(deliveries, 4) == [b"1", b"2", b"3", b"4"]
        received.ack()

    assert await ready(broker) == 0


async def test_answers_on_a_lost_link_disturb_nobody(
    broker: RabbitMQBroker, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that is written to after its end would be told of in the log."""
    await publish(broker, 20)
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=20) as deliveries:
        received = [await deliveries.receive() for _ in range(20)]
        proxy.cut()
        with trio.fail_after(SOON):
            await consumer.lost()
        for delivery in received:
            delivery.ack()

    assert caplog.text == ""
    assert await ready(broker) == 20


async def test_consumers_that_come_and_go_leave_no_channels(broker: RabbitMQBroker, proxy: Proxy) -> None:
    """Only one whose deliveries are not settled keeps its channel; a connection has 2,047 of them."""
    await publish(broker, 60)
    async with broker.consuming() as consumer:
        for _ in range(30):
            async with consumer.consume(JOBS, prefetch=1) as deliveries:
                await bodies(deliveries, 1)
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            kept = await deliveries.receive()
        for _ in range(3):
            async with consumer.consume(JOBS, prefetch=1) as deliveries:
                await bodies(deliveries, 1)
        kept.ack()
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            (passage,) = proxy.passages
            methods = methods_sent(passage)

    assert methods.count((20, 10)) == 35
    assert methods.count((20, 40)) == 34


# --- ends of links --------------------------------------------------------------------------------------------------


async def why_lost(lost: Link, deliveries: Deliveries) -> str:
    with trio.fail_after(SOON):
        await lost.lost()
        with pytest.raises(LinkLost) as caught:
            await deliveries.receive()
    return str(caught.value)


async def test_a_deleted_queue_ends_the_link(broker: RabbitMQBroker, vhost: str) -> None:
    """Nothing would ever come again, and nobody would notice (LIBRARIES.md 2.4)."""
    async with connect(servers.rabbitmq().port, vhost) as client, broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            await client.delete_queue(JOBS)

            assert "ended the consumer of 'jobs'" in await why_lost(consumer, deliveries)


async def test_a_closed_channel_ends_the_link(broker: RabbitMQBroker) -> None:
    """As after the broker's limit for unsettled deliveries; here by settling what was never delivered."""
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        assert isinstance(consumer, RabbitMQConsumer)
        assert isinstance(deliveries, RabbitMQDeliveries)
        consumer.link.write(ack_frame(deliveries.channel, 99))

        reason = await why_lost(consumer, deliveries)

    assert "closed the channel that consumes 'jobs': PRECONDITION_FAILED - unknown delivery tag 99" in reason


async def test_a_connection_closed_by_an_operator_says_so(broker: RabbitMQBroker, vhost: str) -> None:
    command = ("close_all_connections", "--vhost", vhost, "going home")
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=1) as deliveries:
        # In a thread: on a busy machine it takes longer than RabbitMQ waits for our heartbeats.
        await trio.to_thread.run_sync(servers.rabbitmq().control, *command)

        assert "CONNECTION_FORCED - going home" in await why_lost(consumer, deliveries)


async def test_consumers_that_stop_together_do_not_meet(broker: RabbitMQBroker) -> None:
    """Each looks for channels that nobody needs any more, and waits for the broker while it closes one."""
    await publish(broker, 1)
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(queues=[Queue("a"), Queue("b")]))
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            unsettled = await deliveries.receive()

        async def consume(queue: str, stop: trio.Event) -> None:
            async with consumer.consume(queue, prefetch=1):
                await stop.wait()

        stop = trio.Event()
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume, "a", stop)
                nursery.start_soon(consume, "b", stop)
                await trio.sleep(0.5)
                unsettled.ack()
                stop.set()


@takes_long
async def test_a_large_message_that_comes_slowly_is_no_silence(broker: RabbitMQBroker, proxy: Proxy) -> None:
    """Aiormq counts frames, of which it sees none meanwhile; it would come again, and never arrive."""
    async with connect(servers.rabbitmq().port, broker.settings.virtual_host) as client:
        await client.publish("", JOBS, bytes(2_000_000))
    with trio.fail_after(20):
        async with broker.consuming() as consumer:
            proxy.passages[-1].down.toxics = Toxics(bytes_per_second=200_000)
            async with consumer.consume(JOBS, prefetch=1) as deliveries:
                delivery = await deliveries.receive()
                delivery.ack()

    assert len(delivery.message.body) == 2_000_000
    assert not delivery.redelivered


@takes_long
async def test_a_silent_link_is_noticed_and_a_busy_one_is_not_taken_for_silent(
    broker: RabbitMQBroker, proxy: Proxy
) -> None:
    """Half-open: within 3 x (heartbeat + 1) + heartbeat / 2 s, by those who wait for confirms too.

    A broker that sends messages sends no heartbeats, and aiormq sees no messages: it must not miss them.
    """
    began = trio.current_time()
    busy: list[float] = []

    async def stay_busy() -> None:
        async with broker.publishing() as publisher, broker.consuming() as consumer:
            async with consumer.consume(JOBS, prefetch=1) as deliveries:
                while trio.current_time() < began + 9:
                    assert await publisher.publish([job()]) == [CONFIRMED]
                    await bodies(deliveries, 1)
                    await trio.sleep(0.1)
                    busy.append(trio.current_time())

    async def fall_silent() -> None:
        async with broker.publishing() as publisher:
            hold_both(proxy.passages[-1])
            with trio.fail_after(9), pytest.raises(LinkLost, match="nothing was heard from"):
                await publisher.publish([job(key="nobody")])
            left = trio.current_time()
        assert trio.current_time() - left < 4

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fall_silent)
            await trio.sleep(0.5)
            nursery.start_soon(stay_busy)

    assert busy[-1] - began > 8.5


def hold_both(passage: Passage) -> None:
    passage.up.hold()
    passage.down.hold()


@takes_long
async def test_leaving_takes_bounded_time_where_nothing_answers(broker: RabbitMQBroker, proxy: Proxy) -> None:
    """3 s for the consumer, which then gives the link up for all who wait, and 3 for the connection."""
    began = trio.current_time()
    given_up: list[float] = []

    async def ask(consumer: Consumer) -> None:
        with pytest.raises(LinkLost, match="did not end a consumer"):
            await consumer.depth(JOBS, may_wait=True)
        given_up.append(trio.current_time() - began)

    patient = evolve(broker, heartbeat=5)
    async with patient.consuming() as consumer, trio.open_nursery() as nursery:
        async with consumer.consume(JOBS, prefetch=1):
            hold_both(proxy.passages[0])
            nursery.start_soon(ask, consumer)

    assert 2.9 < given_up[0] < 5
    assert trio.current_time() - began < 9


async def test_leaving_with_much_unsent_takes_bounded_time(proxy: Proxy, vhost: str, driver: str) -> None:
    """aiormq alone would wait for three heartbeats until a peer has read everything."""
    settings = RabbitMQSettings(host=servers.HOST, port=proxy.port, virtual_host=vhost, driver=driver)
    began = trio.current_time()
    async with RabbitMQBroker(settings).publishing() as publisher:
        hold_both(proxy.passages[0])
        with trio.move_on_after(0.1):
            await publisher.publish([Publication(Message(body=bytes(20_000_000)), JOBS)])

    assert trio.current_time() - began < 10


async def test_questions_are_cancelled_at_once_where_nothing_answers(broker: RabbitMQBroker, proxy: Proxy) -> None:
    async def leave_early(question: object) -> None:
        with trio.move_on_after(0.1) as scope:
            await question  # type: ignore[misc]
        assert scope.cancelled_caught
        assert trio.current_time() - scope.deadline < 2.5  # an end in good order takes 3

    async with broker.consuming() as consumer, broker.publishing() as publisher:
        for passage in proxy.passages:
            hold_both(passage)
        await leave_early(consumer.declare(Topology(queues=[Queue("new")])))
        await leave_early(consumer.depth(JOBS, may_wait=True))
        await leave_early(consumer.consume(JOBS, prefetch=1).__aenter__())
        await leave_early(publisher.publish([job()]))
        await leave_early(publisher.publish([Publication(Message(body=b""), "", "new")]))
        for passage in proxy.passages:
            passage.up.release()
            passage.down.release()

        with trio.fail_after(SOON):  # the links are as good as before
            await consumer.declare(Topology(queues=[Queue("new")]))
            assert await publisher.publish([job(key="new")]) == [CONFIRMED]
            async with consumer.consume("new", prefetch=1) as deliveries:
                assert await bodies(deliveries, 1) == [b"1"]


# --- nothing is left behind -----------------------------------------------------------------------------------------


class Left:
    """What a process holds: to be the same before and after."""

    def __init__(self) -> None:
        gc.collect()
        self.files = len(os.listdir("/proc/self/fd"))
        # Without the idle ones that Trio keeps for ten seconds, which earlier tests leave.
        self.threads = {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}
        self.tasks = len(trio.lowlevel.current_root_task().child_nurseries[0].child_tasks)  # type: ignore[union-attr]

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(vars(self))


async def left(proxy: Proxy) -> Left:
    """What is held when the proxy between has noticed that all connections are closed."""
    with trio.fail_after(SOON):
        while proxy.passages:  # noqa: ASYNC110  # the proxy is a test's own
            await trio.sleep(0.01)
    return Left()


async def live(broker: RabbitMQBroker) -> None:
    """Everything that links do, once."""
    async with broker.consuming() as consumer, broker.publishing() as publisher:
        await consumer.declare(Topology(queues=[Queue(JOBS)]))
        async with consumer.consume(JOBS, prefetch=2) as deliveries:
            await publisher.publish([job(1), job(2, key="nobody"), job(3)])
            delivery = await deliveries.receive()
            await consumer.depth(JOBS, may_wait=True)
            delivery.ack()


@takes_long
async def test_twenty_lives_leave_nothing(
    broker: RabbitMQBroker, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await live(broker)
    before = await left(proxy)

    for _ in range(20):
        await live(broker)

    assert await left(proxy) == before
    assert caplog.text == ""


@takes_long
async def test_lives_that_are_cancelled_anywhere_leave_nothing(
    broker: RabbitMQBroker, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """At each tenth of the scheduler's passes that a whole life takes."""
    caplog.set_level(logging.INFO)
    await live(broker)
    before = await left(proxy)
    step, ended = 0, False

    while not ended:
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                async def run(scope: trio.CancelScope = scope) -> None:
                    with scope:
                        await live(broker)

                nursery.start_soon(run)
                await passes(step)
                scope.cancel()
        ended = not scope.cancelled_caught
        step += 10

    assert step > 100
    assert await left(proxy) == before
    assert caplog.text == ""


async def test_a_question_that_is_cancelled_anywhere_leaves_the_connection_alive(broker: RabbitMQBroker) -> None:
    """RabbitMQ closes a connection for a second close of a channel, which aiormq sends when its first is cancelled."""
    async with broker.consuming() as consumer, broker.publishing() as publisher:
        await consumer.declare(Topology(queues=[Queue(JOBS)]))
        async with consumer.consume(JOBS, prefetch=1) as deliveries:
            step, ended = 0, False
            while not ended:
                with trio.fail_after(SOON):
                    async with trio.open_nursery() as nursery:
                        scope = trio.CancelScope()

                        async def ask(scope: trio.CancelScope = scope) -> None:
                            with scope:
                                await consumer.state(JOBS)

                        nursery.start_soon(ask)
                        await passes(step)
                        scope.cancel()
                ended = not scope.cancelled_caught
                step += 1

            assert step > 10
            assert await publisher.publish([job()]) == [CONFIRMED]
            assert await bodies(deliveries, 1) == [b"1"]
            assert await consumer.depth(JOBS, may_wait=True) == 0


async def test_a_connection_that_is_cancelled_before_its_handshake_is_closed(
    broker: RabbitMQBroker, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between TCP, which is Trio's, and the handshake, which may be asyncio's, the socket has no owner but us."""
    scope = trio.CancelScope()

    async def connect_and_cancel(host: str, port: int) -> trio.SocketStream:
        stream = await connecting.connect_tcp(host, port)
        scope.cancel()
        return stream

    for package in ("amqp", "aiopika"):
        monkeypatch.setattr(f"milvaion_trio.broker.{package}.link.connect_tcp", connect_and_cancel)
    before = await left(proxy)
    with scope:
        async with broker.consuming():
            pass

    assert scope.cancelled_caught
    assert await left(proxy) == before
    assert proxy.passages == []


async def test_links_that_are_cut_anywhere_leave_nothing(
    broker: RabbitMQBroker, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """And say nothing: the supervisor has the one line for it."""
    caplog.set_level(logging.INFO)
    await live(broker)
    before = await left(proxy)

    for step in range(0, 1000, 40):
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:

                async def run() -> None:
                    with suppress(LinkLost):
                        await live(broker)

                nursery.start_soon(run)
                await passes(step)
                proxy.cut()
    await trio.sleep(0.1)

    assert await left(proxy) == before
    assert caplog.text == ""
