"""A connection on a stream: it reads, writes and beats, and everybody who waits is told of its end.

Separate from the protocol, which does no I/O, and from `link`, which knows settings and words for people. Three tasks,
whatever the load: no message has a task of its own. All that is written during one pass of the scheduler leaves in one
call of the system.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field
from pamqp.base import Frame

from milvaion_trio.broker.amqp.events import (
    AnsweredEvent,
    ChannelClosedEvent,
    EndedEvent,
    Event,
    OpenedEvent,
    ProtocolError,
)
from milvaion_trio.broker.amqp.protocol import Protocol
from milvaion_trio.broker.amqp.states import State
from milvaion_trio.broker.connecting import foreign
from milvaion_trio.broker.link import CLOSE_TIMEOUT, NORMAL_END, Endpoint, Listener, Loss, Refused, introduced
from milvaion_trio.model.errors import LinkLost

__all__ = ["Connection"]

READ_SIZE: Final = 65_536
"""Bytes of one read: more costs memory for every connection, and a hundred messages of usual size fit."""

MOST_MISSES: Final = 4
"""Looks in a row at which nothing was new, one every half a heartbeat: two heartbeats, as AMQP 0-9-1 (4.2.7) has it."""

_logger = logging.getLogger("milvaion_trio.broker")


@define(eq=False)
class _Question:
    """Who waits for an answer, and what came of it."""

    answered: trio.Event = field(factory=trio.Event, init=False)
    answer: Frame | None = field(default=None, init=False)
    refusal: Refused | None = field(default=None, init=False)


@define(eq=False, repr=False)
class Connection:
    """One connection over a stream that is open already, from the handshake to the end."""

    _stream: trio.abc.Stream
    _protocol: Protocol
    endpoint: Endpoint
    _listener: Listener
    loss: Loss = field(factory=Loss, init=False)
    _questions: dict[int, _Question] = field(factory=dict, init=False)
    _later: list[Callable[[], bytes]] = field(factory=list, init=False)
    """What is still to be asked for the frames that are next."""
    _closed: set[int] = field(factory=set, init=False)
    """Channels that the broker has closed and that have not been opened again."""
    _opened: trio.Event = field(factory=trio.Event, init=False)
    """Open, or lost on the way there."""
    _ended: trio.Event = field(factory=trio.Event, init=False)
    """Nothing more is to be sent or heard, as agreed or because it is of no use. The loss may come long before."""
    _writer: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _life: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True), init=False)
    _last_read: float = field(factory=trio.current_time, init=False)
    failure: BaseException | None = field(default=None, init=False)
    """What the stream raised, for those who can tell a refused certificate from a closed door."""
    is_stranger: bool = field(default=False, init=False)
    """Whether what listens is no RabbitMQ."""

    def __attrs_post_init__(self) -> None:
        self.loss.on_declared(self._tell_all)

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame, as negotiated."""
        return self._protocol.frame_max

    @property
    def server(self) -> tuple[str, str]:
        """The product and its version."""
        return introduced(self._protocol.server_properties)

    async def run(self) -> None:
        """Read, write and beat until `close` has ended. Cancellation from outside does not reach it: close first."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._keep_alive)
                    await self._read()
                    await trio.sleep_forever()  # what is lost is closed by whoever opened it
        except Exception:
            # A defect of ours, and one link must not end the program: whoever uses it opens a new one.
            _logger.exception("the connection to %s could not be handled and is given up", self.endpoint.where)
        finally:
            self._give_up(f"the connection to {self.endpoint.where} was given up by this worker")

    async def open(self) -> None:
        """Shake hands; raises `LinkLost` when the connection is lost over it. If cancelled, close it."""
        self._protocol.start()
        self._wake()
        await self._opened.wait()
        self.loss.check()

    async def close(self) -> None:
        """Send what is unsent, end the connection and close the stream. Not cancelled, at most `CLOSE_TIMEOUT`."""
        is_open = self._opened.is_set() and not self._ended.is_set()
        try:
            self.loss.declare(NORMAL_END)
            if is_open:
                with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                    self._ask_later_ones()
                    self._protocol.end()  # nothing where the broker was first; then only our agreement is to be sent
                    self._wake()
                    await self._ended.wait()
        finally:
            self._life.cancel("the connection is closed")
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)  # noqa: ASYNC102  # waits for nothing

    # --- what others do with it -------------------------------------------------------------------------------------

    def write(self, frames: bytes) -> None:
        """Send frames, behind all that was sent before; on a lost link this does nothing."""
        if not self.loss.is_final:
            self._ask_later_ones()
            self._protocol.send(frames)
            self._wake()

    def write_later(self, frames: Callable[[], bytes]) -> None:
        """Send what this returns, asked when the next write begins; on a lost link it is never asked."""
        if not self.loss.is_final:
            self._later.append(frames)
            self._wake()

    async def open_channel(self) -> int:
        """The number of a new channel. Raises `LinkLost`. If cancelled, there is none."""
        self.loss.check()
        self._ask_later_ones()
        try:
            channel, question = self._protocol.open_channel()
        except ProtocolError as error:
            raise LinkLost(f"no channel can be opened: {error}") from error
        try:
            await self._answer(question)
        except Refused as refused:
            raise LinkLost(f"RabbitMQ opens no channel: {refused}") from refused
        except BaseException:
            self.end_channel(channel)
            raise
        self._closed.discard(channel)
        return channel

    async def ask(self, channel: int, method: Frame) -> Frame:
        """The broker's answer. Raises `Refused` or `LinkLost`. If cancelled, nobody waits for it any more."""
        self.loss.check()
        if channel in self._closed:  # between two questions, so that the reason was nobody's answer
            raise LinkLost(f"RabbitMQ closed the channel on which {method.name} was to be asked")
        self._ask_later_ones()
        try:
            question = self._protocol.ask(channel, method)
        except ProtocolError as error:  # a text too long for AMQP
            raise ValueError(str(error)) from error
        return await self._answer(question)

    def end_channel(self, channel: int) -> None:
        """Close a channel, unless it is closed already. Never waits."""
        if not self.loss.is_final:
            self._ask_later_ones()
            self._protocol.end_channel(channel)
            self._wake()

    async def _answer(self, number: int) -> Frame:
        self._questions[number] = question = _Question()
        self._wake()
        try:
            await question.answered.wait()
        finally:
            del self._questions[number]
        if question.refusal is not None:
            raise question.refusal
        if question.answer is None:
            raise LinkLost(self.loss.why)
        return question.answer

    # --- the tasks --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        is_known = False
        while not self._ended.is_set():
            try:
                data = bytes(await self._stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._break(error)
                return
            if not data:
                self._break(None)
                return
            self._last_read = trio.current_time()
            if not is_known:
                is_known = True
                if (why := foreign(self.endpoint.where, data)) is not None:
                    self.is_stranger = True
                    self._give_up(why)
                    return
            try:
                events = self._protocol.feed(data)
            except ProtocolError as error:
                self._give_up(f"what came from {self.endpoint.where} is not AMQP as it should be: {error}")
                return
            for event in events:
                self._hear(event)
            if self._protocol.has_output:
                self._wake()

    async def _write(self) -> None:
        while True:
            self._ask_later_ones()
            data = self._protocol.output()
            if not data:
                await self._writer.park()
                continue
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                # What the broker said last may still be unread, and says more.
                with trio.move_on_after(1):
                    await self.loss.wait()
                self._break(error)
                return
            if self._protocol.state is State.CLOSED and not self._protocol.has_output:
                self._ended.set()  # our agreement, which was the last to be said

    async def _keep_alive(self) -> None:
        """Say that we live, and notice when the broker has said nothing for two heartbeats.

        Silence is counted in looks, not by the clock: after something has held up the whole loop for long, what the
        broker said meanwhile is only not read yet. We beat at every look, as what was written since the one before may
        have been written right behind it.
        """
        await self._opened.wait()
        heartbeat = self._protocol.heartbeat
        seen, misses = self._last_read, 0
        while heartbeat:
            await trio.sleep(heartbeat / 2)
            misses = misses + 1 if self._last_read == seen else 0
            seen = self._last_read
            if misses == MOST_MISSES:
                silent = trio.current_time() - seen
                self._give_up(f"nothing was heard from {self.endpoint.where} for {silent:.0f} s")
            if self._ended.is_set():
                return
            if not self._protocol.has_output:  # a broker that reads nothing must not be sent ever more
                self._protocol.beat()
                self._wake()

    # --- what comes -------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        match event:
            case AnsweredEvent(question, method):
                if (waiting := self._questions.get(question)) is not None:
                    waiting.answer = method
                    waiting.answered.set()
                return
            case OpenedEvent():
                self._opened.set()
            case EndedEvent():
                self._ended.set()
            case ChannelClosedEvent(channel=channel, why=why, code=code, questions=questions):
                self._closed.add(channel)
                for question in questions:
                    if (waiting := self._questions.get(question)) is not None:
                        waiting.refusal = Refused(code, why)
                        waiting.answered.set()
        self.loss.hear(event, self.endpoint.client_name)
        self._listener.hear(event)

    def _break(self, error: BaseException | None) -> None:
        if not self.loss.is_final:  # what breaks behind a reason, as when our agreement is sent, explains nothing
            self.failure = error
        cause = error.__cause__ if error is not None else None
        self._give_up(f"the connection to {self.endpoint.where} broke" + (f": {cause}" if cause else ""))

    def _give_up(self, why: str) -> None:
        self._ended.set()
        self.loss.declare(why)

    def _ask_later_ones(self) -> None:
        """Take what was promised, before anything else is said."""
        later, self._later = self._later, []
        for frames in later:
            self._protocol.send(frames())

    def _wake(self) -> None:
        self._writer.unpark()

    def _tell_all(self, _: str) -> None:
        self._opened.set()
        for question in self._questions.values():
            question.answered.set()
