"""How a connection ends: lost, closed by either side, or cancelled; in virtual time."""

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from attrs import evolve
from pamqp import commands
from tests.support.amqp_peer import close, delivery, frame, method
from tests.support.amqp_script import ENDPOINT, CountingStream, Heard, ScriptedBroker, connected, made
from tests.support.steps import cancelled_after, play_with_every_step
from trio.testing import MockClock, memory_stream_pair

from milvaion_trio.broker.amqp import link
from milvaion_trio.broker.amqp.connection import Connection
from milvaion_trio.broker.amqp.encoding import ack_frame
from milvaion_trio.broker.amqp.events import BlockedEvent, DeliveredEvent, Event
from milvaion_trio.broker.link import CLOSE_TIMEOUT
from milvaion_trio.model.errors import LinkLost, LinkRefused
from milvaion_trio.model.settings import RabbitMQSettings

OPEN, CHANNEL_OPEN, CHANNEL_CLOSE, DECLARE, CLOSE, AGREED = (10, 40), (20, 10), (20, 40), (50, 10), (10, 50), (10, 51)
BEATS = (8, 0)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def pair(heard: Heard) -> tuple[Connection, ScriptedBroker]:
    ours, theirs = memory_stream_pair()
    return made(ours, heard), ScriptedBroker(theirs)


def declaring() -> commands.Queue.Declare:
    return commands.Queue.Declare(queue="q")


# --- losses ---------------------------------------------------------------------------------------------------------


async def hang_up(broker: ScriptedBroker) -> None:
    await broker.stream.aclose()


async def speak_nonsense(broker: ScriptedBroker) -> None:
    await broker.say(frame(5, 0, b"nonsense"))


async def end(broker: ScriptedBroker) -> None:
    await broker.say(close(0, 320, "CONNECTION_FORCED - going home"))


async def fall_silent(broker: ScriptedBroker) -> None:
    pass


LOSSES: dict[str, tuple[Callable[[ScriptedBroker], Awaitable[None]], str]] = {
    "broken": (hang_up, "the connection to broker:5672 broke"),
    "nonsense": (speak_nonsense, "what came from broker:5672 is not AMQP as it should be: the broker sent a frame of"),
    "ended": (end, "RabbitMQ closed the connection: CONNECTION_FORCED - going home"),
    "silent": (fall_silent, "nothing was heard from broker:5672 for 20 s"),
}


async def test_what_breaks_behind_the_brokers_words_does_not_take_their_place(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    """Over TLS it would be told as a fault of TLS. Sabotage: remember whatever the stream raises."""
    connection, broker = pair
    async with connected(connection, broker):
        await end(broker)
        await hang_up(broker)
        why = await connection.loss.wait()
        await trio.sleep(2)

    assert why.endswith("CONNECTION_FORCED - going home")
    assert connection.failure is None


@pytest.mark.parametrize("how", LOSSES)
async def test_a_loss_reaches_everybody_who_waits(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker], how: str
) -> None:
    """With its reason, and whoever asks later too; closing takes no time then."""
    lose, why = LOSSES[how]
    connection, broker = pair
    told: list[str] = []
    connection.loss.on_declared(told.append)

    async def wait(question: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(LinkLost) as caught:
            await question()
        told.append(str(caught.value))

    async def wait_for_loss() -> None:
        told.append(await connection.loss.wait())

    async with connected(connection, broker):
        channel = await connection.open_channel()
        broker.silent_about |= {CHANNEL_OPEN, DECLARE, AGREED}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, connection.open_channel)
            nursery.start_soon(wait, lambda: connection.ask(channel, declaring()))
            nursery.start_soon(wait_for_loss)
            await trio.testing.wait_all_tasks_blocked()
            await lose(broker)
        lost = trio.current_time()
        await wait(connection.open_channel)
        await wait(lambda: connection.ask(channel, declaring()))
        connection.end_channel(channel)
        connection.write(b"nothing")
    assert trio.current_time() == lost
    assert len(told) == 6
    assert len(set(told)) == 1
    assert told[0].startswith(why)


@pytest.mark.parametrize("how", ["broken", "nonsense", "ended"])
@pytest.mark.parametrize("at", [(10, 11), (10, 31), OPEN])
async def test_a_loss_ends_the_handshake(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker], how: str, at: tuple[int, int]
) -> None:
    lose, why = LOSSES[how]
    connection, broker = pair
    broker.silent_about |= {at, OPEN}
    async with connected(connection, broker, is_open=False) as nursery:

        async def lose_there() -> None:
            await broker.until_another(at)
            await lose(broker)

        nursery.start_soon(lose_there)
        began = trio.current_time()
        with pytest.raises(LinkLost) as caught:
            await connection.open()
    assert str(caught.value).startswith(why)
    assert trio.current_time() == began


async def test_the_brokers_end_is_agreed_to_by_whoever_closes_at_once(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    """Otherwise it waits, and writes down that this worker has gone without a word."""
    connection, broker = pair
    async with connected(connection, broker) as nursery:
        nursery.start_soon(end, broker)
        assert "going home" in await connection.loss.wait()
        await connection.close()
        await trio.testing.wait_all_tasks_blocked()

        assert broker.methods[-1] == AGREED
        assert CLOSE not in broker.methods


@pytest.mark.parametrize("_", range(8))
async def test_the_brokers_end_is_agreed_to_behind_what_is_still_being_sent(
    autojump_clock: MockClock, heard: Heard, _: int
) -> None:
    """Several times, as trio runs the tasks of a pass in any order."""
    ours, theirs = memory_stream_pair()
    stream = CountingStream(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    async with connected(connection, broker) as nursery:
        channel = await connection.open_channel()
        stream.held = trio.Event()
        connection.write(ack_frame(channel, 1))
        await trio.testing.wait_all_tasks_blocked()
        await end(broker)
        await connection.loss.wait()
        nursery.start_soon(connection.close)
        await trio.testing.wait_all_tasks_blocked()
        stream.held.set()
        await trio.testing.wait_all_tasks_blocked()

        assert broker.methods[-2:] == [(60, 80), AGREED]


async def test_a_mistake_in_handling_what_comes_loses_the_link_and_nothing_else(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(Heard):
        def hear(self, event: Event) -> None:
            if isinstance(event, DeliveredEvent):
                raise KeyError("a defect")

    ours, theirs = memory_stream_pair()
    connection, broker = made(ours, Wrong()), ScriptedBroker(theirs)
    async with connected(connection, broker):
        channel = await connection.open_channel()
        await broker.say(delivery(channel, 1))

        assert await connection.loss.wait() == "the connection to broker:5672 was given up by this worker"
        lost = trio.current_time()
    assert trio.current_time() == lost
    assert [record.getMessage() for record in caplog.records] == [
        "the connection to broker:5672 could not be handled and is given up"
    ]
    assert "KeyError: 'a defect'" in caplog.text


async def test_alarms_are_told(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker], heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    connection, broker = pair
    async with connected(connection, broker):
        await broker.say(method(0, 10, 60, b"\x0blow on disk") + method(0, 10, 61))
        await trio.testing.wait_all_tasks_blocked()

        assert heard.events[-2:] == [BlockedEvent("low on disk"), BlockedEvent("")]
        assert not connection.loss.is_final
    assert [record.getMessage() for record in caplog.records] == [
        "RabbitMQ has stopped reading publishes (low on disk): tests",
        "RabbitMQ reads publishes again: tests",
    ]


# --- ends -----------------------------------------------------------------------------------------------------------


async def test_what_was_written_leaves_before_the_end(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    """Acks above all: a job would run again."""
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        for tag in range(1, 4):
            connection.write(ack_frame(channel, tag))
        began = trio.current_time()
        await connection.close()

        assert trio.current_time() == began
        assert broker.methods[-4:] == [(60, 80)] * 3 + [CLOSE]


async def test_a_link_that_its_user_gave_up_ends_in_peace(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    """The connection is as good as before: what was acked on it is not to be lost."""
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        connection.write(ack_frame(channel, 1))
        connection.loss.declare("RabbitMQ ended the consumer of 'jobs': was the queue deleted?")
        await connection.close()

        assert broker.methods[-2:] == [(60, 80), CLOSE]


@pytest.mark.parametrize("unread", [0, 1_000_000])
async def test_an_end_that_nobody_agrees_to_is_bounded(autojump_clock: MockClock, heard: Heard, unread: int) -> None:
    """Also where nothing is read any more, and whether or not whoever closes is cancelled."""
    ours, theirs = memory_stream_pair()
    stream = CountingStream(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    broker.silent_about.add(CLOSE)
    async with connected(connection, broker):
        stream.held = trio.Event() if unread else None
        connection.write(bytes(unread))
        began = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.close()

        assert trio.current_time() - began == CLOSE_TIMEOUT


async def test_closing_twice_is_closing_once(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        await connection.close()
        await connection.close()

    assert broker.methods.count(CLOSE) == 1


# --- cancellation ---------------------------------------------------------------------------------------------------


def test_a_question_cancelled_at_any_step_leaves_the_connection_as_it_was() -> None:
    """The broker fails for a channel that is closed twice, or used when it is closed."""

    async def case(step: int) -> bool:
        ours, theirs = memory_stream_pair()
        connection, broker = made(ours), ScriptedBroker(theirs)

        async def ask() -> None:
            channel = await connection.open_channel()
            try:
                await connection.ask(channel, declaring())
            finally:
                connection.end_channel(channel)

        async with connected(connection, broker):
            with trio.fail_after(5):
                ended = await cancelled_after(step, ask)
                await connection.open_channel()
                await ask()
            await trio.testing.wait_all_tasks_blocked()
            assert len(broker.channels) == 1
            assert connection._questions == {}
            assert not connection.loss.is_final
        return ended

    play_with_every_step(case)


def test_a_link_cancelled_at_any_step_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From connecting to closing, and no task is left."""

    async def case(step: int) -> bool:
        ours, theirs = memory_stream_pair()
        broker = ScriptedBroker(theirs)

        async def connect(host: str, port: int) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return ours

        async def live() -> None:
            async with link.open_link(ENDPOINT, Heard()) as opened:
                channel = await opened.open_channel()
                opened.write(ack_frame(channel, 1))
                await opened.ask(channel, declaring())
                opened.write(ack_frame(channel, 2))

        with monkeypatch.context() as patch, trio.fail_after(20):
            patch.setattr(link, "connect_tcp", connect)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(broker.serve)
                ended = await cancelled_after(step, live)
                if broker.came or ended:
                    with pytest.raises(trio.ClosedResourceError):
                        await ours.send_all(b"x")
                nursery.cancel_scope.cancel()
        if (60, 80) in broker.methods:  # it was open, and so it ended in peace
            assert broker.methods[-1] == CLOSE
        return ended

    play_with_every_step(case)


async def test_what_is_raised_in_a_link_comes_out_as_it_is(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = memory_stream_pair()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    monkeypatch.setattr(link, "connect_tcp", connect)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ScriptedBroker(theirs).serve)
        with pytest.raises(KeyError, match="ours"):
            async with link.open_link(ENDPOINT, Heard()):
                raise KeyError("ours")


@pytest.mark.parametrize("name", [".example", "ü" * 70, "a\0b"])
async def test_a_name_that_tls_cannot_look_for_is_refused(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Instead of an error that ends the program; and the stream is closed."""
    ours, _ = memory_stream_pair()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    monkeypatch.setattr(link, "connect_tcp", connect)
    endpoint = evolve(ENDPOINT, settings=RabbitMQSettings(tls=True, tls_server_name=name))

    with pytest.raises(LinkRefused, match="Worker:RabbitMQ:TlsServerName"):
        async with link.open_link(endpoint, Heard()):
            pass
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
