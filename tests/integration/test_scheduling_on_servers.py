"""Schedules on RabbitMQ and Redis: several workers, each tick once and at its time, whoever leads."""

import time
from collections import Counter

import trio
from tests.support.amqp import connect
from tests.support.cluster import Cluster, cluster, serving

from milvaion_trio import JobContext, Worker
from milvaion_trio.model import headers, topology

PERIOD = 0.2
LATE = 2.0
"""Seconds, on a machine that has more to do; `benchmarks.scheduling` measures it on one that has not."""


def scheduled_worker(here: Cluster, runs: list[str]) -> Worker:
    """One of several that share their schedules; it notes what ran."""
    worker = here.worker()

    @worker.every(PERIOD, overlap="allow")
    @worker.job("Tidy", max_parallel=20)
    async def tidy(ctx: JobContext) -> None:
        runs.append(ctx.occurrence_id)

    return worker


async def test_each_tick_runs_once_on_whichever_worker_and_whoever_leads() -> None:
    """Two workers, of which the one that leads leaves in the middle; copies go to who asks for them."""
    runs: list[str] = []
    ticks: list[int] = []
    late: list[float] = []
    with trio.fail_after(60):
        async with cluster() as here, connect(here.rabbitmq.port, here.vhost) as client:
            await client.declare_exchange(topology.JOBS_EXCHANGE)
            await client.declare_queue("copies")
            await client.bind("copies", topology.JOBS_EXCHANGE, "#")
            copies = await client.consume("copies", no_ack=True)

            async def until_more(count: int) -> None:
                for _ in range(count):
                    message = await copies.receive()
                    tick = int(str(message.headers[headers.TICK][1]))
                    ticks.append(tick)
                    late.append(time.time() - tick / 1000)

            async with serving(scheduled_worker(here, runs)) as leader:
                await until_more(2)
                async with serving(scheduled_worker(here, runs)):
                    await until_more(4)
                    leader.drain()
                    await until_more(10)

    first = min(ticks)
    assert sorted(set(ticks)) == [first + round(number * PERIOD * 1000) for number in range(len(set(ticks)))]
    assert max(Counter(runs).values()) == 1
    assert len(runs) >= len(set(ticks)) - 1
    assert max(late) < LATE
