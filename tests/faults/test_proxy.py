"""The proxy does to connections what it says, since a fault that does not happen proves nothing."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import pytest
import trio
from attrs import define, field
from tests.support.processes import until
from tests.support.proxy import HOST, Proxy, Toxics, open_proxy

Way: TypeAlias = Literal["up", "down"]
WAYS: Final[tuple[Way, ...]] = ("up", "down")
SOON = 5.0


@define(eq=False)
class Ends:
    """A connection through the proxy, from outside: what each end sends and when the other one has it."""

    client: trio.SocketStream
    server: trio.SocketStream
    times: list[float] = field(factory=list)
    """Of every piece that arrived."""
    sizes: list[int] = field(factory=list)

    async def send(self, way: Way, data: bytes) -> None:
        await (self.client if way == "up" else self.server).send_all(data)

    async def arrives(self, way: Way, count: int) -> bytes:
        """So many bytes at the other end, each piece as it comes."""
        found = b""
        with trio.fail_after(SOON):
            while len(found) < count:
                piece = await (self.server if way == "up" else self.client).receive_some(CHUNK)
                assert piece, "closed"
                found += piece
                self.times.append(time.monotonic())
                self.sizes.append(len(piece))
        return found

    async def silent(self, way: Way, seconds: float = 0.1) -> bool:
        """Whether nothing arrives for so long."""
        with trio.move_on_after(seconds):
            await (self.server if way == "up" else self.client).receive_some(CHUNK)
            return False
        return True


CHUNK = 65_536


@asynccontextmanager
async def proxied(seed: int = 7) -> AsyncIterator[tuple[Proxy, "Dialler"]]:
    """A server behind a proxy, and who connects to it."""
    accepted, served = trio.open_memory_channel[trio.SocketStream](10)

    async def accept(stream: trio.SocketStream) -> None:
        await accepted.send(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        await nursery.start(trio.serve_listeners, accept, listeners)
        async with open_proxy(listeners[0].socket.getsockname()[1], seed=seed) as proxy:
            dialler = Dialler(proxy, served)
            yield proxy, dialler
            dialler.hang_up()
        nursery.cancel_scope.cancel()


@define(eq=False)
class Dialler:
    _proxy: Proxy
    _served: trio.MemoryReceiveChannel[trio.SocketStream]
    _clients: list[trio.SocketStream] = field(factory=list)

    async def dial(self) -> Ends:
        client = await trio.open_tcp_stream(HOST, self._proxy.port)
        self._clients.append(client)
        return Ends(client, await self._served.receive())

    def hang_up(self) -> None:
        for client in self._clients:
            client.socket.close()


async def test_without_toxics_everything_passes_unchanged() -> None:
    data = bytes(range(256)) * 2000
    async with proxied() as (_, dialler):
        ends = await dialler.dial()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.send, "up", data)
            assert await ends.arrives("up", len(data)) == data
        await ends.send("down", b"yes")
        assert await ends.arrives("down", 3) == b"yes"


async def test_a_cut_resets_both_ends() -> None:
    """Not closed in peace: both get ECONNRESET, as from a firewall that has forgotten the connection."""
    async with proxied() as (proxy, dialler):
        first, second = await dialler.dial(), await dialler.dial()
        await first.send("up", b"a")
        await first.arrives("up", 1)

        assert proxy.cut(lambda passage: b"a" in passage.up.seen) == 1

        for stream in (first.client, first.server):
            with trio.fail_after(SOON), pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await second.send("up", b"b")
        assert await second.arrives("up", 1) == b"b"


@pytest.mark.parametrize("side", ["up", "down", "both"])
async def test_a_black_hole_holds_its_sides_of_old_and_new_connections(side: Literal["up", "down", "both"]) -> None:
    """Held is what was sent before the end of it, too; afterwards everything arrives in order."""
    async with proxied() as (proxy, dialler):
        old = await dialler.dial()
        with proxy.black_hole(side):
            new = await dialler.dial()
            for ends in (old, new):
                for way in WAYS:
                    await ends.send(way, b"1")
                    if side in (way, "both"):
                        assert await ends.silent(way)
                    else:
                        assert await ends.arrives(way, 1) == b"1"
        for ends in (old, new):
            for way in WAYS:
                await ends.send(way, b"2")
                awaited = b"12" if side in (way, "both") else b"2"
                assert await ends.arrives(way, len(awaited)) == awaited


async def test_nobody_learns_through_a_black_hole_that_the_other_end_is_gone() -> None:
    """Neither by its goodbye, nor by what an answer to the dead end would bring back."""
    async with proxied() as (proxy, dialler):
        ends = await dialler.dial()
        with proxy.black_hole("up"):
            await ends.client.aclose()
            for _ in range(3):
                await ends.send("down", b"are you there?")
                assert await ends.silent("up")
        with trio.fail_after(SOON):
            assert await ends.server.receive_some() == b""


async def test_latency_delays_and_jitter_spreads_but_nothing_is_overtaken() -> None:
    async with proxied() as (proxy, dialler):
        ends = await dialler.dial()
        with proxy.slowed(Toxics(latency=0.1, jitter=0.08)):
            found, delays = b"", []
            for number in range(10):
                sent = time.monotonic()
                await ends.send("up", bytes([number]))
                found += await ends.arrives("up", 1)
                delays.append(ends.times[-1] - sent)
        undelayed = []
        for _ in range(20):
            sent = time.monotonic()
            await ends.send("up", b"x")
            await ends.arrives("up", 1)
            undelayed.append(ends.times[-1] - sent)

    assert found == bytes(range(10))
    assert min(delays) >= 0.02
    assert max(delays) - min(delays) > 0.05
    assert max(delays) < 1.0  # a machine that has other things to do as well
    assert min(undelayed) < 0.02


async def test_what_is_underway_when_a_black_hole_begins_is_held_as_well() -> None:
    async with proxied() as (proxy, dialler):
        ends = await dialler.dial()
        with proxy.slowed(Toxics(latency=0.2)):
            await ends.send("up", b"1")
            await until(lambda: proxy.passages[0].up.seen)
            with proxy.black_hole():
                assert await ends.silent("up", 0.4)
            assert await ends.arrives("up", 1) == b"1"


async def test_slices_arrive_in_small_pieces() -> None:
    data = bytes(range(200))
    async with proxied() as (proxy, dialler):
        ends = await dialler.dial()
        with proxy.slowed(Toxics(slices=(1, 3)), "down"):
            await ends.send("down", data)
            assert await ends.arrives("down", len(data)) == data

    assert len(set(ends.sizes)) > 1
    assert max(ends.sizes) < 20  # two may meet in the receiver's buffer


async def test_bandwidth_is_bounded_in_each_direction_alone() -> None:
    async with proxied() as (proxy, dialler):
        ends = await dialler.dial()
        with proxy.slowed(Toxics(bytes_per_second=50_000), "up"):
            began = time.monotonic()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.send, "up", bytes(20_000))
                await ends.send("down", bytes(20_000))
                await ends.arrives("down", 20_000)
                quick = time.monotonic() - began
                await ends.arrives("up", 20_000)
            slow = time.monotonic() - began

    assert quick < slow
    assert 0.35 < slow < 3
    gaps = [later - earlier for earlier, later in pairwise(ends.times)]
    assert max(gaps) < 0.35  # a stream, and no burst at its end


async def test_a_seed_repeats_what_chance_does() -> None:
    def chances(proxy: Proxy) -> list[float]:
        toxics = Toxics(latency=1, jitter=1)
        return [toxics.delay(proxy.random) for _ in range(10)]

    found = []
    for seed in (1, 1, 2):
        async with open_proxy(1, seed=seed) as proxy:
            found.append(chances(proxy))

    assert found[0] == found[1] != found[2]
