"""A run as tables in Markdown, for the terminal and the documentation: medians, and the least and most beside."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.peers.figures import Figure
from benchmarks.peers.history import Point, Row, Run

__all__ = [
    "against_best_peer",
    "best_peer",
    "growth",
    "latency",
    "one_round",
    "ratios",
    "remarks",
    "resting",
    "shown",
    "throughput",
    "whole",
]

SERIES_COLUMNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "sleeping jobs": (
        ("resident_mb", "MB with all of them"),
        ("kb_per_job", "kB each"),
        ("left_seconds", "s until all are cancelled and the worker has left"),
        ("back_seconds", "s until RabbitMQ has all of them in the queue again"),
    ),
}
"""Of the series that are no throughput."""

RATE = "jobs_per_second"
OURS, PLAIN = "ours-", "naive"
"""How our rows begin, and the worker that does their work without ours."""

COST_COLUMNS = (
    (RATE, "jobs/s"),
    ("worker_cpu_us", "us of worker CPU"),
    ("broker_cpu_us", "us of broker CPU"),
    ("resident_mb", "MB"),
)


def shown(figure: Figure | None) -> str:
    """The median, and the least and most where there was more than one round."""
    if figure is None:
        return ""
    if figure.rounds == 1:
        return _number(figure.median)
    return f"{_number(figure.median)} ({_number(figure.least)} to {_number(figure.most)})"


def best_peer(run: Run, row: Row, *, keeps_states: bool = False) -> Row | None:
    """The peer that did most jobs a second with as many processes on as many cores, of all or of those with states."""
    place = row.processes, row.is_on_one_core
    known = [
        peer
        for peer in run.rows
        if peer.is_peer
        and (peer.processes, peer.is_on_one_core) == place
        and RATE in peer.throughput
        and (peer.keeps_states or not keeps_states)
    ]
    return max(known, key=lambda row: row.throughput[RATE].median, default=None)


def against_best_peer(run: Run, row: Row) -> float | None:
    """Its jobs per second as a multiple of those of the best peer with as many processes and cores."""
    best = best_peer(run, row)
    if best is None or RATE not in row.throughput:
        return None
    return row.throughput[RATE].median / best.throughput[RATE].median


def throughput(run: Run) -> str:
    """Who does how much at what cost, and what each leaves out."""
    lines = [_line("", *(title for _, title in COST_COLUMNS), "best peer = 1", "leaves out"), _line(*["---"] * 7)]
    for row in run.rows:
        if row.throughput:
            ratio = against_best_peer(run, row)
            cells = [shown(row.throughput.get(name)) for name, _ in COST_COLUMNS]
            lines.append(_line(row.title, *cells, "" if ratio is None else f"{ratio:.2f}", row.leaves_out))
    return "\n".join(lines)


def latency(run: Run) -> str:
    """How long a job waits for an idle worker, beside what the bare consumer takes, and how soon a worker is there."""
    floor = next((row.latency["p50_ms"].median for row in run.rows if row.name == "echo" and row.latency), None)
    head = ("", "p50 ms", "p99 ms", "p50, bare consumer = 1", "first job, s", "idle CPU, %", "MB at rest")
    lines = [_line(*head), _line(*["---"] * len(head))]
    for row in run.rows:
        if row.latency:
            ratio = "" if floor is None else f"{row.latency['p50_ms'].median / floor:.1f}"
            names = ("start_seconds", "idle_cpu_percent", "rest_mb")
            p50, p99 = shown(row.latency["p50_ms"]), shown(row.latency["p99_ms"])
            lines.append(_line(row.title, p50, p99, ratio, *(shown(row.latency.get(name)) for name in names)))
    return "\n".join(lines)


def ratios(run: Run) -> str:
    """Our rows against the best peer, which reports nothing; those that report against others that do, too.

    These are the best peer that keeps states, and the plain worker, which does the same work.
    In brackets what the ratio is at least and at most when the spreads of both are believed.
    """
    lines = []
    plain = next((row for row in run.rows if row.name == PLAIN and RATE in row.throughput), None)
    for row in run.rows:
        if not row.name.startswith(OURS) or RATE not in row.throughput:
            continue
        told = []
        if (best := best_peer(run, row)) is not None:
            told.append(f"{_times(row, best)} the best peer ({best.title})")
        if row.is_reported and (best := best_peer(run, row, keeps_states=True)) is not None:
            told.append(f"{_times(row, best)} the best one with states ({best.title})")
        if plain is not None and row.is_reported and row.processes == plain.processes and not row.is_on_one_core:
            told.append(f"{_times(row, plain)} the plain worker")
        if told:
            lines.append(f"- {row.title}: {', '.join(told)}.")
    return "\n".join(lines)


def remarks(run: Run) -> str:
    """What a reader must know of rounds that gave no figures, or gave them under other conditions than was meant."""
    told = [f"- {row.title}: {failure}" for row in run.rows for failure in row.failures]
    told += [f"- {point.value:,} {point.series}: {failure}" for point in run.points for failure in point.failures]
    told += [f"- {row.title}: {doubt}." for row in run.rows for doubt in _doubts(row)]
    return "\n".join(told)


def growth(run: Run, series: str) -> str:
    """One series: a line for each value."""
    columns = SERIES_COLUMNS.get(series, COST_COLUMNS)
    lines = [_line(series, *(title for _, title in columns)), _line(*["---"] * (len(columns) + 1))]
    for point in run.points:
        if point.series == series:
            cells = (
                [shown(point.figures.get(name)) for name, _ in columns] if point.figures else _failed(point, columns)
            )
            lines.append(_line(f"{point.value:,}", *cells))
    return "\n".join(lines)


def resting(run: Run) -> str:
    """What our worker takes that has nothing to do."""
    names = (("rest_mb", "MB"), ("idle_cpu_percent", "CPU, %"), ("start_seconds", "first job, s"))
    lines = [_line("", *(title for _, title in names)), _line(*["---"] * (len(names) + 1))]
    lines += [_line(what, *(shown(figures.get(name)) for name, _ in names)) for what, figures in run.rest.items()]
    return "\n".join(lines)


def whole(run: Run) -> str:
    """All that the run has."""
    parts = [f"{run.date}, {run.cpu}, {run.cores} cores, {run.rounds} rounds of {run.jobs:,} jobs at most"]
    if any(row.throughput for row in run.rows):
        parts += [throughput(run), ratios(run)]
    if any(row.latency for row in run.rows):
        parts.append(latency(run))
    parts += [growth(run, series) for series in dict.fromkeys(point.series for point in run.points)]
    if run.rest:
        parts.append(resting(run))
    return "\n\n".join(part for part in [*parts, remarks(run)] if part)


def one_round(figures: Mapping[str, float]) -> str:
    """What one round gave, for who watches."""
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in figures.items())


def _doubts(row: Row) -> Iterator[str]:
    left, killed = row.throughput.get("left_in_queue"), row.throughput.get("killed")
    if left is not None and left.most > 0:
        yield f"up to {left.most:,.0f} jobs that had run were in the queue again"
    if killed is not None:
        yield f"did not leave when it was asked to, in {killed.rounds} rounds"
    statuses, due = row.throughput.get("statuses_per_job"), _statuses_due(row)
    if statuses is not None and not statuses.least == statuses.most == due:
        yield f"{statuses.least:.2f} to {statuses.most:.2f} statuses for each job instead of {due:.0f}"


def _statuses_due(row: Row) -> float:
    """For each job: Running and the end, or the last state."""
    if row.is_reported:
        return 2.0
    return 1.0 if row.keeps_states else 0.0


def _times(row: Row, other: Row) -> str:
    ours, theirs = row.throughput[RATE], other.throughput[RATE]
    low, high = ours.least / theirs.most, ours.most / theirs.least
    return f"{ours.median / theirs.median:.2f} ({low:.2f} to {high:.2f}) times"


def _failed(point: Point, columns: Sequence[tuple[str, str]]) -> list[str]:
    return ["no figures", *[""] * (len(columns) - 1)] if point.failures else [""] * len(columns)


def _number(value: float) -> str:
    """As many digits as mean something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
