"""Who is compared, how each is run, and what it leaves out in its run.

The settings are those that each project's documentation recommends for many short jobs: acknowledged after the run
where that is offered, no results kept, a prefetch of about a hundred, and one process, unless the row says otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from attrs import evolve, field, frozen

from milvaion_trio.model import topology

__all__ = ["DRIVERS", "ECHO", "SOCKETS", "Entry", "queue_of", "roster"]

PROGRAMS: Final = "benchmarks.peers.programs"
DRIVERS: Final = ("amqp", "aio-pika")
"""Of ours, the default first."""


def queue_of(job_name: str) -> str:
    """The queue of a job of ours."""
    return topology.queue_name(topology.routing_pattern("bench", job_name))


@frozen(kw_only=True)
class Entry:
    """One row."""

    name: str
    """For `--only` and in files."""
    title: str
    """For people."""
    program: str
    """Module in `programs`; with a count and a length on its command line it enqueues."""
    worker: tuple[str, ...]
    """The command line of the worker, after the interpreter."""
    leaves_out: str
    """What it does not do in this run."""
    peer: str = ""
    """The environment it needs; empty for our own."""
    processes: int = 1
    """That run jobs."""
    is_on_one_core: bool = False
    """Whether it may use one of the cores alone; the broker has all of them."""
    store: Literal["rabbitmq", "saq", "arq"] = "rabbitmq"
    queue: str = "bench"
    queue_type: Literal["classic", "quorum"] = "classic"
    """The default of the virtual host; what a peer asks for itself is over it."""
    share: float = 1.0
    """Of the jobs of a round, so that the slow take no longer than the fast."""
    has_latency: bool = False
    driver: str = ""
    is_reported: bool = False
    """Whether two reports are to be in `reports` for each job."""
    keeps_states: bool = False
    """Whether it keeps in Redis how each job ended, which is what a peer has for statuses."""
    reports: str = ""
    """The queue in which they are counted."""
    environment: Mapping[str, str] = field(factory=dict)


ECHO: Final = Entry(
    name="echo",
    title="bare consumer",
    program="echo",
    worker=("-m", f"{PROGRAMS}.echo"),
    leaves_out="everything: a socket that reads, marks and acknowledges",
    has_latency=True,
)
"""The floor for latency; not a worker."""


def _reporting_socket(queue_type: Literal["classic", "quorum"]) -> Entry:
    return Entry(
        name="socket" if queue_type == "classic" else "socket-quorum",
        title=f"bare socket that reports{'' if queue_type == 'classic' else ', quorum queues'}",
        program="reporting_socket",
        worker=("-m", f"{PROGRAMS}.reporting_socket"),
        leaves_out="everything but two confirmed reports for each message, acknowledged last",
        queue_type=queue_type,
        is_reported=True,
        reports="bench.reports",
    )


SOCKETS: Final = (_reporting_socket("classic"), _reporting_socket("quorum"))
"""What RabbitMQ gives to whoever reports; not workers."""


def roster(drivers: Sequence[str] = DRIVERS) -> tuple[Entry, ...]:
    """All rows, ours with these drivers, in the order of the table."""
    rows = (*(entry for driver in drivers for entry in _ours(driver)), *SOCKETS, NAIVE, *PEERS)
    return tuple(
        row for entry in rows for row in ([entry, _on_one_core(entry)] if entry.name in ON_ONE_CORE else [entry])
    )


ON_ONE_CORE: Final = ("ours-reported-amqp", "ours-unreported-amqp", "dramatiq", "dramatiq-states", "faststream")
"""Those that are run once more on one core: ours, and the two fastest peers of one process."""


def _on_one_core(entry: Entry) -> Entry:
    title = f"{entry.title}, on one core"
    return evolve(entry, name=f"{entry.name}-core", title=title, is_on_one_core=True, has_latency=False)


_OURS: Final = ("-m", "milvaion_trio", "run", f"{PROGRAMS}.ours:worker", "--log-level", "warning")


def _ours(driver: str) -> tuple[Entry, ...]:
    rows = []
    for is_reported in (True, False):
        for queue_type, processes in (("classic", 1), ("quorum", 1), ("classic", 2)):
            what = "reported" if is_reported else "unreported"
            words = [what, driver, *(["quorum"] if queue_type == "quorum" else []), *(["2"] if processes == 2 else [])]
            queues = ", quorum queues" if queue_type == "quorum" else ""
            rows.append(
                Entry(
                    name="-".join(["ours", *words]),
                    title=f"milvaion-trio, {driver}, {what}{queues}{', 2 processes' if processes == 2 else ''}",
                    program="ours",
                    worker=(*_OURS, *(("--processes", str(processes)) if processes > 1 else ())),
                    leaves_out="nothing: Running and the final status confirmed, outbox on disk, acknowledged last"
                    if is_reported
                    else "statuses; outbox on disk, acknowledged last",
                    processes=processes,
                    queue=queue_of("Bench"),
                    queue_type="quorum" if queue_type == "quorum" else "classic",
                    share=1.0 if driver == "amqp" else 0.5,
                    has_latency=(queue_type, processes) == ("classic", 1),
                    driver=driver,
                    is_reported=is_reported,
                    reports=topology.STATUS_QUEUE,
                )
            )
    return tuple(rows)


NAIVE: Final = Entry(
    name="naive",
    title="aio-pika over trio-asyncio, written plainly",
    program="naive",
    worker=("-m", f"{PROGRAMS}.naive"),
    leaves_out="outbox, limits, timeouts, reconnecting; Running and the final status confirmed, acknowledged last",
    share=0.3,
    has_latency=True,
)

_CELERY: Final = ("-m", "celery", "-A", f"{PROGRAMS}.celery_tasks", "worker", "--without-gossip", "--without-mingle")
_BARE: Final = "statuses, results; acknowledged late"


def _celery(name: str, title: str, *arguments: str, processes: int = 1, multiplier: int = 100, share: float) -> Entry:
    return Entry(
        name=name,
        title=title,
        program="celery_tasks",
        worker=(*_CELERY, "--loglevel", "WARNING", *arguments),
        leaves_out=_BARE,
        peer="celery",
        processes=processes,
        share=share,
        has_latency=processes == 1,
        environment={"BENCH_MULTIPLIER": str(multiplier)},
    )


def _dramatiq(processes: int) -> Entry:
    return Entry(
        name="dramatiq" if processes == 1 else "dramatiq-2",
        title=f"Dramatiq, {processes} x 8 threads",
        program="dramatiq_tasks",
        worker=("-m", "dramatiq", f"{PROGRAMS}.dramatiq_tasks", "-p", str(processes), "-t", "8"),
        leaves_out=_BARE,
        peer="dramatiq",
        processes=processes,
        has_latency=processes == 1,
        environment={"dramatiq_queue_prefetch": "100"},
    )


def _taskiq(processes: int) -> Entry:
    target = f"{PROGRAMS}.taskiq_tasks:broker"
    return Entry(
        name="taskiq" if processes == 1 else "taskiq-2",
        title=f"Taskiq, uvloop{', 2 processes' if processes == 2 else ''}",
        program="taskiq_tasks",
        worker=("-m", "taskiq", "worker", target, "-w", str(processes), "--log-level", "WARNING"),
        leaves_out=f"{_BARE}; its quorum queue",
        peer="taskiq",
        processes=processes,
        has_latency=processes == 1,
    )


def _keeping_states(entry: Entry, leaves_out: str) -> Entry:
    return evolve(
        entry,
        name=f"{entry.name}-states",
        title=f"{entry.title}, states in Redis",
        leaves_out=leaves_out,
        keeps_states=True,
        has_latency=False,
    )


_PREFORK: Final = _celery("celery", "Celery, prefork", "-c", "1", share=0.5)
_THREADS: Final = _celery("celery-threads", "Celery, 8 threads", "-P", "threads", "-c", "8", multiplier=12, share=0.5)

PEERS: Final = (
    _PREFORK,
    _keeping_states(_PREFORK, "a disk for its states; acknowledged late"),
    _THREADS,
    _keeping_states(_THREADS, "a disk for its states; acknowledged late"),
    _celery("celery-2", "Celery, prefork, 2 processes", "-c", "2", processes=2, multiplier=50, share=0.7),
    _dramatiq(1),
    _keeping_states(_dramatiq(1), "Running, a disk for its states; acknowledged late"),
    _dramatiq(2),
    _taskiq(1),
    _keeping_states(_taskiq(1), "Running, a disk for its states; acknowledged late; its quorum queue"),
    _taskiq(2),
    Entry(
        name="faststream",
        title="FastStream, uvloop",
        program="faststream_app",
        worker=("-m", "faststream", "run", f"{PROGRAMS}.faststream_app:app", "--log-level", "warning"),
        leaves_out="statuses, retries, time limits; acknowledged after the run",
        peer="faststream",
        has_latency=True,
    ),
    Entry(
        name="saq",
        title="SAQ, Redis",
        program="saq_settings",
        worker=("-m", "saq", f"{PROGRAMS}.saq_settings.settings"),
        leaves_out="statuses, results; Redis in memory alone",
        peer="saq",
        store="saq",
        share=0.4,
        has_latency=True,
    ),
    Entry(
        name="arq",
        title="arq, Redis",
        program="arq_settings",
        worker=(
            "-m",
            "arq",
            f"{PROGRAMS}.arq_settings.WorkerSettings",
            "--custom-log-dict",
            f"{PROGRAMS}.arq_settings.QUIET",
        ),
        leaves_out="statuses, results; Redis in memory alone; polls each half second",
        peer="arq",
        store="arq",
        share=0.2,
        has_latency=True,
    ),
)
