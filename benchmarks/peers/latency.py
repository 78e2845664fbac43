"""An idle worker that gets one job at a time: from a stamp right before the publish to the job's first line.

The publisher is the same socket for everybody, so no peer's client is in it. It begins with the start of the process:
one job waits already, and how long that takes is the start-up time; then the worker rests, which tells its idle CPU.
"""

import time

from benchmarks.peers import processes
from benchmarks.peers.figures import latencies_ms, percentile
from benchmarks.peers.roster import Entry
from benchmarks.peers.stage import Ground, Stage

__all__ = ["INTERVAL", "at_rest", "latency"]

INTERVAL = 0.05
"""Seconds between two jobs."""
SETTLING = 1.5
"""Seconds after the first job until the worker counts as idle."""
RESTING = 5.0
"""Seconds over which idle CPU is counted."""


def latency(ground: Ground, entry: Entry, jobs: int) -> dict[str, float]:
    """One round. Raises `RoundFailed`."""
    with ground.stage(entry) as stage:
        first, *posts = stage.store.posts(jobs + 1, stage.enqueue)
        first()
        measured = at_rest(stage, RESTING)
        published = []
        due = time.monotonic()
        for post in posts:
            published.append(time.monotonic_ns())
            post()
            due += INTERVAL
            time.sleep(max(0.0, due - time.monotonic()))
        stage.until(jobs + 1)
        waits = latencies_ms(published, sorted(stage.marks())[1 : jobs + 1])
    return {**measured, "p50_ms": percentile(waits, 0.5), "p99_ms": percentile(waits, 0.99)}


def at_rest(stage: Stage, resting: float) -> dict[str, float]:
    """Start the worker, for which one job waits; when it has run, see what the worker takes that has nothing to do."""
    stage.start()
    stage.until(1)
    started = (stage.marks()[0] - stage.started_ns) / 1e9
    time.sleep(SETTLING)
    cpu = processes.cpu_seconds(stage.family)
    time.sleep(resting)
    return {
        "start_seconds": started,
        "idle_cpu_percent": (processes.cpu_seconds(stage.family) - cpu) / resting * 100,
        "rest_mb": processes.resident_megabytes(stage.family),
    }
