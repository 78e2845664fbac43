"""What the page about performance shows of the runs that are kept: the tables of the last one, and what it was run on.

Separate from the runs, which need servers and the peers; here only `benchmarks/history.json` is read.
"""

from benchmarks.peers import tables
from benchmarks.peers.history import Run, read

__all__ = [
    "facts",
    "growth_tables",
    "last_run",
    "latency_table",
    "ratios_list",
    "remarks_list",
    "resting_table",
    "throughput_table",
]

NOTHING = "No run is kept yet: `make bench` plays one."

AFTER = {
    "jobs in flight": "A hundred no-op jobs at a time, among sleeping ones that make up the rest; reported. "
    "Of the heartbeats, one a minute for each that sleeps, the first are not due yet.",
    "bytes of data": "No-op jobs with that much data; the whole message is a little larger.",
    "jobs in the queue": "The beginning of a backlog, at most its first 10,000 jobs.",
    "runs at a time": "No-op jobs with a larger `max_parallel`, and so more messages that wait for confirms.",
    "ms until Running": "No-op jobs, of which only the end is told if they end within `running_after`.",
    "processes": "Jobs that compute for 5 ms each, counted once all processes run them.",
    "sleeping jobs": "All of them running; then the worker is told to leave at once.",
}
"""What a series is, by its name."""


def last_run() -> Run | None:
    """The run that the page shows."""
    runs = read()
    return runs[-1] if runs else None


def facts() -> str:
    """When, on what, how often, with which versions."""
    run = last_run()
    if run is None:
        return NOTHING
    known = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return "\n".join(
        [
            "",
            f"- {run.date}, {run.cores} cores of {run.cpu}, shared by broker, worker and measuring program.",
            f"- {run.rounds} rounds in turn, of {run.jobs:,} jobs for the fast workers and fewer for the slow ones.",
            f"- Versions: {known}.",
            "",
        ]
    )


def throughput_table() -> str:
    """Jobs per second and what they cost."""
    run = last_run()
    return NOTHING if run is None else f"\n{tables.throughput(run)}\n"


def ratios_list() -> str:
    """Our rows as multiples of others."""
    run = last_run()
    return NOTHING if run is None else f"\n{tables.ratios(run)}\n"


def latency_table() -> str:
    """How long a job waits for an idle worker."""
    run = last_run()
    return NOTHING if run is None else f"\n{tables.latency(run)}\n"


def growth_tables() -> str:
    """A table for each series, with what it is."""
    run = last_run()
    if run is None:
        return NOTHING
    names = dict.fromkeys(point.series for point in run.points)
    return "\n" + "\n\n".join(f"{AFTER[name]}\n\n{tables.growth(run, name)}" for name in names) + "\n"


def resting_table() -> str:
    """What a worker takes that has nothing to do."""
    run = last_run()
    return NOTHING if run is None else f"\n{tables.resting(run)}\n"


def remarks_list() -> str:
    """Rounds that gave no figures, with the reason, and what else is odd: nothing is left out silently."""
    run = last_run()
    if run is None:
        return NOTHING
    told = tables.remarks(run)
    return f"\n{told}\n" if told else "Every round of this run gave figures, and nothing was odd."
