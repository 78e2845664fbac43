"""Every await of the embedded broker, the local signals and the memory outbox is cancelled once.

Whatever the step: no delivery, row or signal is lost, and no task is left behind.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, Reception, attempt, report
from tests.support.steps import cancelled_after, passes, play_with_every_step

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.ports import Binding, Delivery, Exchange, Queue, Topology
from milvaion_trio.signals.local import LocalSignals

TOPOLOGY = Topology(
    exchanges=[Exchange("topic", "topic")], queues=[Queue("jobs")], bindings=[Binding("topic", "jobs", "#")]
)


def job(number: int) -> Publication:
    return Publication(Message(body=b"%d" % number), "jobs")


def new_broker(jobs: int = 0) -> EmbeddedBroker:
    broker = EmbeddedBroker()
    broker.declare_nowait(TOPOLOGY)
    for number in range(jobs):
        broker.publish_nowait(job(number))
    return broker


def ready(broker: EmbeddedBroker) -> list[bytes]:
    return [message.body for message in broker.queue("jobs").ready]


@asynccontextmanager
async def confirms_come_late(broker: EmbeddedBroker) -> AsyncIterator[None]:
    """Each confirm takes a few steps, so that there is something to wait for."""

    async def let_through() -> None:
        while True:
            with broker.hold_confirms():
                await passes(3)
            await passes(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_through)
        yield
        nursery.cancel_scope.cancel()


async def send_all(outbox: MemoryOutbox, reception: Reception) -> None:
    with trio.fail_after(100):
        async with reception.delivering(outbox):
            await outbox.drained()


# --- broker ---------------------------------------------------------------------------------------------------------


def test_publish() -> None:
    """Any prefix may have arrived, in order."""

    async def case(step: int) -> bool:
        broker = new_broker()
        async with broker.publishing() as publisher, confirms_come_late(broker):
            ended = await cancelled_after(step, lambda: publisher.publish([job(1), job(2)]))
            assert ready(broker) in ([], [b"1"], [b"1", b"2"])
            await publisher.publish([job(3)])

        assert ready(broker)[-1] == b"3"
        return ended

    play_with_every_step(case)


def test_declare() -> None:
    """Any part may have been declared; declaring again completes it."""

    async def case(step: int) -> bool:
        broker = EmbeddedBroker()
        async with broker.consuming() as consumer:
            ended = await cancelled_after(step, lambda: consumer.declare(TOPOLOGY))
            await consumer.declare(TOPOLOGY)

        broker.publish_nowait(Publication(Message(body=b"1"), "any.key", "topic"))
        assert ready(broker) == [b"1"]
        return ended

    play_with_every_step(case)


def test_depth() -> None:
    async def case(step: int) -> bool:
        broker = new_broker(jobs=2)
        async with broker.consuming() as consumer:
            ended = await cancelled_after(step, lambda: consumer.depth("jobs", may_wait=True))

        assert ready(broker) == [b"0", b"1"]
        return ended

    play_with_every_step(case)


def test_receive_of_a_delivery_that_is_there() -> None:
    async def case(step: int) -> bool:
        broker = new_broker(jobs=2)
        return await receive_and_count(broker, step, expected=[b"0", b"1"])

    play_with_every_step(case)


def test_receive_of_a_delivery_that_comes_meanwhile() -> None:
    async def case(step: int) -> bool:
        broker = new_broker()

        async def publish() -> None:
            await passes(2)
            broker.publish_nowait(job(0))
            broker.publish_nowait(job(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            return await receive_and_count(broker, step, expected=[b"0", b"1"])

    play_with_every_step(case)


async def receive_and_count(broker: EmbeddedBroker, step: int, expected: Sequence[bytes]) -> bool:
    """Cancel one receive; what it did not return comes next, in order, and not marked as redelivered."""
    got: list[Delivery] = []
    async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=5) as deliveries:

        async def receive() -> None:
            got.append(await deliveries.receive())

        ended = await cancelled_after(step, receive)
        with trio.fail_after(10):
            while len(got) < len(expected):
                await receive()

    assert [delivery.message.body for delivery in got] == list(expected)
    assert not any(delivery.redelivered for delivery in got)
    return ended


def test_receive_by_two_of_whom_one_is_cancelled() -> None:
    """The wake-up of the cancelled one must not be lost with it."""

    async def case(step: int) -> bool:
        broker = new_broker()
        got: list[Delivery] = []
        async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=5) as deliveries:

            async def receive() -> None:
                got.append(await deliveries.receive())

            async def publish() -> None:
                await passes(2)
                broker.publish_nowait(job(0))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                ended = await cancelled_after(step, receive)
                if not got:
                    with trio.fail_after(10):
                        await receive()

        assert len(got) == 1
        return ended

    play_with_every_step(case)


def test_a_whole_life_of_a_consuming_connection() -> None:
    """Opening, consuming, receiving and leaving: what was not acked is in the queue again."""

    async def case(step: int) -> bool:
        broker = new_broker(jobs=3)
        acked: list[bytes] = []

        async def consume() -> None:
            async with broker.consuming() as consumer, consumer.consume("jobs", prefetch=2) as deliveries:
                for _ in range(3):
                    delivery = await deliveries.receive()
                    await passes(1)
                    delivery.ack()
                    acked.append(delivery.message.body)

        ended = await cancelled_after(step, consume)

        assert acked + ready(broker) == [b"0", b"1", b"2"]
        assert (broker.queue("jobs").unacked, broker.queue("jobs").consumers) == (0, 0)
        return ended

    play_with_every_step(case)


def test_lost() -> None:
    async def case(step: int) -> bool:
        broker = new_broker()

        async def drop() -> None:
            await passes(3)
            broker.drop_connection()

        async with broker.publishing() as publisher, trio.open_nursery() as nursery:
            nursery.start_soon(drop)
            ended = await cancelled_after(step, publisher.lost)
            with trio.fail_after(10):
                await publisher.lost()
        return ended

    play_with_every_step(case)


def test_a_delayed_message_while_connections_come_and_go() -> None:
    async def case(step: int) -> bool:
        broker = new_broker()

        async def connect() -> None:
            async with broker.publishing() as publisher:
                await publisher.publish([Publication(Message(body=b"0"), "jobs", "", 1e-9)])
                await passes(2)

        ended = await cancelled_after(step, connect)
        await trio.sleep(1)
        arrived = ready(broker) + [b"0"] * broker.delayed
        async with broker.publishing():
            await trio.sleep(1)

        assert arrived == ready(broker) == ([b"0"] if ended or arrived else [])
        return ended

    play_with_every_step(case)


# --- signals --------------------------------------------------------------------------------------------------------

SIGNAL = Cancellation(occurrence_id=A)


def test_the_next_signal() -> None:
    async def case(step: int) -> bool:
        signals = LocalSignals()
        heard: list[Cancellation] = []
        async with signals.cancellations() as cancellations, trio.open_nursery() as nursery:

            async def send() -> None:
                await passes(2)
                await signals.send(SIGNAL)

            async def listen() -> None:
                heard.append(await anext(cancellations))

            nursery.start_soon(send)
            ended = await cancelled_after(step, listen)
            if not heard:
                with trio.fail_after(10):
                    await listen()

        assert heard == [SIGNAL]
        return ended

    play_with_every_step(case)


def test_sending_a_signal() -> None:
    """It may have been sent."""

    async def case(step: int) -> bool:
        signals = LocalSignals()
        async with signals.cancellations() as cancellations:
            ended = await cancelled_after(step, lambda: signals.send(SIGNAL))
            await signals.send(SIGNAL)
            with trio.fail_after(10):
                assert await anext(cancellations) == SIGNAL
        return ended

    play_with_every_step(case)


# --- outbox ---------------------------------------------------------------------------------------------------------


def test_conclude() -> None:
    """The rows stay and are sent, and the mark is set; only the waiting ends."""

    async def case(step: int) -> bool:
        reception, outbox = Reception(), MemoryOutbox()
        async with outbox.open():
            async with confirms_come_late(reception.broker), reception.delivering(outbox):
                outbox.add(report(RUNNING, "running"))
                ended = await cancelled_after(
                    step, lambda: outbox.conclude(attempt(), [report(LOG, "log"), report(FINAL, "final")])
                )
                # A scope that is cancelled before its task has run keeps the call from being made.
                is_concluded = outbox.is_concluded(attempt())
                if ended:
                    assert outbox.statistics().pending == 0
                await outbox.drained()

        assert is_concluded
        assert reception.names == ["running", "log", "final"]
        return ended

    play_with_every_step(case)


def test_settled_and_drained() -> None:
    async def case(step: int) -> bool:
        reception, outbox = Reception(), MemoryOutbox()
        async with outbox.open(), confirms_come_late(reception.broker), reception.delivering(outbox):
            outbox.add(report(FINAL, "final"))

            async def wait() -> None:
                await outbox.settled(attempt())
                await outbox.drained()

            ended = await cancelled_after(step, wait)
            with trio.fail_after(10):
                await outbox.settled(attempt())
                await outbox.drained()

        assert reception.names == ["final"]
        return ended

    play_with_every_step(case)


def test_deliver() -> None:
    """Rows without a confirm stay, in order; the next call sends them, and nothing else."""
    names = ["log 0", "log 1", "final", "log 2"]

    async def case(step: int) -> bool:
        reception, outbox = Reception(), MemoryOutbox()

        async def add() -> None:
            for name in names:
                outbox.add(report(FINAL if name == "final" else LOG, name))
                await passes(1)

        async def deliver() -> None:
            async with reception.broker.publishing() as publisher:
                await outbox.deliver(publisher)

        async with outbox.open():
            async with trio.open_nursery() as nursery, confirms_come_late(reception.broker):
                nursery.start_soon(add)
                await cancelled_after(step, deliver)
                confirmed = outbox.statistics().confirmed
                assert not outbox.add(report(HEARTBEAT, "alive")), "still delivering"
            sent = len(reception.names)
            await send_all(outbox, reception)

        assert reception.names[sent:] == names[confirmed:]
        return confirmed == len(names)

    play_with_every_step(case)


def test_deliver_whose_link_is_lost() -> None:
    names = ["log 0", "log 1", "final"]

    async def case(step: int) -> bool:
        reception, outbox = Reception(), MemoryOutbox()

        async def drop() -> None:
            await passes(step)
            reception.broker.drop_connection()

        async with outbox.open():
            for name in names:
                outbox.add(report(FINAL if name == "final" else LOG, name))
            async with confirms_come_late(reception.broker), trio.open_nursery() as nursery:
                with contextlib.suppress(LinkLost):
                    async with reception.broker.publishing() as publisher:
                        nursery.start_soon(drop)
                        await outbox.deliver(publisher)
            confirmed = outbox.statistics().confirmed
            sent = len(reception.names)
            await send_all(outbox, reception)

        assert reception.names[sent:] == names[confirmed:]
        return confirmed == len(names)

    play_with_every_step(case)
