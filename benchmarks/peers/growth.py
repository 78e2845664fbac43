"""What becomes of the cost of a job as something grows: jobs in flight, data, backlog, processes. Our worker alone.

Each point is a worker of its own, and the points of a series are played in turn, round by round.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from attrs import evolve
from benchmarks.peers import processes
from benchmarks.peers.figures import steady_rate
from benchmarks.peers.latency import SETTLING, at_rest
from benchmarks.peers.roster import Entry, queue_of
from benchmarks.peers.stage import Ground, RoundFailed, Stage
from benchmarks.peers.stores import RabbitMQStore
from benchmarks.peers.throughput import between

__all__ = ["SERIES", "rest"]

BESIDE: Final = 100
"""Jobs in flight of those that are counted."""
LIVE: Final = (0.4, 0.9)
"""What is counted where the beginning does not count: jobs that are enqueued while the worker runs all lie there when
the first two fifths ran, and all processes of a worker run."""
MOST_COUNTED: Final = 10_000
"""Of a backlog."""
FEWEST_STARTED: Final = 1_000
"""Sleeping jobs a second that are waited for."""
MOST_BYTES: Final = 64_000_000
"""Of one round's payloads."""

IN_FLIGHT: Final = (100, 1_000, 10_000, 100_000)
PAYLOADS: Final = (100, 1_000, 16_000, 64_000, 256_000)
BACKLOGS: Final = (1_000, 10_000, 100_000)
AT_ONCE: Final = (100, 200, 400, 800)
HELD_BACK: Final = (0, 50)
SLEEPERS: Final = (10_000,)
PROCESSES: Final = (1, 2)
COMPUTING: Final = 0.005
"""Seconds of CPU of each job, where more processes are to help: the broker is then not what limits them."""
FEWEST_COMPUTED: Final = 50
"""Of these jobs a second that are waited for."""
MOST_COMPUTED: Final = 2_000
RESTING: Final = 10.0

Round = Callable[[Ground, Entry, int, int], dict[str, float]]
"""Plays one point: the entry, the value that grows, the jobs of a round."""


def in_flight(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """A hundred jobs that do nothing at a time, among so many that sleep. Raises `RoundFailed`."""
    sleepers = value - BESIDE
    with ground.stage(entry, sleepers=sleepers) as stage:
        stage.deadline += sleepers / FEWEST_STARTED
        if sleepers:
            _put_to_sleep(stage)
            stage.fill(0)
            stage.start()
            stage.until(sleepers)
            time.sleep(SETTLING)
            stage.fill(jobs)
        else:
            stage.fill(jobs)
            stage.start()
        measured = between(stage, sleepers, jobs, *LIVE)
        measured["jobs_per_second"] = steady_rate(sorted(stage.marks())[sleepers : sleepers + jobs], *LIVE)
        stage.kill()  # given back one by one, the sleepers would keep the broker busy far into the next point
    return measured


def payload(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """Jobs with so many characters of data. Raises `RoundFailed`."""
    jobs = max(200, min(jobs, MOST_BYTES // value))
    with ground.stage(entry) as stage:
        stage.length = value
        return _worked_off(stage, jobs, jobs)


def backlog(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """The beginning of a backlog of so many. Raises `RoundFailed`."""
    with ground.stage(entry) as stage:
        return _worked_off(stage, value, min(value, jobs, MOST_COUNTED))


def at_once(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """So many runs at a time, and as many messages held. Raises `RoundFailed`."""
    with ground.stage(entry, in_flight=value) as stage:
        return _worked_off(stage, jobs, jobs)


def held_back(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """Running is told of jobs only that still run after so many milliseconds. Raises `RoundFailed`."""
    with ground.stage(entry, running_after=value / 1000) as stage:
        return _worked_off(stage, jobs, jobs)


def several_processes(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """So many processes of a worker whose jobs compute. Raises `RoundFailed`."""
    jobs = min(jobs, MOST_COMPUTED)
    entry = evolve(entry, worker=(*entry.worker, "--processes", str(value)))
    with ground.stage(entry, computing=COMPUTING) as stage:
        stage.deadline += jobs / FEWEST_COMPUTED
        stage.fill(jobs)
        stage.start()
        measured = between(stage, 0, jobs, *LIVE)
        measured["jobs_per_second"] = steady_rate(stage.marks()[:jobs], *LIVE)
        return measured


def sleeping(ground: Ground, entry: Entry, value: int, jobs: int) -> dict[str, float]:
    """So many jobs that sleep: memory of each, and seconds until a worker that was told to leave has left.

    Then it has cancelled and given back each of them; the broker may need longer to put them back into their queue.
    Raises `RoundFailed`, also when one of them does not come back.
    """
    with ground.stage(entry, sleepers=value) as stage:
        stage.fill(1)
        _declare_sleepers(stage)
        before = at_rest(stage, 1.0)["rest_mb"]
        _put_to_sleep(stage)
        stage.until(value + 1)
        time.sleep(SETTLING)
        resident = processes.resident_megabytes(stage.family)
        told = time.monotonic()
        if not stage.end():
            raise RoundFailed("it did not leave by itself")
        left = time.monotonic() - told
        store = stage.store
        assert isinstance(store, RabbitMQStore)
        queues = [queue_of(name) for name in stage.told.sleeping_jobs]

        def back() -> int:
            return sum(store.reported(queue) for queue in queues)

        if not processes.until(lambda: back() == value, stage.deadline, interval=0.1):
            raise RoundFailed(f"only {back()} of {value} jobs came back into their queue")
        return {
            "resident_mb": resident,
            "kb_per_job": (resident - before) * 1024 / value,
            "left_seconds": left,
            "back_seconds": time.monotonic() - told,
        }


SERIES: Final[Mapping[str, tuple[Round, Sequence[int]]]] = {
    "jobs in flight": (in_flight, IN_FLIGHT),
    "bytes of data": (payload, PAYLOADS),
    "jobs in the queue": (backlog, BACKLOGS),
    "runs at a time": (at_once, AT_ONCE),
    "ms until Running": (held_back, HELD_BACK),
    "processes": (several_processes, PROCESSES),
    "sleeping jobs": (sleeping, SLEEPERS),
}
"""What grows, how a point is played, and the points."""


def rest(ground: Ground, entry: Entry, has_redis: bool) -> dict[str, float]:
    """What a worker takes that has nothing to do, and how soon the first job runs. Raises `RoundFailed`."""
    with ground.stage(entry, redis_port=ground.redis.port if has_redis else 0) as stage:
        stage.fill(1)
        return at_rest(stage, RESTING)


def _put_to_sleep(stage: Stage) -> None:
    for name, count in stage.told.sleeping_jobs.items():
        _enqueue_sleepers(stage, name, count)


def _declare_sleepers(stage: Stage) -> None:
    for name in stage.told.sleeping_jobs:
        _enqueue_sleepers(stage, name, 0)


def _enqueue_sleepers(stage: Stage, name: str, count: int) -> None:
    """So many jobs of that name, whose queue is declared in any case."""
    stage.store.fill(count, partial(stage.enqueue, BENCH_JOB=name), queue_of(name))


def _worked_off(stage: Stage, queued: int, counted: int) -> dict[str, float]:
    stage.fill(queued)
    stage.start()
    measured = between(stage, 0, counted)
    measured["jobs_per_second"] = steady_rate(sorted(stage.marks())[:counted])
    return measured
