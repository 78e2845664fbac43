"""What a job costs: the whole worker on the embedded broker, in one process, with nothing installed.

    python benchmarks/embedded.py [--run task] [--jobs 20000] [--in-flight 100] [--sleepers 10000] [--json]

Throughput: a backlog of no-op jobs, dispatched before the worker starts, each decoded, admitted, run, reported
(Running and Completed, both confirmed) and acked. One core: Trio is one thread. The median of the rounds counts, the
spread is shown. With another `--run` than task, the first tenth of the jobs is not counted, as threads, processes and
asyncio's loop start meanwhile; the CPU is that of the worker and of its job processes together.
Memory: jobs that sleep, resident memory of the process with all of them running; then all cancelled at once.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import trio

from milvaion_trio import JobSettings, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.model import topology
from milvaion_trio.model.settings import HeartbeatSettings, ReportingSettings, ShutdownSettings
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.definition import RunWord
from milvaion_trio.runtime.dispatching import Destination, dispatch_message

ROUNDS = 5


def resident_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def cpu_seconds() -> float:
    """Of this process and of its children that live, which are known to a hundredth of a second."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    stats = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)  # utime and stime, proc(5)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


async def asynchronous() -> None:
    pass


def plain() -> None:
    pass


def build(parallel: int) -> tuple[Worker, EmbeddedBroker, Destination]:
    broker = EmbeddedBroker(keep=100)
    settings = WorkerSettings(
        worker_id="bench",
        max_parallel_jobs=parallel,
        heartbeat=HeartbeatSettings(),
        reporting=ReportingSettings(local_occurrences=True),
        shutdown=ShutdownSettings(drain_timeout=0.0),
        job_defaults=JobSettings(max_parallel=parallel),
    )
    worker = Worker(settings=settings, broker=broker, observers=())
    return (
        worker,
        broker,
        Destination(worker_id="bench", job_name="Bench", pattern=topology.routing_pattern("bench", "Bench")),
    )


def throughput(jobs: int, in_flight: int, run: RunWord) -> dict[str, float]:
    """Jobs per second and CPU microseconds per job of one round."""
    worker, broker, to = build(in_flight)
    uncounted = 0 if run == "task" else jobs // 10
    begun, ended = trio.Event(), trio.Event()
    finals = 0

    def count(publication: object) -> None:
        nonlocal finals
        if getattr(publication, "routing_key", "") == topology.STATUS_QUEUE:
            message_id = publication.message.message_id  # type: ignore[attr-defined]  # a Publication
            if message_id.endswith(":final"):
                finals += 1
                if finals == uncounted:
                    begun.set()
                if finals == jobs:
                    ended.set()

    worker.job("Bench", run=run)(asynchronous if run in ("task", "asyncio") else plain)

    async def main() -> dict[str, float]:
        worker.prepare()
        broker.declare_nowait(topology_of(worker.registry.jobs))
        for _ in range(jobs):
            broker.publish_nowait(dispatch_message(to, None))
        broker.on_publish.append(count)
        # As `milvaion-trio run` does; it also keeps the collector out of the backlog, which in real life lies in the
        # broker's process.
        suit_the_collector()
        wall, cpu = time.perf_counter(), cpu_seconds()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.serve)
            if uncounted:
                await begun.wait()
                wall, cpu = time.perf_counter(), cpu_seconds()
            await ended.wait()
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            nursery.cancel_scope.cancel()
        counted = jobs - uncounted
        return {"jobs_per_second": counted / wall, "cpu_us_per_job": cpu / counted * 1e6}

    return trio.run(main)


def bare(jobs: int) -> dict[str, float]:
    """What Python and Trio alone take for a job: a task, a scope with a deadline, the JSON. It measures the machine."""
    body = dispatch_message(build(1)[2], None).message.body

    async def job() -> None:
        with trio.CancelScope(deadline=trio.current_time() + 60):
            json.loads(body)
            await trio.lowlevel.checkpoint()

    async def main() -> float:
        suit_the_collector()
        started = time.process_time()
        for _ in range(jobs // 100):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(job)
        return (time.process_time() - started) / (jobs // 100 * 100) * 1e6

    return {"cpu_us_per_job": trio.run(main)}


def sleepers(jobs: int) -> dict[str, float]:
    """Resident memory with so many jobs running, and how long it takes to cancel them all."""
    worker, broker, to = build(jobs)
    running = 0
    all_run = trio.Event()

    @worker.job("Bench", timeout=3600)
    async def bench() -> None:
        nonlocal running
        running += 1
        if running == jobs:
            all_run.set()
        await trio.sleep_forever()

    async def main() -> dict[str, float]:
        before = resident_megabytes()
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.serve)
            for _ in range(jobs):
                broker.publish_nowait(dispatch_message(to, None))
            await all_run.wait()
            await trio.sleep(0.2)  # their Running statuses leave meanwhile
            peak = resident_megabytes()
            started = time.perf_counter()
            nursery.cancel_scope.cancel()
        return {
            "megabytes": peak,
            "kilobytes_per_job": (peak - before) * 1024 / jobs,
            "cancel_seconds": time.perf_counter() - started,
        }

    return trio.run(main)


def in_fresh_process(what: str, *arguments: int | str) -> dict[str, float]:
    """A round in a process of its own, so that no round inherits the memory of the one before."""
    command = [sys.executable, __file__, "--one", what, *map(str, arguments)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=get_args(RunWord), default="task", help="where the no-op jobs run")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, help="unless given: 100, and with processes one per core")
    parser.add_argument("--sleepers", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, *words = options.one
        match what:
            case "throughput":
                jobs, in_flight, run = words
                print(json.dumps(throughput(int(jobs), int(in_flight), run)))
            case "bare":
                print(json.dumps(bare(int(words[0]))))
            case _:
                print(json.dumps(sleepers(int(words[0]))))
        return
    if options.in_flight is None:
        options.in_flight = (os.cpu_count() or 1) if options.run == "process" else 100
    rounds, bare_rounds = [], []
    for _ in range(ROUNDS):  # in turn, since the speed of a shared machine drifts
        rounds.append(in_fresh_process("throughput", options.jobs, options.in_flight, options.run))
        bare_rounds.append(in_fresh_process("bare", options.jobs)["cpu_us_per_job"])
    ratios = [one["cpu_us_per_job"] / bare for one, bare in zip(rounds, bare_rounds, strict=True)]
    report = {
        "python": platform.python_version(),
        "trio": trio.__version__,
        "run": options.run,
        "jobs": options.jobs,
        "in_flight": options.in_flight,
        "throughput": {
            key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for key in rounds[0]
            for values in [[one[key] for one in rounds]]
        },
        "bare_cpu_us_per_job": {
            "median": statistics.median(bare_rounds),
            "min": min(bare_rounds),
            "max": max(bare_rounds),
        },
        "times_bare": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
    }
    if options.run == "task":  # those sleep as tasks
        report["sleepers"] = {"jobs": options.sleepers, **in_fresh_process("sleepers", options.sleepers)}
    if options.json:
        print(json.dumps(report, indent=2))
        return
    speed, cost = report["throughput"]["jobs_per_second"], report["throughput"]["cpu_us_per_job"]
    print(f"Python {report['python']}, Trio {report['trio']}")
    print(f"{options.jobs} no-op jobs, run={options.run}, {options.in_flight} in flight, median of {ROUNDS} rounds:")
    print(f"  {speed['median']:,.0f} reported jobs/s ({speed['min']:,.0f} to {speed['max']:,.0f})")
    print(f"  {cost['median']:.0f} us of CPU per job ({cost['min']:.0f} to {cost['max']:.0f})")
    bare_cost, ratio = report["bare_cpu_us_per_job"], report["times_bare"]
    print(f"  {ratio['median']:.1f} times ({ratio['min']:.1f} to {ratio['max']:.1f}) a bare task that has a scope")
    print(
        f"  and does json.loads: {bare_cost['median']:.0f} us here ({bare_cost['min']:.0f} to {bare_cost['max']:.0f})"
    )
    if asleep := report.get("sleepers"):
        print(f"{options.sleepers} sleeping jobs:")
        print(f"  {asleep['megabytes']:.0f} MB of resident memory, {asleep['kilobytes_per_job']:.1f} kB per job")
        print(f"  all cancelled and back in their queue after {asleep['cancel_seconds']:.2f} s")


if __name__ == "__main__":
    main()
