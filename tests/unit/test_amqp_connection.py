"""A connection in virtual time, against a broker that does as it is told."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from pamqp import commands
from tests.support.amqp_peer import close, delivery, login, method, tune
from tests.support.amqp_script import BEAT, CountingStream, Heard, ScriptedBroker, connected, made
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from milvaion_trio.broker.amqp.connection import Connection
from milvaion_trio.broker.amqp.encoding import ack_frame
from milvaion_trio.broker.amqp.events import ConfirmedEvent, DeliveredEvent
from milvaion_trio.broker.link import Refused
from milvaion_trio.model.errors import LinkLost

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


# --- beating --------------------------------------------------------------------------------------------------------


async def test_a_beat_leaves_every_half_heartbeat(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
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


async def test_two_silent_heartbeats_are_a_loss(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        began = trio.current_time()

        assert await connection.loss.wait() == "nothing was heard from broker:5672 for 20 s"

        assert trio.current_time() - began == 20
    assert trio.current_time() - began == 20  # nobody is there to agree to its end


async def test_silence_begins_with_the_last_that_came(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    """Noticed within half a heartbeat more."""
    connection, broker = pair
    async with connected(connection, broker):
        began = trio.current_time()
        await trio.sleep(7)
        await broker.say(method(0, 10, 61))

        assert await connection.loss.wait() == "nothing was heard from broker:5672 for 23 s"

        assert trio.current_time() - began == 30


async def test_a_broker_that_beats_is_not_silent(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    connection, broker = pair
    async with connected(connection, broker) as nursery:
        nursery.start_soon(beat, broker, 19)
        await trio.sleep(86_400)

        assert not connection.loss.is_final


async def test_a_held_up_loop_is_not_taken_for_silence(
    autojump_clock: MockClock,
    pair: tuple[Connection, ScriptedBroker],
) -> None:
    """However long it was: what the broker said meanwhile is read now."""
    connection, broker = pair
    async with connected(connection, broker):
        for _ in range(10):
            await trio.sleep(1)
            autojump_clock.jump(3600)
            await trio.sleep(1)
            await broker.say(BEAT)

        assert not connection.loss.is_final


async def test_without_a_heartbeat_nobody_beats_and_silence_lasts(autojump_clock: MockClock, heard: Heard) -> None:
    ours, theirs = memory_stream_pair()
    connection = made(ours, heard, login(heartbeat=0))
    broker = ScriptedBroker(theirs, tune(heartbeat=0))
    async with connected(connection, broker):
        await trio.sleep(86_400)

        assert not connection.loss.is_final
    assert BEATS not in broker.methods


async def test_a_broker_without_a_wish_gets_our_heartbeat(autojump_clock: MockClock, heard: Heard) -> None:
    """It would never notice that we are gone, and we not that it is."""
    ours, theirs = memory_stream_pair()
    connection, broker = made(ours, heard), ScriptedBroker(theirs, tune(heartbeat=0))
    async with connected(connection, broker):
        await connection.loss.wait()

    assert broker.methods.count(BEATS) == 3


# --- writing --------------------------------------------------------------------------------------------------------


async def test_what_is_written_in_one_pass_leaves_in_one_call(autojump_clock: MockClock, heard: Heard) -> None:
    ours, theirs = memory_stream_pair()
    stream = CountingStream(ours)
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


async def test_messages_have_no_tasks(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker], heard: Heard
) -> None:
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


async def test_a_broker_that_reads_nothing_is_still_heard(autojump_clock: MockClock, heard: Heard) -> None:
    """Under an alarm it stops reading publishes, and confirms those before; beats do not pile up meanwhile."""
    ours, theirs = lockstep_stream_pair()
    stream = CountingStream(ours)
    connection, broker = made(stream, heard), ScriptedBroker(theirs)
    async with connected(connection, broker) as nursery:
        channel = await connection.open_channel()
        stream.held = trio.Event()
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


async def test_a_question_gets_its_answer_and_a_refusal_its_reason(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
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
    autojump_clock: MockClock,
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


async def test_a_channel_that_is_refused_is_a_loss_for_who_opens_it(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
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


async def test_a_text_that_amqp_cannot_carry_ends_nothing(
    autojump_clock: MockClock, pair: tuple[Connection, ScriptedBroker]
) -> None:
    connection, broker = pair
    async with connected(connection, broker):
        channel = await connection.open_channel()
        with pytest.raises(ValueError, match="no text of up to 255 bytes"):
            await connection.ask(channel, _Declare(queue="q" * 256))

        assert await connection.ask(channel, declaring())


class _Declare(commands.Queue.Declare):
    def validate(self) -> None:
        """Any name will do."""
