"""A link through aio-pika: how it is opened, asked and closed.

aio-pika keeps handshake, channels, declaring and heartbeats. Messages do not go through it: they are cut out of its
stream (see `frames`), and what is published and acked is written directly.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aio_pika
import aiormq
import trio
from aio_pika.connection import make_url
from attrs import define, field, frozen
from pamqp.base import Frame
from yarl import URL

from milvaion_trio.bridge import Abandoned, Bridge, ByteStreams, open_bridge
from milvaion_trio.broker.aiopika.frames import Frames
from milvaion_trio.broker.amqp.framing import HEARTBEAT
from milvaion_trio.broker.connecting import connect_tcp, detach, foreign, refusal, silence
from milvaion_trio.broker.link import CLOSE_TIMEOUT, NORMAL_END, Endpoint, Listener, Loss, Refused, introduced
from milvaion_trio.model.errors import LinkLost, LinkRefused, SettingsError

__all__ = ["open_link"]

ALIVE_AFTER = 1.0
"""Seconds between signs of life for aiormq, whose shortest patience is 6 s."""

CODES = {
    aiormq.exceptions.ChannelAccessRefused: 403,
    aiormq.exceptions.ChannelNotFoundEntity: 404,
    aiormq.exceptions.ChannelPreconditionFailed: 406,
}

for _name in ("aio_pika", "aiormq"):
    # They log lost connections with tracebacks, which say nothing that our one line does not say.
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.CRITICAL)

T = TypeVar("T")

_logger = logging.getLogger("milvaion_trio.broker")


@define(eq=False, repr=False)
class AioPikaLink:
    """Implements `broker.link.Link`."""

    endpoint: Endpoint
    _listener: Listener
    _bridge: Bridge
    loss: Loss = field(factory=Loss, init=False)
    _connection: aio_pika.Connection = field(init=False)
    _streams: ByteStreams | None = field(default=None, init=False)
    _frames: Frames = field(factory=Frames, init=False)
    _channels: dict[int, aiormq.Channel] = field(factory=dict, init=False)
    _questions: set[trio.CancelScope] = field(factory=set, init=False)
    """Calls that wait for the broker, which a lost link will never answer."""
    _handshake: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Opening; cancelled as soon as it is known that nothing will come of it."""
    _is_known: bool = field(default=False, init=False)
    """Whether what listens has said enough to be taken for RabbitMQ."""
    _last_data: float = field(factory=trio.current_time, init=False)
    _last_sign: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.loss.on_declared(self._leave_questions)

    @property
    def frame_max(self) -> int:
        """Bytes, as negotiated."""
        transport = self._connection.transport
        assert transport is not None, "it is open"
        frame_max: int = transport.connection.connection_tune.frame_max
        return frame_max

    @property
    def server(self) -> tuple[str, str]:
        """The product and its version."""
        transport = self._connection.transport
        return introduced({} if transport is None else transport.connection.server_properties)

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect; raises `LinkLost` when that fails or takes too long, `SettingsError` where nothing can be tried.

        If cancelled, `close` cleans up.
        """
        _url(self.endpoint)
        with trio.move_on_after(self.endpoint.connect_timeout) as limit:
            stream = await connect_tcp(self.endpoint.address.host, self.endpoint.address.port)
            try:
                with self._handshake:
                    await self._bridge.call(self._shake_hands, stream)
            except LinkLost:
                raise
            except Exception as error:
                raise refusal(self.endpoint.settings, self.endpoint.where, self.loss.why, error) from error
            finally:
                stream.socket.close()  # no longer its own, unless asyncio was cancelled before it ran at all
        if self._handshake.cancelled_caught:
            raise LinkRefused(self.loss.why)
        if limit.cancelled_caught:
            raise silence(self.endpoint.where, self.endpoint.connect_timeout)

    async def close(self) -> None:
        """Send what is unsent, end the connection and give the socket back. Not cancelled, at most `CLOSE_TIMEOUT`."""
        self.loss.declare(NORMAL_END)
        if self._streams is None:
            return
        # The socket, not the call: aiormq waits for 33 s, cancelled or not, until a peer has read everything.
        self._streams.abort_after(CLOSE_TIMEOUT)
        with trio.CancelScope(shield=True):
            try:
                await self._bridge.call(self._bridge.all_ended)  # aiormq would cancel it
                await self._bridge.call(self._connection.close)
            except Exception as error:
                _logger.debug("closing the connection to %s: %r", self.endpoint.where, error)
        self._streams.abort()

    async def _shake_hands(self, stream: trio.SocketStream) -> None:
        """In asyncio: everything up to an open virtual host. If cancelled, nothing is left."""
        streams = await self._bridge.streams(detach(stream), self._feed, self._end)
        connection = _connection(self.endpoint, streams)
        try:
            await connection.connect()
        except BaseException:
            streams.abort()
            # Waits for nothing, as there is no transport. Left open, it would close itself when it is collected.
            await connection.close()  # noqa: ASYNC102  # asyncio's
            raise
        connection.close_callbacks.add(self._closed)
        self._connection, self._streams = connection, streams

    # --- channels ---------------------------------------------------------------------------------------------------

    async def open_channel(self) -> int:
        """The number of a new one. If cancelled, it is closed."""
        channel = await self._call(self._open_channel)
        self._channels[channel.number] = channel
        return int(channel.number)

    async def ask(self, channel: int, method: Frame) -> Frame:
        """The broker's answer. If cancelled, aiormq closes the channel."""
        return await self._call(self._channels[channel].rpc, method)

    def end_channel(self, channel: int) -> None:
        """Close it to the end.

        Cancelled after its `channel.close`, aiormq would send a second one, for which RabbitMQ ends the connection
        ("expected 'channel.open'"), and the acks of that moment are lost.
        """
        closing = self._channels.pop(channel, None)
        if closing is not None and not closing.is_closed and not self.loss.is_final:
            self._bridge.to_the_end(closing.close())

    async def _open_channel(self) -> aiormq.Channel:
        """In asyncio: a channel of aiormq's, without its confirms: we count ourselves. If cancelled, it is closed."""
        channel = await self._connection.channel(publisher_confirms=False)
        underlay = await channel.get_underlay_channel()
        if not isinstance(underlay, aiormq.Channel):
            raise TypeError(f"this version of aio-pika is not supported: a channel is a {type(underlay).__name__}")
        return underlay

    async def _call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run an asyncio coroutine function that waits for the broker.

        Raises `Refused` for an error that closed only the channel it used, `LinkLost` for anything else.
        If cancelled, the broker may have done it.
        """
        self.loss.check()
        with self._bounded(), self._foreign_errors():
            return await self._bridge.call(function, *arguments)
        raise LinkLost(self.loss.why)  # the question was cancelled, because the link was lost

    def write(self, data: bytes) -> None:
        """Send frames, behind all that was sent before; on a lost link this does nothing."""
        if not self.loss.is_final and self._streams is not None:
            self._streams.write(data)

    def write_later(self, frames: Callable[[], bytes]) -> None:
        """Send them; its stream is asyncio's, and nobody here knows when that sends."""
        self.write(frames())

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Leave the block when the link is lost."""
        with trio.CancelScope() as scope:
            self._questions.add(scope)
            try:
                yield
            finally:
                self._questions.discard(scope)

    @contextmanager
    def _foreign_errors(self) -> Iterator[None]:
        """Translate what aio-pika raises; above here only our errors exist."""
        try:
            yield
        except aiormq.exceptions.ChannelClosed as error:
            if (
                self.loss.is_final
                or isinstance(error, aiormq.exceptions.DuplicateConsumerTag)
                or error.args == (None, None)
            ):
                raise LinkLost(self.loss.why or f"a channel was closed: {error!r}") from error
            raise Refused(_code(error), " ".join(str(part) for part in error.args)) from error
        except (Abandoned, aiormq.exceptions.AMQPError, OSError, RuntimeError) as error:
            self.loss.declare(f"the connection broke: {error.__cause__ or error!r}")
            raise LinkLost(self.loss.why) from error

    # --- what comes from the broker ---------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> bytes:
        self._last_data = trio.current_time()
        if not self._is_known and data:
            if (why := foreign(self.endpoint.where, data)) is not None:
                self.loss.declare(why)  # aiormq would wait for the rest of a frame until the time is up
                self._handshake.cancel("it is not RabbitMQ that listens")
                return b""
            self._is_known = True
        events, rest = self._frames.feed(data)
        for event in events:
            self.loss.hear(event, self.endpoint.client_name)
            self._listener.hear(event)
        # aiormq counts only the frames it sees, and the broker sends no heartbeats while it sends messages.
        # A large message alone may take longer to come than aiormq's patience.
        is_open = self._streams is not None
        if is_open and len(rest) < len(data) and self._last_data - self._last_sign >= ALIVE_AFTER:
            self._last_sign = self._last_data
            return HEARTBEAT + rest
        return rest

    def _end(self, error: Exception | None) -> None:
        """The socket is closed, whoever did it."""
        silent = trio.current_time() - self._last_data
        if silent > 2 * self.endpoint.heartbeat > 0:
            self.loss.declare(f"nothing was heard from {self.endpoint.where} for {silent:.0f} s")
        else:
            self.loss.declare(f"the connection to {self.endpoint.where} broke" + (f": {error}" if error else ""))

    def _closed(self, _: object, error: BaseException | None) -> None:
        """Aio-pika's word for it. Usually the socket was quicker; not where it cannot be closed in peace."""
        self.loss.declare(f"the connection to {self.endpoint.where} was given up: {error!r}")

    def _leave_questions(self, _: str) -> None:
        for question in self._questions:
            question.cancel("the link was lost")


@asynccontextmanager
async def open_link(endpoint: Endpoint, listener: Listener) -> AsyncIterator[AioPikaLink]:
    """A link for as long as the context is open. If cancelled, it is closed in an orderly way."""
    async with open_bridge(_tell) as bridge:
        link = AioPikaLink(endpoint, listener, bridge)
        try:
            await link.open()
            yield link
        finally:
            await link.close()  # noqa: ASYNC102  # shielded and bounded in there


def _code(error: aiormq.exceptions.ChannelClosed) -> int:
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code
    return 0


def _tell(problem: str) -> None:
    _logger.warning("asyncio: %s", problem)


class _Connection(aio_pika.Connection):
    """aio-pika's plain connection (not the robust one: LIBRARIES.md 2.3), over streams that are open already."""

    def __init__(self, url: URL, streams: ByteStreams, **kwargs: Any) -> None:
        super().__init__(url, **kwargs)
        self.kwargs["transport_factory"] = _Ready(streams)


@frozen
class _Ready(aiormq.TransportFactory):
    """Gives aiormq our streams, in which messages are taken out on their way."""

    _streams: ByteStreams

    async def create(self, url: URL, **kwargs: Any) -> tuple[Any, Any]:
        """The reader and the writer. Nothing to cancel."""
        return self._streams.reader, self._streams.writer


def _connection(endpoint: Endpoint, streams: ByteStreams) -> aio_pika.Connection:
    return _Connection(_url(endpoint), streams, client_properties={"connection_name": endpoint.client_name})


def _url(endpoint: Endpoint) -> URL:
    """The settings as aio-pika takes them; raises `SettingsError` for those that no URL can say.

    They would be changed on the way, without a word: an empty name to `guest`, a `%2F` to a slash.
    """
    settings = endpoint.settings
    url = make_url(
        host=endpoint.address.host,
        port=endpoint.address.port,
        login=settings.username,
        password=settings.password,
        virtualhost=settings.virtual_host,
        heartbeat=endpoint.heartbeat,
    )
    problems = []
    if settings.tls:  # rather not at all than in plain text
        problems.append("aio-pika does not speak TLS here (Worker:RabbitMQ:Tls): set Worker:RabbitMQ:Driver to amqp.")
    if settings.authentication != "PLAIN":  # it would send name and password all the same
        problems.append(
            f"aio-pika logs in by name and password only, and not by {settings.authentication} "
            "(Worker:RabbitMQ:Authentication): set Worker:RabbitMQ:Driver to amqp."
        )
    if url.user != settings.username:
        problems.append(f"User {settings.username!r} cannot be used with aio-pika (Worker:RabbitMQ:Username).")
    if url.password != settings.password:
        problems.append(
            f"The password of user {settings.username!r} cannot be used with aio-pika (Worker:RabbitMQ:Password)."
        )
    if url.path[1:].replace("%2F", "/") != settings.virtual_host:
        problems.append(
            f"Virtual host {settings.virtual_host!r} cannot be used: its name must not contain '%2F' or be a dot "
            "(Worker:RabbitMQ:VirtualHost)."
        )
    if problems:
        raise SettingsError(problems)
    return url
