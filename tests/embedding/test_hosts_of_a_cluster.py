"""Hosted workers on real servers: RabbitMQ over asyncio, in a thread of a program that has asyncio loops of its own."""

import asyncio
import subprocess
import sys

import anyio
from tests.support import servers
from tests.support.hosts import Host, Open, in_every_host, until
from tests.support.servers import HOST

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.embed import serving
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings, ShutdownSettings


def worker_of_a_cluster() -> Worker:
    vhost = servers.new_vhost()
    return Worker(
        settings=WorkerSettings(
            rabbitmq=RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=vhost),
            redis=RedisSettings(connection_string=f"{HOST}:{servers.redis().port}", cancellation_channel=vhost),
            shutdown=ShutdownSettings(drain_timeout=5, cleanup_timeout=0.5, flush_timeout=2),
        ),
        observers=(),
    )


@in_every_host
def test_starts_and_stops_leave_nothing_behind(host: Host) -> None:
    """No thread, no task, no socket, with a job in each, drained and cancelled in turn."""
    worker = worker_of_a_cluster()
    ran: list[int] = []

    @worker.job()
    async def work(number: int) -> None:
        ran.append(number)

    async def scenario() -> None:
        before = None
        for number in range(4):
            with anyio.CancelScope() as scope:
                async with serving(worker):
                    await work.enqueue(number)
                    await until(lambda: len(ran) == number + 1)  # noqa: B023
                    if number % 2:
                        scope.cancel()
                        await anyio.sleep_forever()
            before = before or Open.now(host)  # the first one imports what it needs
        assert Open.now(host) == before

    host.run(scenario)

    assert ran == [0, 1, 2, 3]


PROGRAM = """
import asyncio, sys, threading
before = asyncio.get_event_loop_policy()
from milvaion_trio import bridge

async def loop():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0 and asyncio.current_task() is not None
    return type(asyncio.get_running_loop()).__module__

def in_a_thread():
    loops.append(asyncio.run(loop()))

loops = [asyncio.run(loop())]
import anyio
loops.append(anyio.run(loop, backend="asyncio"))
thread = threading.Thread(target=in_a_thread)
thread.start(); thread.join()
loops.append(type(asyncio.new_event_loop()).__module__)
assert asyncio.get_event_loop_policy() is before

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        made.append(self)
        return super().new_event_loop()

made = []
asyncio.set_event_loop_policy(Policy())
loops.append(asyncio.run(loop()))
thread = threading.Thread(target=in_a_thread)
thread.start(); thread.join()
assert len(made) == 2
asyncio.set_event_loop_policy(None)
loops.append(asyncio.run(loop()))
assert len(made) == 2
print(*set(loops))
"""


def test_the_bridge_leaves_the_loops_of_a_program_alone() -> None:
    """Whatever starts a loop after its import gets one of asyncio's own, in every thread, or of the policy it set."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.returncode) == ("asyncio.unix_events\n", 0), done.stderr


def test_loops_of_the_host_stay_while_a_worker_serves() -> None:
    """One that was there before the bridge was imported, and those that other threads start meanwhile."""

    async def running() -> str:
        return type(asyncio.get_running_loop()).__module__

    async def main() -> None:
        worker = worker_of_a_cluster()
        worker.job("Work")(lambda: None)
        async with serving(worker):
            assert await asyncio.to_thread(lambda: asyncio.run(running())) == "asyncio.unix_events"
            assert await asyncio.create_task(running()) == "asyncio.unix_events"

    asyncio.run(main())
