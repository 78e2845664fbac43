"""What a job costs in a cluster: the whole worker on a private RabbitMQ, through aio-pika.

    python -m benchmarks.rabbitmq [--jobs 3000] [--in-flight 100] [--rounds 5]

A backlog of no-op jobs, each decoded, admitted, run, reported (Running and Completed, both persistent and confirmed)
and acked. Broker and worker share the machine. Each round has a virtual host and a worker process of its own; nobody
reads the statuses meanwhile. The median of the rounds counts, the spread is shown, and beside them what the bare
connection does in the same process: the same number of messages published and confirmed, then consumed and acked.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import trio
from tests.support.servers import HOST, RabbitMQServer

from milvaion_trio import JobSettings, Worker, WorkerSettings
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.events import Event, JobConcluded
from milvaion_trio.model.settings import RabbitMQSettings, ReportingSettings, ShutdownSettings
from milvaion_trio.ports import Queue, Topology
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.dispatching import Destination, dispatch_message

BATCH = 500


async def fill(broker: RabbitMQBroker, publications: list[Publication]) -> None:
    async with broker.publishing() as publisher:
        for first in range(0, len(publications), BATCH):
            await publisher.publish(publications[first : first + BATCH])


async def bare(broker: RabbitMQBroker, to: Destination, count: int) -> dict[str, float]:
    """The connection alone, with messages as large as those of the jobs."""
    message = dispatch_message(to, None).message
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(queues=[Queue("bare")]))
        wall, cpu = time.perf_counter(), time.process_time()
        await fill(broker, [Publication(message, "bare")] * count)
        async with consumer.consume("bare", prefetch=100) as deliveries:
            for _ in range(count):
                (deliveries.receive_nowait() or await deliveries.receive()).ack()
        seconds = time.perf_counter() - wall
        return {
            "bare_messages_per_second": count / seconds,
            "bare_cpu_us_per_message": (time.process_time() - cpu) / count * 1e6,
        }


def one_round(port: int, vhost: str, jobs: int, in_flight: int) -> dict[str, float]:
    settings = WorkerSettings(
        worker_id="bench",
        max_parallel_jobs=in_flight,
        rabbitmq=RabbitMQSettings(host=HOST, port=port, virtual_host=vhost),
        reporting=ReportingSettings(local_occurrences=True),
        shutdown=ShutdownSettings(drain_timeout=0.0),
        job_defaults=JobSettings(max_parallel=in_flight),
    )
    to = Destination(worker_id="bench", job_name="Bench", pattern=topology.routing_pattern("bench", "Bench"))
    ended = trio.Event()
    concluded = 0

    def count(event: Event) -> None:
        nonlocal concluded
        concluded += isinstance(event, JobConcluded)
        if concluded == jobs:
            ended.set()

    worker = Worker(settings=settings, observers=(count,))

    @worker.job("Bench")
    async def bench() -> None:
        pass

    async def main() -> dict[str, float]:
        assert isinstance(worker.broker, RabbitMQBroker)
        connection = await bare(worker.broker, to, jobs)
        worker.prepare()
        async with worker.broker.consuming() as consumer:
            await consumer.declare(topology_of(worker.registry.jobs))
        await fill(worker.broker, [dispatch_message(to, None) for _ in range(jobs)])
        suit_the_collector()
        wall, cpu = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.serve)
            await ended.wait()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            nursery.cancel_scope.cancel()
        return {"jobs_per_second": jobs / wall, "cpu_us_per_job": cpu / jobs * 1e6, **connection}

    return trio.run(main)


def in_fresh_process(server: RabbitMQServer, jobs: int, in_flight: int) -> dict[str, float]:
    arguments = [str(server.port), server.new_vhost(), str(jobs), str(in_flight)]
    command = [sys.executable, "-m", "benchmarks.rabbitmq", "--one", *arguments]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        port, vhost, jobs, in_flight = options.one
        print(json.dumps(one_round(int(port), vhost, int(jobs), int(in_flight))))
        return
    with RabbitMQServer() as server:
        rounds = [in_fresh_process(server, options.jobs, options.in_flight) for _ in range(options.rounds)]
    print(
        f"{options.jobs} no-op jobs, {options.in_flight} in flight, median of {options.rounds} rounds (least to most):"
    )
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(
            f"  {name.replace('_', ' ')}: {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        )


if __name__ == "__main__":
    main()
