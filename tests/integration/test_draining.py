"""Moving what waits to its queue: nothing is lost, whatever interrupts it, and nothing else is touched."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import trio
from attrs import define
from tests.support import servers
from tests.support.amqp import Client, connect
from tests.support.servers import HOST

from milvaion_trio.broker.ladder import LADDER, rung_name
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.broker.rabbitmq import draining as draining_module
from milvaion_trio.broker.rabbitmq.administration import Administration
from milvaion_trio.broker.rabbitmq.draining import Drained, drain
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.policy.hops import onward
from milvaion_trio.ports import Confirmation, Publisher, Queue, QueueState, Topology

TARGET = "scheduled_jobs_queue.tests.waiting.wildcard"


@pytest.fixture
async def broker() -> RabbitMQBroker:
    """With the queue that messages wait for, and with the delay queues."""
    settings = RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=servers.new_vhost())
    broker = RabbitMQBroker(settings, client_name="tests")
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(queues=[Queue(TARGET, topology.JOB_QUEUE_ARGUMENTS)]))
    return broker


@pytest.fixture
async def client(broker: RabbitMQBroker) -> AsyncIterator[Client]:
    async with connect(broker.settings.port, broker.settings.virtual_host) as client:
        yield client


async def wait_in(broker: RabbitMQBroker, *delays: float, target: str = TARGET) -> None:
    """Publish a message for each delay, numbered."""
    async with broker.publishing() as publisher:
        answers = await publisher.publish(
            [
                Publication(
                    Message(body=b"%d" % number, headers={"x-retry-count": number}, message_id=f"m{number}"),
                    target,
                    delay=delay,
                )
                for number, delay in enumerate(delays)
            ]
        )
    assert set(answers) == {Confirmation.CONFIRMED}


async def drained(broker: RabbitMQBroker) -> Drained:
    with trio.fail_after(30):
        async with broker.administering() as administration, broker.publishing() as publisher:
            return await drain(administration, publisher)


async def bodies(client: Client, queue: str) -> list[int]:
    """What is in the queue, which is empty afterwards."""
    found = []
    while (message := await client.get(queue, no_ack=True)) is not None:
        found.append(int(message.body))
    return found


async def waiting(client: Client) -> int:
    return sum([(await client.declare_queue(queue.name, passive=True))[0] for queue in LADDER.queues])


async def test_whatever_waits_goes_to_its_queue_as_it_was(broker: RabbitMQBroker, client: Client) -> None:
    """From every step of a delay: the last one, a long one, and between two; what the way has added is gone."""
    await wait_in(broker, 2000, 100_000, 120, 90)
    passing = {"x-mtrio-left": ("I", 40), "x-mtrio-target": ("S", TARGET), "x-retry-count": ("I", 4)}
    death = {"x-death": ("A", []), "x-first-death-queue": ("S", "mtrio.delay.v1.120s")}
    await client.publish("", topology.HOP_QUEUE, b"4", {"message_id": "m4", "delivery_mode": 2}, {**passing, **death})

    assert await drained(broker) == Drained(moved={TARGET: 5}, without_queue={}, without_target=0, waiting=0)

    found = {}
    while (message := await client.get(TARGET, no_ack=True)) is not None:
        properties = message.properties
        found[int(message.body)] = (message.headers, properties["message_id"], properties["delivery_mode"])
    assert found == {number: ({"x-retry-count": ("I", number)}, f"m{number}", 2) for number in range(5)}
    assert await waiting(client) == 0


async def test_a_message_is_moved_to_its_queue_and_to_no_other(broker: RabbitMQBroker, client: Client) -> None:
    """RabbitMQ sends what has the header CC to the queues that stand in it, again with every publish."""
    await client.declare_queue("copies")
    await client.publish("mtrio.delay.v1.060s", TARGET, b"0", {"delivery_mode": 2}, {"CC": ("A", [("S", "copies")])})

    result = await drained(broker)

    assert result.moved == {TARGET: 1}
    assert await bodies(client, TARGET) == [0]
    assert await bodies(client, "copies") == []


async def test_what_a_quorum_queue_counted_is_not_passed_on(broker: RabbitMQBroker, client: Client) -> None:
    """In the queue it goes to nobody has had it."""
    await wait_in(broker, 500)
    message = await client.get(rung_name(120))
    assert message is not None
    await client.nack(message.delivery_tag, requeue=True)
    with trio.fail_after(20):
        while await waiting(client) < 1:  # noqa: ASYNC110 # as above
            await trio.sleep(0.05)

    result = await drained(broker)

    moved = await client.get(TARGET)
    assert result.moved == {TARGET: 1}
    assert moved is not None
    assert "x-delivery-count" not in moved.headers


async def test_what_cannot_go_anywhere_stays_and_is_counted(broker: RabbitMQBroker, client: Client) -> None:
    await client.declare_queue("gone")
    await wait_in(broker, 500, 60, target="gone")
    await client.delete_queue("gone")
    await wait_in(broker, 500)
    await client.publish("", topology.HOP_QUEUE, b"9", {"delivery_mode": 2}, {"x-mtrio-left": ("I", 40)})

    result = await drained(broker)

    assert result == Drained(moved={TARGET: 1}, without_queue={"gone": 2}, without_target=1, waiting=3)
    assert await bodies(client, TARGET) == [0]
    with trio.fail_after(5):
        while await waiting(client) < 3:  # noqa: ASYNC110 # the broker counts what was given back in its own time
            await trio.sleep(0.05)


async def test_what_stays_is_counted_however_late_the_broker_counts_it(
    broker: RabbitMQBroker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given back is ready again in the broker's own time, after the next pass has looked, or before."""
    await wait_in(broker, 500)
    await client.publish("", topology.HOP_QUEUE, b"9", {"delivery_mode": 2}, {"x-mtrio-left": ("I", 40)})
    looks = 0

    async def state(administration: Administration, queue: str) -> QueueState | None:
        nonlocal looks
        looks += queue == topology.HOP_QUEUE
        return await as_it_is(administration, queue) if looks < 2 else None

    as_it_is = Administration.state
    monkeypatch.setattr(Administration, "state", state)

    assert await drained(broker) == Drained(moved={TARGET: 1}, without_queue={}, without_target=1, waiting=1)
    assert looks > 1


async def test_what_stays_hides_nothing_that_is_behind_it(
    broker: RabbitMQBroker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining_module, "PREFETCH", 2)
    left = {headers.DELAY_LEFT: ("I", 40)}
    for _ in range(9):  # more than all passes together hold
        await client.publish("", topology.HOP_QUEUE, b"9", {"delivery_mode": 2}, left)
    await client.publish(
        "", topology.HOP_QUEUE, b"1", {"delivery_mode": 2}, {**left, headers.DELAY_TARGET: ("S", TARGET)}
    )

    assert await drained(broker) == Drained(moved={TARGET: 1}, without_queue={}, without_target=9, waiting=9)


@define
class Interrupting:
    """A publisher that is interrupted at one of its calls: before it, or when all of it is confirmed."""

    publisher: Publisher
    scope: trio.CancelScope
    calls: int
    before: bool

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        self.calls -= 1
        if self.calls == 0 and self.before:
            self.scope.cancel()
        answers = await self.publisher.publish(publications)
        if self.calls == 0:
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
        return answers

    async def lost(self) -> str:
        return await self.publisher.lost()

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        self.publisher.on_blocked(tell)


@pytest.mark.parametrize("before", [True, False], ids=["before it is published", "before it is acked"])
async def test_an_interruption_loses_nothing(
    before: bool, broker: RabbitMQBroker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message is acked when its copy is confirmed: what was being moved may be there twice, and never nowhere."""
    monkeypatch.setattr(draining_module, "PREFETCH", 10)
    await wait_in(broker, *[300] * 40)

    for calls in (2, 1, 3):
        with trio.CancelScope() as scope, trio.fail_after(20):
            async with broker.administering() as administration, broker.publishing() as publisher:
                await drain(administration, Interrupting(publisher, scope, calls, before))
        assert scope.cancelled_caught
    result = await drained(broker)

    arrived = await bodies(client, TARGET)
    assert set(arrived) == set(range(40))
    assert result.waiting == await waiting(client) == 0
    assert len(arrived) <= 40 + 30


async def test_workers_may_run_meanwhile(broker: RabbitMQBroker, client: Client) -> None:
    """They consume the hop queue as well, and send on what they get, into the next delay: it is moved from there."""

    async def send_on(task_status: trio.TaskStatus[None]) -> None:
        async with broker.consuming() as consumer, broker.publishing() as publisher:
            async with consumer.consume(topology.HOP_QUEUE, prefetch=5) as deliveries:
                task_status.started()
                while True:
                    delivery = await deliveries.receive()
                    publication = onward(delivery.message)
                    assert publication is not None
                    await publisher.publish([publication])
                    delivery.ack()

    passing = {headers.DELAY_LEFT: ("I", 400), headers.DELAY_TARGET: ("S", TARGET)}
    await wait_in(broker, *[300] * 10)
    async with trio.open_nursery() as nursery:
        await nursery.start(send_on)
        for number in range(10, 30):
            await client.publish("", topology.HOP_QUEUE, b"%d" % number, {"delivery_mode": 2}, passing)
        result = await drained(broker)
        again = await drained(broker)
        nursery.cancel_scope.cancel()

    assert sorted(await bodies(client, TARGET)) == list(range(30))
    assert result.moved[TARGET] + again.moved.get(TARGET, 0) == 30
