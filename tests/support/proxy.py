"""A TCP proxy on loopback that breaks connections in every way a network does, on command.

It knows nothing of what passes through it. Each connection has two lanes, `up` to the server and `down` to the client;
a lane shows what the sender sent, can be held, and can have its bytes changed on their way.
"""

import math
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio
from attrs import define, field

__all__ = ["Lane", "Passage", "Proxy", "open_proxy"]

HOST = "127.0.0.1"
CHUNK = 65_536


@define(eq=False)
class Lane:
    """One direction of a connection."""

    _to: trio.SocketStream
    seen: bytearray = field(factory=bytearray, init=False)
    """All that the sender sent, as it was."""
    change: Callable[[bytes], bytes] = field(default=bytes, init=False)
    """What is sent in place of what came; bytes it keeps for later can be given to `send`."""
    bytes_per_second: float = field(default=math.inf, init=False)
    _open: trio.Event = field(factory=trio.Event, init=False)
    _sending: trio.Lock = field(factory=trio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._open.set()

    def hold(self) -> None:
        """Let nothing through: a black hole, if it is done to both lanes."""
        if self._open.is_set():
            self._open = trio.Event()

    def release(self) -> None:
        """Let everything through that was held, in order."""
        self._open.set()

    async def send(self, data: bytes) -> None:
        """Send bytes to the receiver. If cancelled, some may have been sent."""
        async with self._sending:
            await self._to.send_all(data)

    async def pump(self, source: trio.SocketStream) -> None:
        """Carry bytes until the sender has no more. If cancelled, some may have been sent."""
        while data := await source.receive_some(CHUNK):
            self.seen += data
            changed = self.change(bytes(data))
            await self._open.wait()
            if changed:
                await self.send(changed)
            await trio.sleep(len(data) / self.bytes_per_second)


@define(eq=False)
class Passage:
    """One connection through the proxy."""

    up: Lane
    down: Lane
    _streams: tuple[trio.SocketStream, trio.SocketStream]
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    async def carry(self) -> None:
        """Carry both lanes until one of the ends closes. If cancelled, both ends are reset."""
        client, server = self._streams
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, self.up, client)
                    nursery.start_soon(self._carry, self.down, server)
        finally:
            for stream in self._streams:
                stream.socket.close()

    async def _carry(self, lane: Lane, source: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await lane.pump(source)
        self._scope.cancel()

    def cut(self) -> None:
        """Reset the connection on both ends."""
        for stream in self._streams:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._scope.cancel()


@define(eq=False)
class Proxy:
    """Listens on a port of its own and connects to another one."""

    _target: int
    _nursery: trio.Nursery
    port: int = field(default=0, init=False)
    passages: list[Passage] = field(factory=list, init=False)
    """The open connections."""
    on_passage: Callable[[Passage], None] = field(default=lambda _: None, init=False)
    """Called with each new connection, before anything passes."""
    _listener: trio.CancelScope = field(init=False)
    _refusing: trio.Event = field(init=False)

    def cut(self, which: Callable[[Passage], bool] = lambda _: True) -> None:
        """Reset the open connections, or some of them."""
        for passage in self.passages:
            if which(passage):
                passage.cut()

    async def start(self) -> None:
        """Accept connections, on the same port as before. If cancelled, it may have begun to."""
        listeners = await trio.open_tcp_listeners(self.port, host=HOST)
        self.port = listeners[0].socket.getsockname()[1]
        self._listener, self._refusing = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._serve, listeners)

    async def refuse(self) -> None:
        """Refuse connections until `start`; open ones stay. If cancelled, it is about to be done."""
        self._listener.cancel()
        await self._refusing.wait()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """While inside, all connections are lost and no new one can be had."""
        await self.refuse()
        self.cut()
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self.start()

    async def _serve(
        self, listeners: list[trio.SocketListener], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with self._listener:
            task_status.started()
            await trio.serve_listeners(self._accept, listeners, handler_nursery=self._nursery)
        self._refusing.set()

    async def _accept(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream(HOST, self._target)
        except OSError:
            client.socket.close()
            return
        passage = Passage(Lane(server), Lane(client), (client, server))
        self.on_passage(passage)
        self.passages.append(passage)
        try:
            await passage.carry()
        finally:
            self.passages.remove(passage)


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of this machine for as long as the context is open."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target, nursery)
        await proxy.start()
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
