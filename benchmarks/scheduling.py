"""What schedules cost, and how late their ticks are: a scheduler on private RabbitMQ and Redis servers.

    python -m benchmarks.scheduling [--seconds 60] [--ticking 20] [--idle 10000]

First some schedules that tick every second, then the same beside many that are not due for an hour. A message is on
time when it is at its consumer, who runs in the same process; CPU time is that of the whole process, consumer included.
"""

import argparse
import json
import statistics
import time
from contextlib import AsyncExitStack

import trio
from tests.support.servers import HOST, RabbitMQServer, RedisServer

from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.coordination.redis import RedisCoordination
from milvaion_trio.model import headers, topology
from milvaion_trio.model.schedule import Every, Overlap, Schedule
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings
from milvaion_trio.ports import Binding, Consumer, Exchange, Publisher, Queue, Topology
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.scheduler.scheduler import Scheduler
from milvaion_trio.signals.local import LocalSignals

PATTERN = "bench.work.*"
QUEUE = topology.queue_name(PATTERN)


def schedule(name: str, seconds: float) -> Schedule:
    return Schedule(
        id=name, job="Work", worker_id="bench", pattern=PATTERN, when=Every(seconds), overlap=Overlap.ALLOW, data="{}"
    )


async def take(consumer: Consumer, late: list[float], task_status: trio.TaskStatus[None]) -> None:
    async with consumer.consume(QUEUE, prefetch=1000) as deliveries:
        task_status.started()
        while True:
            delivery = await deliveries.receive()
            now = time.time_ns() / 1e6
            late.append(now - int(str(delivery.message.headers[headers.TICK])))
            delivery.ack()


async def measure(rabbitmq: RabbitMQServer, redis: RedisServer, seconds: float, ticking: int, idle: int) -> object:
    settings = RabbitMQSettings(host=HOST, port=rabbitmq.port, virtual_host=rabbitmq.new_vhost())
    broker = RabbitMQBroker(settings, client_name="bench")
    coordination = RedisCoordination(RedisSettings(connection_string=f"{HOST}:{redis.port}"), f"bench-{idle}:")
    startup = Startup(20, trio.current_time())
    link: SupervisedLink[Publisher] = SupervisedLink("bench", broker.name, broker.publishing, Observers([]), startup)
    scheduler = Scheduler(
        coordination=coordination,
        link=link,
        signals=LocalSignals(),
        holder="bench",
        lease=10.0,
        clock_ns=time.time_ns,
    )
    late: list[float] = []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(coordination.open())
        consumer = await stack.enter_async_context(broker.consuming())
        exchange, bound = Exchange(topology.JOBS_EXCHANGE, "topic"), Binding(topology.JOBS_EXCHANGE, QUEUE, PATTERN)
        await consumer.declare(Topology(exchanges=[exchange], queues=[Queue(QUEUE)], bindings=[bound]))
        await stack.enter_async_context(link.kept_up())
        now = time.time_ns() // 1_000_000
        for number in range(idle):
            await coordination.book.put(schedule(f"idle-{number}", 3600 + number), now)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(scheduler.run)
        await trio.sleep(10)
        at_rest = await cpu_share(seconds / 3)
        for number in range(ticking):
            await coordination.book.put(schedule(f"ticking-{number}", 1), time.time_ns() // 1_000_000)
        await trio.sleep(5)
        await nursery.start(take, consumer, late)
        await trio.sleep(2)
        late.clear()
        busy, quiet = await cpu_share(seconds), list(late)
        late.clear()
        for number in range(round(seconds / 3)):
            await coordination.book.put(schedule("edited", 7200 + number), time.time_ns() // 1_000_000)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return {
        "idle": idle,
        "cpu_percent_nothing_due": round(at_rest * 100, 2),
        "ticks": len(quiet),
        "cpu_percent_ticking": round(busy * 100, 2),
        "late_ms": spread(quiet),
        "late_ms_while_one_is_edited_every_second": spread(late),
    }


def spread(late: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(late, n=100)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(max(late), 1)}


async def cpu_share(seconds: float) -> float:
    before = time.process_time()
    await trio.sleep(seconds)
    return (time.process_time() - before) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ticking", type=int, default=20)
    parser.add_argument("--idle", type=int, default=10_000)
    told = parser.parse_args()
    suit_the_collector()
    with RabbitMQServer() as rabbitmq, RedisServer() as redis:
        for idle in (0, told.idle):
            print(json.dumps(trio.run(measure, rabbitmq, redis, told.seconds, told.ticking, idle)), flush=True)


if __name__ == "__main__":
    main()
