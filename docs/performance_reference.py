"""What pages show of the runs that are kept: the tables of the last one, and what it was run on.

Separate from the runs, which need servers and the peers; here only `benchmarks/history.json` is read.
"""

from collections.abc import Mapping

from benchmarks.peers import tables
from benchmarks.peers.figures import Figure
from benchmarks.peers.history import Row, Run, read

__all__ = [
    "facts",
    "comparison_table",
    "growth_tables",
    "last_run",
    "latency_table",
    "ratios_list",
    "remarks_list",
    "resting_table",
    "summary_table",
    "throughput_table",
]

NOTHING = "No run is kept yet: `make bench` plays one."

CPU = "worker_cpu_us"
REPORTED, UNREPORTED = "ours-reported-amqp", "ours-unreported-amqp"

AFTER = {
    "jobs in flight": "A hundred no-op jobs at a time, among sleeping ones that make up the rest; reported, "
    "and before the first heartbeats of those that sleep are due.",
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


def summary_table() -> str:
    """For whom a few figures do."""
    run = last_run()
    if run is None:
        return NOTHING
    rows = {row.name: row for row in run.rows}
    reported, reported_on_quorum = _speed(rows.get(REPORTED)), _speed(rows.get(f"{REPORTED}-quorum"))
    unreported, unreported_on_quorum = _speed(rows.get(UNREPORTED)), _speed(rows.get(f"{UNREPORTED}-quorum"))
    lines = [
        ("what", "measured"),
        ("---", "---"),
        (
            "reported jobs per second: Running and Completed persistent and confirmed, outbox on disk, acked last",
            f"{reported}; {reported_on_quorum} on quorum queues",
        ),
        (
            'unreported jobs per second (`reporting.mode = "none"`)',
            f"{unreported}; {unreported_on_quorum} on quorum queues",
        ),
    ]
    for what, keeps_states in (
        ("the fastest peer, which reports nothing", False),
        ("the fastest that keeps states", True),
    ):
        peer = tables.best_peer(run, rows[REPORTED], keeps_states=keeps_states) if REPORTED in rows else None
        lines.append((f"{what}: {peer.title}" if peer is not None else what, _speed(peer)))
    waits = [_shown(rows[name].latency, "p50_ms") if name in rows else "?" for name in (REPORTED, UNREPORTED, "echo")]
    lines.append(
        (
            "from publish to the job's first line, worker idle",
            "{} ms reported, {} ms unreported; a bare socket takes {} ms".format(*waits),
        )
    )
    alone, beside = run.rest.get("without Redis", {}), run.rest.get("with Redis", {})
    at_rest = f"{_shown(alone, 'rest_mb')} MB, {_shown(beside, 'rest_mb')} MB with Redis"
    lines.append(("at rest", f"{at_rest}; first job {_shown(alone, 'start_seconds')} s after the process began"))
    return "\n" + "\n".join(f"| {what} | {measured} |" for what, measured in lines) + "\n"


def comparison_table() -> str:
    """Workers of one process with all cores, the fastest first."""
    run = last_run()
    if run is None:
        return NOTHING
    rows = [
        row
        for row in run.rows
        if row.throughput
        and (row.processes, row.is_on_one_core) == (1, False)
        and (row.is_peer or row.name in (REPORTED, UNREPORTED))
    ]
    lines = ["| | jobs per second | CPU per job, us |", "| --- | --- | --- |"]
    for row in sorted(rows, key=lambda row: -row.throughput[tables.RATE].median):
        mark = "" if row.is_peer else "**"
        cells = (row.title, *(f"{row.throughput[name].median:,.0f}" for name in (tables.RATE, CPU)))
        lines.append(f"| {' | '.join(f'{mark}{cell}{mark}' for cell in cells)} |")
    return "\n" + "\n".join(lines) + "\n"


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


def _speed(row: Row | None) -> str:
    if row is None or not row.throughput:
        return "not measured"
    return f"{_shown(row.throughput, tables.RATE)} at {_shown(row.throughput, CPU)} us of CPU"


def _shown(figures: Mapping[str, Figure], name: str) -> str:
    return tables.shown(figures.get(name))
