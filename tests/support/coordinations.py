"""Keepers of leases, claims and schedules for tests, with lifetimes that pass when a test says so."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from attrs import define, frozen
from tests.support import servers
from tests.support.resp import redis_command

from milvaion_trio.coordination.redis import RedisCoordination
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.ports.coordination import Coordination

__all__ = ["KEEPERS", "Keeper", "KeeperKind", "OwnClock", "redis_coordination"]

DATABASE = 1

_ELAPSE = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[2]) end
end
for _, member in ipairs(redis.call('ZRANGE', ARGV[1] .. 'ended', 0, -1)) do
  redis.call('ZINCRBY', ARGV[1] .. 'ended', -ARGV[2] / 1000, member)
end
return 1
"""
"""Time passes in Redis: for what is kept, that is the same as to have been written earlier."""


@define
class OwnClock:
    """A wall clock that stands until it is moved."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@frozen(kw_only=True)
class Keeper:
    """One keeper, its clients, and how time passes for it."""

    client: Callable[[], Coordination]
    """As another process would have it; the test opens it."""
    elapse: Callable[[float], Awaitable[None]]
    """Let seconds pass."""


@frozen
class KeeperKind:
    """A kind of keeper, and how to get one for a test."""

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Keeper]]


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[Keeper]:
    clock = OwnClock()
    only = SqliteCoordination(clock=clock)
    yield Keeper(client=lambda: only, elapse=_moving(clock))


@asynccontextmanager
async def _file(folder: Path) -> AsyncIterator[Keeper]:
    clock = OwnClock()
    place = folder / "data" / "coordination.db"
    yield Keeper(client=lambda: SqliteCoordination(place, clock), elapse=_moving(clock))


@asynccontextmanager
async def _redis(_: Path) -> AsyncIterator[Keeper]:
    prefix = f"tests:{secrets.token_hex(8)}:"
    port = servers.redis().port

    async def elapse(seconds: float) -> None:
        milliseconds = str(round(seconds * 1000)).encode()
        answer = await redis_command(
            port, b"EVAL", _ELAPSE.encode(), b"0", prefix.encode(), milliseconds, database=DATABASE
        )
        assert answer == b":1", answer

    yield Keeper(client=lambda: redis_coordination(port, prefix=prefix), elapse=elapse)


def _moving(clock: OwnClock) -> Callable[[float], Awaitable[None]]:
    async def elapse(seconds: float) -> None:
        clock.now += seconds

    return elapse


def redis_coordination(port: int, options: str = "", *, prefix: str, password: str = "") -> RedisCoordination:
    """A client of the Redis on that port."""
    settings = RedisSettings(connection_string=f"{servers.HOST}:{port}{options}", database=DATABASE, password=password)
    return RedisCoordination(settings, prefix)


KEEPERS = [KeeperKind("memory", _memory), KeeperKind("file", _file), KeeperKind("redis", _redis)]
