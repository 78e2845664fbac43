"""A TCP proxy on loopback that breaks connections in every way a network does, on command.

It knows nothing of what passes through it. Each connection has two lanes, `up` to the server and `down` to the client;
a lane shows what the sender sent, can be held, slowed and cut into pieces, and can have its bytes changed on their way.
What the proxy itself is told to do, it does to the connections there are and to those that come.
"""

import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Literal, TypeAlias

import trio
from attrs import define, field
from tests.support.lanes import HEALTHY, Lane, Toxics

__all__ = ["Lane", "Passage", "Proxy", "Side", "Toxics", "open_proxy"]

HOST = "127.0.0.1"

Side: TypeAlias = Literal["up", "down", "both"]


@define(eq=False)
class Passage:
    """One connection through the proxy."""

    up: Lane
    down: Lane
    _streams: tuple[trio.SocketStream, trio.SocketStream]
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    def lanes(self, side: Side) -> tuple[Lane, ...]:
        """One of them, or both."""
        return {"up": (self.up,), "down": (self.down,), "both": (self.up, self.down)}[side]

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
    random: Random
    """What decides where chance does, so that a seed repeats it."""
    port: int = field(default=0, init=False)
    passages: list[Passage] = field(factory=list, init=False)
    """The open connections."""
    accepted: int = field(default=0, init=False)
    """How many there have been."""
    on_passage: Callable[[Passage], None] = field(default=lambda _: None, init=False)
    """Called with each new connection, before anything passes."""
    _afflictions: list[Callable[[Passage], None]] = field(factory=list, init=False)
    """What is being done to all connections."""
    _listener: trio.CancelScope = field(init=False)
    _refusing: trio.Event = field(init=False)

    def cut(self, which: Callable[[Passage], bool] = lambda _: True) -> int:
        """Reset the open connections, or some of them; returns how many."""
        chosen = [passage for passage in self.passages if which(passage)]
        for passage in chosen:
            passage.cut()
        return len(chosen)

    @contextmanager
    def black_hole(self, side: Side = "both") -> Iterator[None]:
        """While inside, nothing passes on this side. New connections are accepted, and nobody answers on them."""
        with self._afflicted(side, Lane.hold, Lane.release):
            yield

    @contextmanager
    def slowed(self, toxics: Toxics, side: Side = "both") -> Iterator[None]:
        """While inside, everything on this side travels like this."""

        def slow(lane: Lane) -> None:
            lane.toxics = toxics

        def heal(lane: Lane) -> None:
            lane.toxics = HEALTHY

        with self._afflicted(side, slow, heal):
            yield

    @contextmanager
    def _afflicted(self, side: Side, begin: Callable[[Lane], None], end: Callable[[Lane], None]) -> Iterator[None]:
        def afflict(passage: Passage) -> None:
            for lane in passage.lanes(side):
                begin(lane)

        self._afflictions.append(afflict)
        for passage in self.passages:
            afflict(passage)
        try:
            yield
        finally:
            self._afflictions.remove(afflict)
            for passage in self.passages:
                for lane in passage.lanes(side):
                    end(lane)

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
        passage = Passage(Lane(server, self.random), Lane(client, self.random), (client, server))
        self.on_passage(passage)
        for afflict in self._afflictions:
            afflict(passage)
        self.accepted += 1
        self.passages.append(passage)
        try:
            await passage.carry()
        finally:
            self.passages.remove(passage)


@asynccontextmanager
async def open_proxy(target: int, *, seed: int = 0) -> AsyncIterator[Proxy]:
    """A proxy to a port of this machine for as long as the context is open; what chance does comes from the seed."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target, nursery, Random(seed))
        await proxy.start()
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
