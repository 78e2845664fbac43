"""A connection in virtual time, against a broker that does as it is told."""

import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from pamqp import commands
from tests.support.amqp_peer import close, delivery, frame, login, method, tune
from tests.support.amqp_script import BEAT, ENDPOINT, Heard, ScriptedBroker, connected, made
from tests.support.steps import cancelled_after, play_with_every_step
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from milvaion_trio.broker.amqp import link
from milvaion_trio.broker.amqp.connection import CLOSE_TIMEOUT, Connection
from milvaion_trio.broker.amqp.encoding import ack_frame
from milvaion_trio.broker.amqp.events import BlockedEvent, ConfirmedEvent, DeliveredEvent, Event
from milvaion_trio.broker.link import Refused
from milvaion_trio.model.errors import LinkLost

OPEN, CHANNEL_OPEN, CHANNEL_CLOSE, DECLARE, CLOSE, AGREED = (10, 40), (20, 10), (20, 40), (50, 10), (10, 50), (10, 51)
BEATS = (8, 0)


@pytest.fixture(autouse=True)
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


@pytest.fixture(autouse=True)
async def in_time(clock: MockClock) -> AsyncIterator[None]:
    """Who waits for ever is found at once."""
    with trio.fail_after(100_000):
        yield


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def pair(heard: Heard) -> tuple[Connection, ScriptedBroker]:
    ours, theirs = memory_stream_pair()
    return made(ours, heard), ScriptedBroker(theirs)


def declaring() -> commands.Queue.Declare:
    return commands.Queue.Declare(queue="q")


# --- beating --------------------------------------------------------------------------------------------------------


async def test_a_beat_leaves_every_half_heartbeat(pair: tuple[Connection, ScriptedBroker]) -> None:
    """Also when something was written in between, so that it is never silent here for longer than that."""
    connection, broker = pair
    async with connected(connection, broker) as nursery:
        began = trio.current_time()
        nursery.start_soon(beat, broker)
        await trio.sleep(5.1)
        channel = await connection.open_channel()
        await trio.sleep(20)

    beats = [time - began for time, _, what in broker.came if what == BEATS]
    assert channel == 1
    assert beats == [5, 10, 15, 20, 25]


async def beat(broker: ScriptedBroker, every: float = 9) -> None:
    while True:
        await trio.sleep(every)
        await broker.say(BEAT)


async def test_two_silent_heartbeats_are_a_loss(pair: tuple[Connection, ScriptedBroker]) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        began = trio.current_time()

        assert await connection.loss.wait() == "nothing was heard from broker:5672 for 20 s"

        assert trio.current_time() - began == 20
    assert trio.current_time() - began == 20  # nobody is there to agree to its end


async def test_silence_begins_with_the_last_that_came(pair: tuple[Connection, ScriptedBroker]) -> None:
    """Noticed within half a heartbeat more."""
    connection, broker = pair
    async with connected(connection, broker):
        began = trio.current_time()
        await trio.sleep(7)
        await broker.say(method(0, 10, 61))

        assert await connection.loss.wait() == "nothing was heard from broker:5672 for 23 s"

        assert trio.current_time() - began == 30


async def test_a_broker_that_beats_is_not_silent(pair: tuple[Connection, ScriptedBroker]) -> None:
    connection, broker = pair
    async with connected(connection, broker) as nursery:
        nursery.start_soon(beat, broker, 19)
        await trio.sleep(86_400)

        assert not connection.loss.is_final


async def test_a_held_up_loop_is_not_taken_for_silence(
    pair: tuple[Connection, ScriptedBroker], clock: MockClock
) -> None:
    """However long it was: what the broker said meanwhile is read now."""
    connection, broker = pair
    async with connected(connection, broker):
        for _ in range(10):
            await trio.sleep(1)
            clock.jump(3600)
            await trio.sleep(1)
            await broker.say(BEAT)

        assert not connection.loss.is_final


async def test_without_a_heartbeat_nobody_beats_and_silence_lasts(heard: Heard) -> None:
    ours, theirs = memory_stream_pair()
    connection = made(ours, heard, login(heartbeat=0))
    broker = ScriptedBroker(theirs, tune(heartbeat=0))
    async with connected(connection, broker):
        await trio.sleep(86_400)

        assert not connection.loss.is_final
    assert BEATS not in broker.methods


async def test_a_broker_without_a_wish_gets_our_heartbeat(heard: Heard) -> None:
    """It would never notice that we are gone, and we not that it is."""
    ours, theirs = memory_stream_pair()
    connection, broker = made(ours, heard), ScriptedBroker(theirs, tune(heartbeat=0))
    async with connected(connection, broker):
        await connection.loss.wait()

    assert broker.methods.count(BEATS) == 3


# --- writing --------------------------------------------------------------------------------------------------------


@define(eq=False)
class Counting(trio.abc.Stream):
    """Remembers what left in which call, and never ends one while it is `held`."""

    stream: trio.abc.Stream
    sent: list[bytes] = field(factory=list)
    held: bool = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        if self.held:
            await trio.sleep_forever()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_what_is_written_in_one_pass_leaves_in_one_call(heard: Heard) -> None:
    ours, theirs = memory_stream_pair()
    stream = Counting(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    written: list[bytes] = []

    async def write(number: int) -> None:
        for tag in (number, number + 100):
            written.append(ack_frame(1, tag))
            connection.write(written[-1])

    async with connected(connection, broker):
        await connection.open_channel()
        stream.sent.clear()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(write, number)
        await trio.testing.wait_all_tasks_blocked()

        assert stream.sent == [b"".join(written)]
        assert len(written) == 100


async def test_messages_have_no_tasks(pair: tuple[Connection, ScriptedBroker], heard: Heard) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        before = trio.lowlevel.current_statistics().tasks_living
        for tag in range(1000):
            await broker.say(delivery(channel, tag, b"body"))
            connection.write(ack_frame(channel, tag))

            assert trio.lowlevel.current_statistics().tasks_living == before
        await trio.testing.wait_all_tasks_blocked()
    assert [event.delivery_tag for event in heard.events if isinstance(event, DeliveredEvent)] == [*range(1000)]
    assert broker.methods.count((60, 80)) == 1000


async def test_a_broker_that_reads_nothing_is_still_heard(heard: Heard) -> None:
    """Under an alarm it stops reading publishes, and goes on confirming those before; beats do not pile up meanwhile."""
    ours, theirs = lockstep_stream_pair()
    stream = Counting(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    async with connected(connection, broker) as nursery:
        channel = await connection.open_channel()
        stream.held = True
        connection.write(bytes(1_000_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(beat, broker)
        for tag in range(1, 101):
            await trio.sleep(10)
            await broker.say(method(channel, 60, 80, struct.pack(">QB", tag, 0)))

            assert heard.events[-1] == ConfirmedEvent(channel, tag, multiple=False, is_stored=True)
        assert not connection.loss.is_final
        assert connection._protocol.output() == BEAT


# --- questions ------------------------------------------------------------------------------------------------------


async def test_a_question_gets_its_answer_and_a_refusal_its_reason(pair: tuple[Connection, ScriptedBroker]) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        answer = await connection.ask(channel, declaring())
        assert isinstance(answer, commands.Queue.DeclareOk)
        assert answer.message_count == 7

        async with refused_soon(connection, broker, channel, 406) as refused:
            await connection.ask(channel, declaring())
        assert refused[0].is_different
        assert "PRECONDITION" in str(refused[0])

        assert await connection.open_channel() == channel
        assert await connection.ask(channel, declaring())


@asynccontextmanager
async def refused_soon(
    connection: Connection, broker: ScriptedBroker, channel: int, code: int
) -> AsyncIterator[list[Refused]]:
    """The broker refuses the question that is asked inside."""
    refused: list[Refused] = []
    broker.silent_about.add(DECLARE)

    async def refuse() -> None:
        await broker.until_another(DECLARE)
        broker.silent_about.discard(DECLARE)
        broker.channels.discard(channel)
        await broker.say(close(channel, code, "PRECONDITION"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        try:
            yield refused
        except Refused as error:
            refused.append(error)
    assert refused


async def test_a_channel_closed_between_two_questions_is_a_loss_for_who_asks(
    pair: tuple[Connection, ScriptedBroker],
) -> None:
    """And for nobody else: the same number is good again when it is opened again."""
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        broker.channels.discard(channel)
        await broker.say(close(channel, 541, "INTERNAL_ERROR"))
        await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(LinkLost, match=r"closed the channel on which Queue.Declare was to be asked"):
            await connection.ask(channel, declaring())

        assert await connection.open_channel() == channel
        assert await connection.ask(channel, declaring())


async def test_a_channel_that_is_refused_is_a_loss_for_who_opens_it(pair: tuple[Connection, ScriptedBroker]) -> None:
    connection, broker = pair
    broker.silent_about.add(CHANNEL_OPEN)
    async with connected(connection, broker) as nursery:

        async def refuse() -> None:
            await broker.until_another(CHANNEL_OPEN)
            broker.channels.discard(1)
            await broker.say(close(1, 504, "CHANNEL_ERROR"))

        nursery.start_soon(refuse)
        with pytest.raises(LinkLost, match="opens no channel: CHANNEL_ERROR"):
            await connection.open_channel()


async def test_a_text_that_amqp_cannot_carry_ends_nothing(pair: tuple[Connection, ScriptedBroker]) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        with pytest.raises(ValueError, match="no text of up to 255 bytes"):
            await connection.ask(channel, _Declare(queue="q" * 256))

        assert await connection.ask(channel, declaring())


class _Declare(commands.Queue.Declare):
    def validate(self) -> None:
        """Any name will do."""


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


@pytest.mark.parametrize("how", LOSSES)
async def test_a_loss_reaches_everybody_who_waits(pair: tuple[Connection, ScriptedBroker], how: str) -> None:
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
    pair: tuple[Connection, ScriptedBroker], how: str, at: tuple[int, int]
) -> None:
    lose, why = LOSSES[how]
    connection, broker = pair
    broker.silent_about.add(at)
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


async def test_the_brokers_end_is_agreed_to_by_whoever_closes_at_once(pair: tuple[Connection, ScriptedBroker]) -> None:
    """Otherwise it waits, and writes down that this worker has gone without a word."""
    connection, broker = pair
    async with connected(connection, broker) as nursery:
        nursery.start_soon(end, broker)
        with pytest.raises(LinkLost, match="going home"):
            connection.loss.check()
            await connection.loss.wait()
            connection.loss.check()
        await connection.close()
        await trio.testing.wait_all_tasks_blocked()

        assert broker.methods[-1] == AGREED
        assert CLOSE not in broker.methods


async def test_a_mistake_in_handling_what_comes_loses_the_link_and_nothing_else(
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
    pair: tuple[Connection, ScriptedBroker], heard: Heard, caplog: pytest.LogCaptureFixture
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


async def test_what_was_written_leaves_before_the_end(pair: tuple[Connection, ScriptedBroker]) -> None:
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


async def test_a_link_that_its_user_gave_up_ends_in_peace(pair: tuple[Connection, ScriptedBroker]) -> None:
    """The connection is as good as before: what was acked on it is not to be lost."""
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        connection.write(ack_frame(channel, 1))
        connection.loss.declare("RabbitMQ ended the consumer of 'jobs': was the queue deleted?")
        await connection.close()

        assert broker.methods[-2:] == [(60, 80), CLOSE]


@pytest.mark.parametrize("unread", [0, 1_000_000])
async def test_an_end_that_nobody_agrees_to_is_bounded(heard: Heard, unread: int) -> None:
    """Also where nothing is read any more, and whether or not whoever closes is cancelled."""
    ours, theirs = memory_stream_pair()
    stream = Counting(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    broker.silent_about.add(CLOSE)
    async with connected(connection, broker):
        stream.held = bool(unread)
        connection.write(bytes(unread))
        began = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.close()

        assert trio.current_time() - began == CLOSE_TIMEOUT


async def test_closing_twice_is_closing_once(pair: tuple[Connection, ScriptedBroker]) -> None:
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

        with monkeypatch.context() as patch, trio.fail_after(20):
            patch.setattr(link, "connect_tcp", connect)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(broker.serve)
                ended = await cancelled_after(step, live)
                if broker.came or ended:
                    with pytest.raises(trio.ClosedResourceError):
                        await ours.send_all(b"x")
                nursery.cancel_scope.cancel()
        if (20, 10) in broker.methods and (60, 80) in broker.methods:
            assert broker.methods[-1] == CLOSE  # open, and so ended in peace
        return ended

    play_with_every_step(case)


async def test_what_is_raised_in_a_link_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
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
