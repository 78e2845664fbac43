"""A backlog worked off: jobs per second, and what they cost the worker and the servers, between 10 % and 90 % of it."""

import time

from attrs import frozen
from benchmarks.peers import processes
from benchmarks.peers.figures import steady_rate
from benchmarks.peers.roster import Entry
from benchmarks.peers.stage import Ground, RoundFailed, Stage
from benchmarks.peers.stores import RabbitMQStore

__all__ = ["between", "throughput"]

ACKNOWLEDGING = 0.5
"""Seconds from the last mark until the worker is told to leave: what it does after a job is not cut off."""


@frozen
class _Reading:
    """Counters at one moment."""

    jobs: int
    worker: float
    server: float


def throughput(ground: Ground, entry: Entry, jobs: int) -> dict[str, float]:
    """One round. Raises `RoundFailed`."""
    with ground.stage(entry) as stage:
        stage.fill(jobs)
        stage.start()
        measured = between(stage, 0, jobs)
        marks = stage.marks()
        measured["jobs_per_second"] = steady_rate(marks[:jobs])
        measured["first_job_seconds"] = (min(marks) - stage.started_ns) / 1e9
        time.sleep(ACKNOWLEDGING)
        if not stage.end():
            measured["killed"] = 1.0
        # What is there now was not acknowledged, although it ran.
        measured["left_in_queue"] = float(stage.store.left())
        if entry.reports and isinstance(stage.store, RabbitMQStore):
            measured["statuses_per_job"] = stage.store.reported(entry.reports) / jobs
        if stage.states is not None:
            measured["statuses_per_job"] = stage.states.kept() / jobs
    return measured


def between(stage: Stage, before: int, jobs: int, begin: float = 0.1, end: float = 0.9) -> dict[str, float]:
    """CPU of each job between two fractions of these jobs, which come after those before, and the memory at the end."""
    stage.until(before + max(1, int(jobs * begin)))
    first = _read(stage)
    stage.until(before + int(jobs * end))
    last = _read(stage)
    resident = processes.resident_megabytes(stage.family)
    counted = last.jobs - first.jobs
    if counted <= 0:
        raise RoundFailed(f"{jobs} jobs were over before they could be counted")
    stage.until(before + jobs)
    return {
        "worker_cpu_us": (last.worker - first.worker) / counted * 1e6,
        "broker_cpu_us": (last.server - first.server) / counted * 1e6,
        "resident_mb": resident,
    }


def _read(stage: Stage) -> _Reading:
    return _Reading(stage.count, processes.cpu_seconds(stage.family), processes.cpu_seconds(stage.servers))
