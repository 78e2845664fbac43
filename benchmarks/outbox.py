"""What the outbox on disk costs: rows that are durable per second, and how fast a backlog is sent.

    python benchmarks/outbox.py [--rows 20000] [--backlog 200000] [--waiting 100] [--profile] [--json]

Durable: so many tasks write one row after the other, each waiting until its row is in the file, with `synchronous`
NORMAL and FULL. A row is a job's log (320 bytes), or the conclusion of an attempt: its final status and the mark that
it is concluded, of which only the status is counted, and which is sent and confirmed meanwhile by a broker that costs
nothing. Backlog: rows that an earlier process left, sent to the same broker; resident memory of the process at most.
Every round has a process and a file of its own; the median of the rounds counts, the spread is shown.
"""

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio
from attrs import define

from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.ports import Confirmation, Report, ReportKind

ROUNDS = 5
BODY = b"x" * 320
PAGE = 500
"""Rows of the backlog that are added in one pass of the scheduler."""
PROFILED = 15


@define
class FreeBroker:
    """Confirms at once."""

    async def publish(self, publications: Sequence[Publication]) -> list[Confirmation]:
        await trio.lowlevel.checkpoint()
        return [Confirmation.CONFIRMED] * len(publications)

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """It never is."""

    async def lost(self) -> str:
        await trio.sleep_forever()
        return "never"


def resident_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def outbox_in(folder: str, durability: str = "NORMAL") -> DiskOutbox:
    return DiskOutbox(OutboxFile(Path(folder) / "bench.outbox.db", durability, uuid.uuid4().hex))


def attempt() -> AttemptKey:
    return AttemptKey(OccurrenceId(str(uuid.uuid4())), "1775121301", 0, 0)


def report(kind: ReportKind, occurrence_id: OccurrenceId) -> Report:
    message = Message(
        body=BODY,
        message_id=f"{occurrence_id}:1775121301:0.0:final",
        correlation_id=occurrence_id,
        content_type="application/json",
    )
    return Report(kind, Publication(message, "job_status_updates_queue"), occurrence_id)


async def in_tasks(count: int, waiting: int, write: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Rows per second and CPU per row of so many tasks that write so many rows together."""

    async def one_after_the_other(task: int) -> None:
        for _ in range(count // waiting):
            await write(task)

    wall, cpu = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for task in range(waiting):
            nursery.start_soon(one_after_the_other, task)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = count // waiting * waiting
    return {"rows_per_second": rows / wall, "cpu_us_per_row": cpu / rows * 1e6}


async def logs(folder: str, rows: int, waiting: int, durability: str) -> dict[str, float]:
    outbox = outbox_in(folder, durability)
    journal = outbox._journal
    made = [report(ReportKind.LOG, attempt().occurrence_id) for _ in range(waiting)]

    async def write(task: int) -> None:
        outbox.add(made[task])
        batch = journal._gathering or journal._writing
        if batch is not None:
            await batch.tried.wait()

    async with outbox.open():
        return await in_tasks(rows, waiting, write)


async def conclusions(folder: str, rows: int, waiting: int, durability: str) -> dict[str, float]:
    outbox = outbox_in(folder, durability)

    async def write(_: int) -> None:
        key = attempt()
        await outbox.started(key)
        await outbox.conclude(key, [report(ReportKind.FINAL, key.occurrence_id)])

    async with outbox.open(), trio.open_nursery() as nursery:
        nursery.start_soon(outbox.deliver, FreeBroker())
        measured = await in_tasks(rows, waiting, write)
        nursery.cancel_scope.cancel()
    return measured


async def backlog(folder: str, rows: int) -> dict[str, float]:
    outbox = outbox_in(folder)
    lanes = [attempt().occurrence_id for _ in range(100)]
    async with outbox.open():
        began = time.perf_counter()
        for number in range(rows):
            outbox.add(report(ReportKind.LOG, lanes[number % 100]))
            if number % PAGE == 0:
                await outbox.started(attempt())
        await outbox.started(attempt())
        written = time.perf_counter() - began
    later, most = outbox_in(folder), 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident_megabytes())
            await trio.sleep(0.05)

    async with later.open(), trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        began, cpu = time.perf_counter(), time.process_time()
        nursery.start_soon(later.deliver, FreeBroker())
        await later.drained()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        nursery.cancel_scope.cancel()
    return {
        "written_per_second": rows / written,
        "rows_per_second": rows / seconds,
        "cpu_us_per_row": cpu / rows * 1e6,
        "megabytes": most,
    }


MEASURES: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {
    "logs": logs,
    "conclusions": conclusions,
    "backlog": backlog,
}


def one(what: str, *arguments: str, profiled: bool = False) -> dict[str, float]:
    """A round, in this process."""
    suit_the_collector()
    with tempfile.TemporaryDirectory(prefix="mtrio-bench-") as folder:
        told = [int(word) if word.isdigit() else word for word in arguments]
        if not profiled:
            return trio.run(MEASURES[what], folder, *told)
        with cProfile.Profile() as profile:
            measured = trio.run(MEASURES[what], folder, *told)
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILED)
        return measured


def in_fresh_process(what: str, *arguments: int | str, profiled: bool = False) -> dict[str, float]:
    command = [sys.executable, __file__, *(["--profile"] if profiled else []), "--one", what, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {
        key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for key in rounds[0]
        for values in [[one[key] for one in rounds]]
    }


def shown(figure: dict[str, float], form: str = ",.0f") -> str:
    return f"{figure['median']:{form}} ({figure['min']:{form}} to {figure['max']:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--backlog", type=int, default=200_000)
    parser.add_argument("--waiting", type=int, default=100, help="tasks that wait for their rows")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--profile", action="store_true", help="one round of each, with the functions that take most")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, profiled=options.profile)))
        return
    cases: dict[str, tuple[int | str, ...]] = {
        "logs, NORMAL": ("logs", options.rows, options.waiting, "NORMAL"),
        "logs, FULL": ("logs", options.rows, options.waiting, "FULL"),
        "conclusions, NORMAL": ("conclusions", options.rows, options.waiting, "NORMAL"),
        "conclusions, FULL": ("conclusions", options.rows, options.waiting, "FULL"),
        "backlog": ("backlog", options.backlog),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(1 if options.profile else options.rounds):  # in turn, since the speed of a shared machine drifts
        for name, (what, *arguments) in cases.items():
            rounds[name].append(in_fresh_process(str(what), *arguments, profiled=options.profile))
    report = {name: summary(measured) for name, measured in rounds.items()}
    if options.json:
        print(json.dumps(report, indent=2))
        return
    played = len(rounds["backlog"])
    print(f"{options.rows} rows by {options.waiting} tasks that wait for the disk, median of {played} rounds:")
    for name, figures in report.items():
        if name != "backlog":
            print(f"  {name}: {shown(figures['rows_per_second'])} rows/s, {shown(figures['cpu_us_per_row'])} us of CPU")
    sent = report["backlog"]
    print(f"{options.backlog} rows of an earlier process, sent to a broker that costs nothing:")
    print(f"  {shown(sent['rows_per_second'])} rows/s, {shown(sent['cpu_us_per_row'])} us of CPU per row")
    print(f"  written at {shown(sent['written_per_second'])} rows/s, sent with {shown(sent['megabytes'])} MB resident")


if __name__ == "__main__":
    main()
