"""Coordination over Redis, beyond what every keeper promises: loss, silence, another server, secrets, its keys."""

import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from tests.support.coordinations import DATABASE, redis_coordination
from tests.support.resp import redis_command, scripted_redis
from tests.support.servers import HOST, RedisServer, free_port
from tests.support.servers import redis as shared_redis

from milvaion_trio.coordination.redis import RedisCoordination
from milvaion_trio.coordination.redis.adapter import PREFIX
from milvaion_trio.coordination.redis.scripts import Script
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Every, Progress, RunEnd, Schedule
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.ports.coordination import LEADER

A = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
SCHEDULE = Schedule(id="often", job="j", worker_id="w", pattern="p", when=Every(5.0))
END = RunEnd(schedule_id="often", tick=1, status=2, at=1)
SECRET = "s3cret-canary"


@pytest.fixture
def prefix() -> str:
    return f"tests:{secrets.token_hex(8)}:"


@pytest.fixture
async def one(prefix: str) -> AsyncIterator[RedisCoordination]:
    """On the run's server."""
    coordination = redis_coordination(shared_redis().port, prefix=prefix)
    async with coordination.open():
        yield coordination


async def lost(call: Callable[[], Awaitable[object]], seconds: float = 10) -> str:
    """The text of the `LinkLost` that this raises in time."""
    with pytest.raises(LinkLost) as raised, trio.fail_after(seconds):
        await call()
    return str(raised.value)


async def command(server: RedisServer, text: str, *, database: int = DATABASE) -> bytes:
    return await redis_command(server.port, *text.encode().split(), database=database)


# --- loss -------------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_gone_is_told_and_used_again_after_its_return(prefix: str) -> None:
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            assert await one.acquire("a", "me", 10)
            server.kill()
            # Refused, unless the system was still closing what the server had open.
            assert re.fullmatch(
                f"Redis at 127.0.0.1:{server.port}: Connection (refused|reset by peer); "
                "see the setting Worker:Redis:ConnectionString",
                await lost(one.read),
            )

            server.start()
            assert await one.acquire("a", "me", 10)


async def test_a_connection_that_broke_while_nothing_was_asked_is_made_again_unnoticed(prefix: str) -> None:
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            await one.put(SCHEDULE, 1)

            await command(server, "CLIENT KILL TYPE normal")

            assert not await one.put(SCHEDULE, 1)


async def test_a_server_that_lost_everything_is_used_anew(prefix: str) -> None:
    """Tokens and revisions grow all the same; who led learns it, and the book takes schedules again."""
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            await one.put(SCHEDULE, 1)
            revision, _ = await one.read()
            old = await one.acquire(LEADER, "a", 10)
            assert old

            await command(server, "FLUSHALL")

            assert await one.beat(old, 10) is None
            assert (await one.read())[1] == []
            assert await one.advance(old, {"often": Progress(runs=1)}, ())  # nobody is newer; and nothing is there
            assert (await one.read())[1] == []
            assert await one.put(SCHEDULE, 1)
            assert (await one.read())[0] > revision
            new = await one.acquire(LEADER, "b", 10)
            assert new
            assert new > old
            assert not await one.advance(old, {"often": Progress(runs=1)}, ())
            assert await one.advance(new, {"often": Progress(runs=2)}, ())


async def test_tokens_grow_on_a_server_that_missed_the_last_of_them(one: RedisCoordination, prefix: str) -> None:
    """As one that takes over from another. Two leaders with the same token would both write."""
    old = await one.acquire(LEADER, "a", 10)
    assert old

    for key in ("token", "leader"):
        await command(shared_redis(), f"SET {prefix}{key} {old - 1}")
    await command(shared_redis(), f"DEL {prefix}lease:{LEADER}")
    new = await one.acquire(LEADER, "b", 10)

    assert new
    assert new > old
    assert not await one.advance(old, {}, ())


@pytest.mark.parametrize("progress", ["{", "7", '{"disabled":"soon"}'])
async def test_a_schedule_with_a_progress_that_cannot_be_read_can_be_resumed(
    one: RedisCoordination, prefix: str, progress: str
) -> None:
    await one.put(SCHEDULE, 1)
    await command(shared_redis(), f"HSET {prefix}schedule:{SCHEDULE.id} progress {progress}")

    assert await one.resume(SCHEDULE.id, 3000)
    assert b"3000" in await command(shared_redis(), f"HGET {prefix}schedule:{SCHEDULE.id} resumed")


async def test_tokens_grow_where_the_servers_clock_does_not(one: RedisCoordination, prefix: str) -> None:
    future = 9_007_199_254_740_000  # near what a number of Lua can be
    await command(shared_redis(), f"SET {prefix}token {future}")

    assert [await one.acquire(name, "me", 10) for name in "abc"] == [future + 1, future + 2, future + 3]


async def test_a_server_that_knows_no_scripts_any_more_is_told_them(one: RedisCoordination) -> None:
    await one.put(SCHEDULE, 1)

    await command(shared_redis(), "SCRIPT FLUSH")

    assert not await one.put(SCHEDULE, 1)
    assert not await one.put(SCHEDULE, 1)


async def test_a_script_is_sent_once(prefix: str) -> None:
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            for number in range(5):
                await one.has_ended("often", number)

        statistics = await _all_of(server, "INFO commandstats")
        assert "cmdstat_eval:calls=1," in statistics
        assert "cmdstat_evalsha:calls=5," in statistics
        assert "cmdstat_select:calls=1," in statistics


async def _all_of(server: RedisServer, text: str) -> str:
    async with await trio.open_tcp_stream(HOST, server.port) as stream:
        await stream.send_all(text.encode() + b"\r\n")
        return bytes(await stream.receive_some(65_536)).decode()


# --- silence ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_answers_no_more_is_given_up_in_time(prefix: str) -> None:
    """Trio goes on meanwhile, others that wait are told too, and later answers are not mixed up."""
    with RedisServer() as server:
        one = redis_coordination(server.port, ",connectTimeout=500", prefix=prefix)
        async with one.open(), trio.open_nursery() as nursery:
            await one.claim("k", A, 100)
            steps = 0

            async def count() -> None:
                nonlocal steps
                while True:
                    await trio.sleep(0.01)
                    steps += 1

            nursery.start_soon(count)
            with server.frozen():
                async with trio.open_nursery() as waiting:
                    for _ in range(3):
                        waiting.start_soon(lost, one.read, 2)
                assert steps > 10

            while True:
                try:
                    assert await one.claim("k", A, 100) == A
                    break
                except LinkLost:
                    await trio.sleep(0.05)
            assert await one.claim("k", A, 100) == A
            nursery.cancel_scope.cancel()


async def test_who_is_cancelled_does_not_wait_for_a_silent_server(prefix: str) -> None:
    """The request goes on; the next one waits for its end, and gets the answer to itself."""
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            await one.claim("k", A, 100)
            with server.frozen():
                with trio.fail_after(3), trio.move_on_after(0.1) as scope:
                    await one.claim("other", A, 100)
                assert scope.cancelled_caught

            assert await one.has_ended("often", 1) is False
            assert await one.claim("k", A, 100) == A


async def test_leaving_does_not_wait_for_a_silent_server(prefix: str) -> None:
    with RedisServer() as server, trio.fail_after(4):
        async with redis_coordination(server.port, prefix=prefix).open():
            pass
        one = redis_coordination(server.port, prefix=prefix)
        async with one.open():
            await one.read()
            server.freeze()
            with trio.move_on_after(0.1):
                await one.read()
        server.thaw()


# --- another server ---------------------------------------------------------------------------------------------------


async def test_of_several_servers_the_one_that_takes_writes_is_used(prefix: str) -> None:
    """Also when that becomes another one: the request that finds out fails, the next one goes there."""
    with RedisServer() as first, RedisServer() as second:
        await command(second, f"REPLICAOF {HOST} {first.port}")
        one = redis_coordination(second.port, f",{HOST}:{first.port}", prefix=prefix)
        async with one.open():
            assert await one.put(SCHEDULE, 1)
            assert await command(first, f"EXISTS {prefix}schedules") == b":1"

            await command(second, "REPLICAOF NO ONE")
            await command(second, "FLUSHALL")
            await command(first, f"REPLICAOF {HOST} {second.port}")

            assert "a read only replica" in await lost(lambda: one.acquire("a", "me", 10))
            assert await one.put(SCHEDULE, 2)
            assert await command(second, f"EXISTS {prefix}schedules") == b":1"

            await command(first, "REPLICAOF NO ONE")  # else the second would wait for it when it ends


async def test_what_is_no_redis_is_told(prefix: str) -> None:
    async with scripted_redis(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        one = redis_coordination(port, ",connectTimeout=500", prefix=prefix)

        assert "(is it Redis that listens there?)" in await lost(one.read)


async def test_entering_does_not_connect(prefix: str) -> None:
    async with redis_coordination(free_port(), prefix=prefix).open():
        await trio.lowlevel.checkpoint()


def test_a_connection_string_that_says_nothing_usable_is_refused() -> None:
    with pytest.raises(SettingsError):
        RedisCoordination(RedisSettings(connection_string=",ssl=true"))


# --- who may, and where -----------------------------------------------------------------------------------------------


async def test_a_password_is_used_and_never_shown(prefix: str) -> None:
    with RedisServer(password=SECRET) as server:
        right = redis_coordination(server.port, prefix=prefix, password=SECRET)
        async with right.open():
            assert await right.put(SCHEDULE, 1)
        wrong = redis_coordination(server.port, prefix=prefix, password=f"{SECRET}-2")

        text = await lost(wrong.read)

        assert text.endswith("see the setting Worker:Redis:ConnectionString and Worker:Redis:Password")
        assert SECRET not in text + repr(wrong) + wrong.name


async def test_a_database_that_is_not_there_is_told(prefix: str) -> None:
    settings = RedisSettings(connection_string=f"{HOST}:{shared_redis().port}", database=99)

    text = await lost(RedisCoordination(settings, prefix).read)

    assert text.endswith("see the setting Worker:Redis:ConnectionString and Worker:Redis:Database")


async def test_a_user_needs_these_commands_only(prefix: str) -> None:
    with RedisServer() as server:
        allowed = f"~{prefix}* +select +del +evalsha +eval +exists +get +set +pexpire +time +hset +hget +hmget +hdel"
        allowed += " +sadd +srem +smembers +zadd +zrem +zrange +zscore +zremrangebyscore"
        await command(server, f"ACL SETUSER worker on >pass {allowed}")
        one = redis_coordination(server.port, ",user=worker", prefix=prefix, password="pass")
        async with one.open():
            await _use_all(one)


async def test_all_keys_are_below_the_prefix_and_in_the_database() -> None:
    """And names that never come again leave nothing behind."""
    with RedisServer() as server:
        one = redis_coordination(server.port, prefix=PREFIX)
        async with one.open():
            await _use_all(one)

        assert await command(server, "DBSIZE", database=0) == b":0"
        left = {f"{PREFIX}{key}" for key in ("token", "leader", "revision", "ended")}
        assert int((await command(server, f"EXISTS {' '.join(left)}"))[1:]) == len(left)
        assert await command(server, "DBSIZE") == b":%d" % len(left)


async def _use_all(one: RedisCoordination) -> None:
    token = await one.acquire(LEADER, "me", 10)
    assert token
    assert await one.renew(LEADER, token, 10)
    assert await one.claim("k", A, 10) == A
    assert await one.give_up("k", A)
    assert await one.put(SCHEDULE, 1)
    assert await one.pause("often")
    assert await one.resume("often", 2)
    await one.ended(END)
    assert await one.has_ended("often", 1)
    assert await one.beat(token, 10)
    assert await one.advance(token, {"often": Progress(runs=1)}, [END])
    assert len((await one.read())[1]) == 1
    assert await one.remove("often")
    assert await one.release(LEADER, token)


async def test_lifetimes_are_the_servers_seconds(one: RedisCoordination) -> None:
    began = trio.current_time()
    assert await one.acquire("a", "me", 0.3)

    while not await one.acquire("a", "you", 10):  # noqa: ASYNC110 # the server tells nobody
        await trio.sleep(0.02)

    assert 0.25 < trio.current_time() - began < 3


def test_a_script_is_known_by_its_digest() -> None:
    assert Script("return 1").digest == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


def test_the_library_is_imported_with_the_first_request() -> None:
    code = (
        "import sys, trio\n"
        "from milvaion_trio.coordination.redis import RedisCoordination\n"
        "from milvaion_trio.model.settings import RedisSettings\n"
        "one = RedisCoordination(RedisSettings())\n"
        "assert 'redis' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
