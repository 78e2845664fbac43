"""One connection through aio-pika: how it is opened, asked, lost and closed.

Separate from what publishers and consumers do with it. Whatever ends a channel in use ends the link: there is one way
to recover, and it is the supervisor's (reopen, declare, consume). Losing is decided here, once, by the first reason.
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
from yarl import URL

from milvaion_trio.bridge import Abandoned, Bridge, ByteStreams, open_bridge
from milvaion_trio.broker.aiopika.connecting import connect_tcp, detach, foreign, refusal, silence
from milvaion_trio.broker.aiopika.frames import (
    HEARTBEAT,
    BlockedEvent,
    ChannelClosedEvent,
    ConnectionClosedEvent,
    Event,
    Frames,
)
from milvaion_trio.model.errors import LinkLost, LinkRefused, SettingsError
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["AioPikaLink", "Endpoint", "Refused", "open_link"]

CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly end. A black hole answers nothing; acks lost with it are only redeliveries."""
ALIVE_AFTER = 1.0
"""Seconds between signs of life for aiormq, whose shortest patience is 6 s."""
NORMAL_END = "this connection was closed"

T = TypeVar("T")
L = TypeVar("L", bound="AioPikaLink")

_logger = logging.getLogger("milvaion_trio.broker")


class Refused(Exception):
    """The broker refused a question and closed the channel it was asked on; the link lives on."""

    def __init__(self, error: aiormq.exceptions.ChannelClosed) -> None:
        self.is_missing: bool = isinstance(error, aiormq.exceptions.ChannelNotFoundEntity)
        self.is_forbidden: bool = isinstance(error, aiormq.exceptions.ChannelAccessRefused)
        self.is_different: bool = isinstance(error, aiormq.exceptions.ChannelPreconditionFailed)
        super().__init__(" ".join(str(part) for part in error.args))


@frozen(kw_only=True)
class Endpoint:
    """Where to connect, and as whom."""

    settings: RabbitMQSettings
    heartbeat: int
    """Seconds."""
    connect_timeout: float
    """Seconds for TCP and handshake together."""
    client_name: str
    """What the broker's operators see."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.settings.host}:{self.settings.port}"


@define(eq=False, repr=False)
class AioPikaLink:
    """A connection and what is known of it; `_hear` is where publishers and consumers listen."""

    _endpoint: Endpoint
    _bridge: Bridge
    _connection: aio_pika.Connection = field(init=False)
    _streams: ByteStreams | None = field(default=None, init=False)
    _frames: Frames = field(factory=Frames, init=False)
    _in_use: dict[int, str] = field(factory=dict, init=False)
    """Channels whose end is the link's end, and what they are for."""
    _gone: trio.Event = field(factory=trio.Event, init=False)
    _why: str = field(default="", init=False)
    _questions: set[trio.CancelScope] = field(factory=set, init=False)
    """Calls that wait for the broker, which a lost link will never answer."""
    _handshake: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    """Opening; cancelled as soon as it is known that nothing will come of it."""
    _is_known: bool = field(default=False, init=False)
    """Whether what listens has said enough to be taken for RabbitMQ."""
    _last_data: float = field(factory=trio.current_time, init=False)
    _last_sign: float = field(default=0.0, init=False)

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        await self._gone.wait()
        return self._why

    @property
    def is_gone(self) -> bool:
        """Whether nothing goes through it any more."""
        return self._gone.is_set()

    def lose(self, why: str) -> None:
        """End it; only the first reason counts."""
        if self.is_gone:
            return
        self._why = why
        self._gone.set()
        for question in self._questions:
            question.cancel("the link was lost")
        self._after_loss(why)

    def check(self) -> None:
        """Raise `LinkLost` when it is gone."""
        if self.is_gone:
            raise LinkLost(self._why)

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect; raises `LinkLost` when that fails or takes too long, `SettingsError` where nothing can be tried.

        If cancelled, `close` cleans up.
        """
        _url(self._endpoint)
        with trio.move_on_after(self._endpoint.connect_timeout) as limit:
            stream = await connect_tcp(self._endpoint.settings)
            try:
                with self._handshake:
                    await self._bridge.call(self._shake_hands, stream)
                    await self.ask(self._prepare)
            except LinkLost:
                raise
            except Exception as error:
                raise refusal(self._endpoint.settings, self._why, error) from error
            finally:
                stream.socket.close()  # no longer its own, unless asyncio was cancelled before it ran at all
        if self._handshake.cancelled_caught:
            raise LinkRefused(self._why)
        if limit.cancelled_caught:
            raise silence(self._endpoint.settings, self._endpoint.connect_timeout)

    async def close(self) -> None:
        """Send what is unsent, end the connection and give the socket back. Not cancelled, at most `CLOSE_TIMEOUT`."""
        self.lose(NORMAL_END)
        if self._streams is None:
            return
        # The socket, not the call: aiormq waits for 33 s, cancelled or not, until a peer has read everything.
        self._streams.abort_after(CLOSE_TIMEOUT)
        with trio.CancelScope(shield=True):
            try:
                await self._bridge.call(self._bridge.all_ended)  # aiormq would cancel it
                await self._bridge.call(self._connection.close)
            except Exception as error:
                _logger.debug("closing the connection to %s: %r", self._endpoint.address, error)
        self._streams.abort()

    async def _shake_hands(self, stream: trio.SocketStream) -> None:
        """In asyncio: everything up to an open virtual host. If cancelled, nothing is left."""
        streams = await self._bridge.streams(detach(stream), self._feed, self._end)
        connection = _connection(self._endpoint, streams)
        try:
            await connection.connect()
        except BaseException:
            streams.abort()
            # Waits for nothing, as there is no transport. Left open, it would close itself when it is collected.
            await connection.close()  # noqa: ASYNC102  # asyncio's
            raise
        connection.close_callbacks.add(self._closed)
        self._connection, self._streams = connection, streams

    async def _prepare(self) -> None:
        """In asyncio, on a new connection: whatever the kind of link needs at once. If cancelled, it is not used."""

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run an asyncio coroutine function that waits for the broker.

        Raises `Refused` for an error that closed only the channel it used, `LinkLost` for anything else.
        If cancelled, the broker may have done it.
        """
        self.check()
        with self._bounded(), self._foreign_errors():
            return await self._bridge.call(function, *arguments)
        raise LinkLost(self._why)  # the question was cancelled, because the link was lost

    async def on_new_channel(self, function: Callable[[aiormq.Channel], Awaitable[T]]) -> T:
        """As `ask`, on a channel of its own. If cancelled, the broker may have done it."""

        async def on_channel() -> T:
            channel = await self.open_channel()
            try:
                answer = await function(channel)
            except Exception:
                await self.close_channel(channel)  # noqa: ASYNC120  # asyncio's, which delivers a cancellation once
                raise
            # Not after a cancellation: aiormq has sent the close by then, and waiting for the answer takes 10 s where
            # nobody answers.
            await self.close_channel(channel)
            return answer

        return await self.ask(on_channel)

    async def open_channel(self) -> aiormq.Channel:
        """In asyncio: a channel of aiormq's, without its confirms: we count ourselves. If cancelled, it is closed."""
        channel = await self._connection.channel(publisher_confirms=False)
        underlay = await channel.get_underlay_channel()
        if not isinstance(underlay, aiormq.Channel):
            raise TypeError(f"this version of aio-pika is not supported: a channel is a {type(underlay).__name__}")
        return underlay

    async def close_channel(self, channel: aiormq.Channel) -> None:
        """In asyncio: close it. If cancelled, it is closed all the same.

        Cancelled after its `channel.close`, aiormq would send a second one, for which RabbitMQ ends the connection
        ("expected 'channel.open'"), and the acks of that moment are lost.
        """
        await self._bridge.to_the_end(channel.close())

    def write(self, data: bytes) -> None:
        """Send frames, behind all that was sent before; on a lost link this does nothing."""
        if not self.is_gone and self._streams is not None:
            self._streams.write(data)

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
            if self.is_gone or isinstance(error, aiormq.exceptions.DuplicateConsumerTag) or error.args == (None, None):
                raise LinkLost(self._why or f"a channel was closed: {error!r}") from error
            raise Refused(error) from error
        except (Abandoned, aiormq.exceptions.AMQPError, OSError, RuntimeError) as error:
            self.lose(f"the connection broke: {error.__cause__ or error!r}")
            raise LinkLost(self._why) from error

    # --- what comes from the broker ---------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> bytes:
        self._last_data = trio.current_time()
        if not self._is_known and data:
            if (why := foreign(self._endpoint.settings, data)) is not None:
                self.lose(why)  # aiormq would wait for the rest of a frame until the time is up
                self._handshake.cancel("it is not RabbitMQ that listens")
                return b""
            self._is_known = True
        events, rest = self._frames.feed(data)
        for event in events:
            self._hear(event)
        # aiormq counts only the frames it sees, and the broker sends no heartbeats while it sends messages.
        # A large message alone may take longer to come than aiormq's patience.
        is_open = self._streams is not None
        if is_open and len(rest) < len(data) and self._last_data - self._last_sign >= ALIVE_AFTER:
            self._last_sign = self._last_data
            return HEARTBEAT + rest
        return rest

    def _hear(self, event: Event) -> None:
        match event:
            case ConnectionClosedEvent(why=why):
                self.lose(f"RabbitMQ closed the connection: {why}")
            case ChannelClosedEvent(channel, why) if channel in self._in_use:
                self.lose(f"RabbitMQ closed the channel {self._in_use[channel]}: {why}")
            case BlockedEvent(""):
                _logger.info("RabbitMQ reads publishes again: %s", self._endpoint.client_name)
            case BlockedEvent(why):
                _logger.warning("RabbitMQ has stopped reading publishes (%s): %s", why, self._endpoint.client_name)

    def _end(self, error: Exception | None) -> None:
        """The socket is closed, whoever did it."""
        silent = trio.current_time() - self._last_data
        if silent > 2 * self._endpoint.heartbeat > 0:
            self.lose(f"nothing was heard from {self._endpoint.address} for {silent:.0f} s")
        else:
            self.lose(f"the connection to {self._endpoint.address} broke" + (f": {error}" if error else ""))

    def _closed(self, _: object, error: BaseException | None) -> None:
        """Aio-pika's word for it. Usually the socket was quicker; not where it cannot be closed in peace."""
        self.lose(f"the connection to {self._endpoint.address} was given up: {error!r}")

    def _after_loss(self, why: str) -> None:
        """Tell those who wait; runs once."""


@asynccontextmanager
async def open_link(make: Callable[[Bridge], L]) -> AsyncIterator[L]:
    """A link for as long as the context is open. If cancelled, it is closed in an orderly way."""
    async with open_bridge(_tell) as bridge:
        link = make(bridge)
        try:
            await link.open()
            yield link
        finally:
            await link.close()  # noqa: ASYNC102  # shielded and bounded in there


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
        host=settings.host,
        port=settings.port,
        login=settings.username,
        password=settings.password,
        virtualhost=settings.virtual_host,
        heartbeat=endpoint.heartbeat,
    )
    problems = []
    if not settings.username or url.user != settings.username:
        problems.append(f"User {settings.username!r} cannot be used: it must not be empty (Worker:RabbitMQ:Username).")
    if not settings.password or url.password != settings.password:
        problems.append(
            f"The password of user {settings.username!r} cannot be used: it must not be empty "
            "(Worker:RabbitMQ:Password)."
        )
    if url.path[1:].replace("%2F", "/") != settings.virtual_host:
        problems.append(
            f"Virtual host {settings.virtual_host!r} cannot be used: its name must not contain '%2F' or be a dot "
            "(Worker:RabbitMQ:VirtualHost)."
        )
    if problems:
        raise SettingsError(problems)
    return url
