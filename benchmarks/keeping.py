"""What a history costs: messages that are read, tracked and kept per second, and how soon questions are answered.

    python benchmarks/keeping.py [--occurrences 100000] [--mongodb mongodb://localhost/bench] [--rounds 3] [--json]

Each occurrence is dispatched, runs, writes three lines and ends: a dispatch, two statuses and a log message, decoded
and tracked as the monitor does, in batches of 500 messages of each kind: the ids of a batch are loaded, its rows and
lines are saved together, durable when that returns. One in fifty fails and leaves a dead letter. Then every question
that a command asks is asked twenty times. Without an address the history is a file. Every round has a process and a
history of its own; the median of the rounds counts, the spread is shown.
"""

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import define, field

from milvaion_trio.history.choosing import history_for
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.history import InstanceRecord, OccurrenceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import DeadLetter, JobMessage, LogEntry, LogRecord, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import MonitorSettings, WorkerSettings
from milvaion_trio.model.wire import (
    decode_dead_letter,
    decode_job,
    decode_logs,
    decode_status,
    encode_dead_letter,
    encode_job,
    encode_logs,
    encode_status,
)
from milvaion_trio.policy.keeping import dead_letter_read, lines_of
from milvaion_trio.policy.tracking import dispatched, heard_of, status_seen
from milvaion_trio.ports.history import HistoryStore, OccurrenceQuery, Rows

ROUNDS = 3
BATCH = 500
ASKED = 20
JOBS = 20
FAILING = 50
S = OccurrenceStatus
NOW = Instant.parse("2026-04-02T09:15:30.1234567Z")
JOB_ID = JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077")


@define(eq=False)
class Occurrence:
    """One and its messages."""

    number: int
    id: OccurrenceId = field(factory=lambda: OccurrenceId(str(uuid.uuid4())))

    @property
    def at(self) -> Instant:
        return NOW.plus(self.number / 100)

    @property
    def fails(self) -> bool:
        return self.number % FAILING == 0

    @property
    def name(self) -> str:
        return f"Job{self.number % JOBS}"

    def dispatch(self) -> bytes:
        data = '{"report":"daily","customer":1234567,"recipients":["somebody@example.org"]}'
        pattern = f"reports.{self.name.lower()}.*"
        job = JobMessage(id=JOB_ID, job_name_in_worker=self.name, job_data=data, routing_pattern=pattern)
        return encode_job(job)

    def status(self, status: S, **fields: Any) -> bytes:
        told = {"worker_id": WorkerId("reports"), "instance_id": InstanceId("reports-5f0c2a9b"), **fields}
        made = StatusUpdate(occurrence_id=self.id, job_id=JOB_ID, status=status, message_timestamp=self.at, **told)
        return encode_status(made)

    def running(self) -> bytes:
        return self.status(S.RUNNING, start_time=self.at)

    def end(self) -> bytes:
        times = {"start_time": self.at, "end_time": self.at.plus(1.5), "duration_ms": 1500}
        if self.fails:
            return self.status(S.FAILED, **times, exception="Type: ValueError\nMessage: no such customer\n")
        return self.status(S.COMPLETED, **times, result='{"rows":1234,"file":"daily-report.pdf"}')

    def log(self) -> bytes:
        entries = [
            LogEntry(
                timestamp=self.at, level="Information", message=f"step {step} of the report is done", data={"n": 1}
            )
            for step in range(3)
        ]
        told: dict[str, Any] = {"occurrence_id": self.id, "message_timestamp": self.at}
        return encode_logs(
            [LogRecord(log=entry, worker_id=InstanceId("reports-5f0c2a9b"), **told) for entry in entries], self.at
        )[0]

    def dead_letter(self) -> bytes:
        told: dict[str, Any] = {"display_name": self.name, "job_name_in_worker": self.name, "job_data": "{}"}
        return encode_dead_letter(
            DeadLetter(id=JOB_ID, status=S.FAILED, execute_at=self.at, exception="no such customer", **told)
        )


@define
class Batch:
    """What came in since the last one: three generations of occurrences."""

    dispatches: list[tuple[OccurrenceId, bytes]]
    statuses: list[bytes]
    logs: list[bytes]
    letters: list[tuple[OccurrenceId, bytes]]


def batches(occurrences: int) -> Iterator[Batch]:
    """Some are dispatched while those before them start and those before these end."""
    rest = iter([Occurrence(number) for number in range(occurrences)])
    new, begun = list(islice(rest, BATCH)), list[Occurrence]()
    ending: list[Occurrence] = []
    while new or begun or ending:
        yield Batch(
            [(one.id, one.dispatch()) for one in new],
            [one.running() for one in begun] + [one.end() for one in ending],
            [one.log() for one in ending],
            [(one.id, one.dead_letter()) for one in ending if one.fails],
        )
        new, begun, ending = list(islice(rest, BATCH)), new, begun


def keep(store: HistoryStore, batch: Batch, now: Instant) -> None:
    """As the monitor does."""
    jobs = [(id, decode_job(body)) for id, body in batch.dispatches]
    statuses = [decode_status(body) for body in batch.statuses]
    logs = [(decode_logs(body), body) for body in batch.logs]
    letters = [(id, decode_dead_letter(body), body) for id, body in batch.letters]
    ids = {id for id, _ in jobs} | {status.occurrence_id for status in statuses} | {id for id, _, _ in letters}
    ids |= {record.occurrence_id for logs_of, _ in logs for record in logs_of.logs}
    rows: dict[OccurrenceId, OccurrenceRecord] = dict(store.load(ids))
    for id, job in jobs:
        rows[id] = dispatched(rows.get(id), id, job, {}, None, now)
    for status in statuses:
        rows[status.occurrence_id] = status_seen(rows.get(status.occurrence_id), status, now)
    lines = [line for logs_of, body in logs for line in lines_of(logs_of, body)]
    for line in lines:
        rows[line.occurrence_id] = heard_of(rows.get(line.occurrence_id), line.occurrence_id, now)
    failures = [
        dead_letter_read(rows.get(id), id, letter, Message(body=body, headers={"x-retry-count": 3}), now)
        for id, letter, body in letters
    ]
    store.save(Rows(occurrences=rows.values(), lines=lines, failures=failures))


def questions(store: HistoryStore) -> dict[str, Callable[[], object]]:
    newest = store.find(OccurrenceQuery(limit=1000))
    somewhere, some = random.Random(5).choice(newest), newest[-1].id
    return {
        "newest 50": lambda: store.find(OccurrenceQuery()),
        "the next 50": lambda: store.find(OccurrenceQuery(after=some)),
        "of a job": lambda: store.find(OccurrenceQuery(job_name="JOB7")),
        "failed": lambda: store.find(OccurrenceQuery(statuses={S.FAILED})),
        "failed or timed out": lambda: store.find(OccurrenceQuery(statuses={S.FAILED, S.TIMED_OUT})),
        "failed of a job without any": lambda: store.find(OccurrenceQuery(job_name="Job7", statuses={S.FAILED})),
        "of no such worker": lambda: store.find(OccurrenceQuery(worker_id="nobody")),
        "completed, by a worker of all": lambda: store.find(
            OccurrenceQuery(worker_id="reports", statuses={S.COMPLETED}, until=NOW.plus(100))
        ),
        "lost, of a worker of all": lambda: store.find(OccurrenceQuery(worker_id="reports", statuses={S.UNKNOWN})),
        "one with its lines": lambda: (store.load([somewhere.id]), store.lines(somewhere.id)),
        "counts": store.counts,
        "dead letters": store.failures,
        "workers": lambda: (store.workers(), store.instances()),
        "unfinished": lambda: store.unfinished(NOW, 1000),
    }


def one(occurrences: int, mongodb: str) -> dict[str, float]:
    """A round, in this process."""
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="mtrio-bench-") as folder:
        path = Path(folder) / "history.db"
        address = f"{mongodb}-{uuid.uuid4().hex[:8]}" if mongodb else ""
        settings = WorkerSettings(worker_id="bench", monitor=MonitorSettings(store=str(path), mongodb=address))
        measured: dict[str, float] = {}
        with history_for(settings) as store:
            wall = cpu = 0.0
            for number, batch in enumerate(batches(occurrences)):  # made outside of what is measured
                began, used = time.perf_counter(), time.process_time()
                keep(store, batch, NOW.plus(number * BATCH / 100))
                wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - used
            measured["occurrences per second"] = occurrences / wall
            measured["us of CPU per occurrence"] = cpu / occurrences * 1e6
            workers = [WorkerRecord(worker_id=WorkerId(f"group-{n}"), registered_at=NOW) for n in range(20)]
            instances = [
                InstanceRecord(worker_id=w.worker_id, instance_id=InstanceId(f"{w.worker_id}-{n}"), last_heartbeat=NOW)
                for w in workers
                for n in range(20)
            ]
            store.save(Rows(workers=workers, instances=instances))
            if not mongodb:
                measured["bytes per occurrence"] = path.stat().st_size / occurrences
            for name, ask in questions(store).items():
                took = []
                for _ in range(ASKED):
                    began = time.perf_counter()
                    ask()
                    took.append((time.perf_counter() - began) * 1000)
                measured[f"ms: {name}"] = statistics.median(took)
                measured[f"ms at most: {name}"] = max(took)
            began = time.perf_counter()
            deleted = store.delete_before(NOW.plus(1e6), 1000)
            measured["ms: delete 1,000 old ones"] = (time.perf_counter() - began) * 1000
            assert deleted == min(1000, occurrences)
        return measured


def in_fresh_process(occurrences: int, mongodb: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", "--occurrences", str(occurrences), "--mongodb", mongodb]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--occurrences", type=int, default=100_000)
    parser.add_argument("--mongodb", default="", help="its address with the beginning of a database's name")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.occurrences, options.mongodb)))
        return
    rounds = [in_fresh_process(options.occurrences, options.mongodb) for _ in range(options.rounds)]
    report = {name: [each[name] for each in rounds] for name in rounds[0]}
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{options.occurrences} occurrences with three lines each, median of {len(rounds)} rounds (least to most):")
    for name, figures in report.items():
        print(f"  {name}: {statistics.median(figures):,.1f} ({min(figures):,.1f} to {max(figures):,.1f})")


if __name__ == "__main__":
    main()
