"""One direction of a connection through the proxy, and what a bad network does to the bytes in it.

Separate from the connections, as everything here happens to one direction alone: a network may well carry one of them
and lose the other.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Final

import trio
from attrs import define, field, frozen

__all__ = ["HEALTHY", "Lane", "Toxics"]

CHUNK: Final = 65_536
TICKS: Final = 20
"""Chunks a second where the bandwidth is bounded: a whole one at once would be silence and then a burst."""
MOST_UNDERWAY: Final = 64
"""Chunks that a slow lane holds; behind them the sender has to wait, as it would for a full pipe."""


@frozen(kw_only=True)
class Toxics:
    """How bytes travel. The values of a network that does nothing wrong are the defaults."""

    latency: float = 0.0
    """Seconds."""
    jitter: float = 0.0
    """Seconds by which the latency is more or less. Nothing is overtaken, since TCP delivers in order."""
    slices: tuple[int, int] | None = None
    """The fewest and the most bytes of the pieces in which they arrive."""
    bytes_per_second: float = math.inf

    def delay(self, random: Random) -> float:
        """Seconds for the next chunk."""
        return max(0.0, self.latency + random.uniform(-self.jitter, self.jitter))

    def pieces(self, data: bytes, random: Random) -> Iterator[bytes]:
        """The data as it arrives."""
        if self.slices is None:
            yield data
            return
        begin = 0
        while begin < len(data):
            end = begin + random.randint(*self.slices)
            yield data[begin:end]
            begin = end

    @property
    def chunk(self) -> int:
        """Bytes to carry at a time."""
        if math.isinf(self.bytes_per_second):
            return CHUNK
        return max(1, min(CHUNK, int(self.bytes_per_second / TICKS)))


HEALTHY: Final = Toxics()


@define(eq=False)
class Lane:
    """One direction of a connection."""

    _to: trio.SocketStream
    _random: Random
    seen: bytearray = field(factory=bytearray, init=False)
    """All that the sender sent, as it was."""
    change: Callable[[bytes], bytes] = field(default=bytes, init=False)
    """What is sent in place of what came; bytes it keeps for later can be given to `send`."""
    toxics: Toxics = field(default=HEALTHY, init=False)
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
        """Carry bytes until the receiver may know that the sender has no more, or is gone.

        That travels behind the bytes: held, it is not known either. If cancelled, some bytes may have been sent.
        """
        underway, arriving = trio.open_memory_channel[tuple[float, bytes]](MOST_UNDERWAY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._arrive, arriving)
            async with underway:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._depart(source, underway)

    async def _depart(self, source: trio.SocketStream, underway: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        due = 0.0
        while data := await source.receive_some(self.toxics.chunk):
            self.seen += data
            changed = self.change(bytes(data))
            await self._passable()
            await trio.sleep(len(data) / self.toxics.bytes_per_second)
            due = max(due, trio.current_time() + self.toxics.delay(self._random))
            await underway.send((due, changed))

    async def _arrive(self, arriving: trio.MemoryReceiveChannel[tuple[float, bytes]]) -> None:
        async for due, data in arriving:
            await trio.sleep_until(due)
            await self._passable()
            # That the receiver is gone is for the other lane to tell, which may be held. What comes now is lost.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for piece in self.toxics.pieces(data, self._random):
                    await self.send(piece)
        await self._passable()

    async def _passable(self) -> None:
        while not self._open.is_set():
            await self._open.wait()
