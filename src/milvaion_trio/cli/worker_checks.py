"""What `check` and `config check` find in a worker without asking anybody: its settings and its jobs."""

from collections.abc import Iterator

from milvaion_trio.cli.findings import Area, Finding, Verdict
from milvaion_trio.cli.schedule_rows import when_of, words_of
from milvaion_trio.configuration import LOOKED_FOR, Resolved
from milvaion_trio.configuration.spelling import respelled, spelled
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.signals.redis import RedisSignals
from milvaion_trio.worker import Worker

__all__ = ["look_at_jobs", "look_at_settings"]


def look_at_settings(worker: Worker, *, has_notes: bool = False) -> Iterator[Finding]:
    """Read them all, addresses of servers too; with notes, also what has no effect and is missed by nobody."""
    resolved: Resolved | None = None
    redis_notes: tuple[str, ...] = ()
    try:
        resolved = worker.read_settings()
        worker.settings = resolved.settings
        # Made, not connected: this reads the addresses.
        _ = worker.broker
        redis_notes = worker.signals.take_notes() if isinstance(worker.signals, RedisSignals) else ()
    except SettingsError as error:
        if resolved is not None:
            error = respelled(error, resolved)
        warnings = error.warnings if resolved is None else resolved.warnings
        yield from (Finding(Area.SETTINGS, Verdict.FAILED, problem) for problem in error.problems)
        yield from (Finding(Area.SETTINGS, Verdict.WARNING, warning) for warning in warnings)
        return
    read = ", ".join(resolved.sources)
    text = f"read from {read}" if read else f"all from the code: nothing in the environment, no file ({LOOKED_FOR})"
    yield Finding(Area.SETTINGS, Verdict.OK, f"worker id {resolved.settings.worker_id}; {text}")
    notes = [spelled(note, resolved) for note in redis_notes]
    yield from (Finding(Area.SETTINGS, Verdict.WARNING, text) for text in (*resolved.warnings, *notes))
    if has_notes:
        yield from (Finding(Area.SETTINGS, Verdict.OK, note) for note in resolved.notes)


def look_at_jobs(worker: Worker) -> Iterator[Finding]:
    """Look everything up, as for serving; the settings come first."""
    try:
        worker.prepare()
    except SettingsError as error:
        yield from (Finding(Area.JOBS, Verdict.FAILED, problem) for problem in error.problems)
        return
    if not worker.registry.jobs:
        yield Finding(Area.JOBS, Verdict.WARNING, "there are none: decorate a function with @worker.job()")
    for job in worker.registry.jobs:
        yield Finding(Area.JOBS, Verdict.OK, f"{job.name}, from {job.queue}")
    for schedule in worker.schedules:
        yield Finding(Area.SCHEDULES, Verdict.OK, f"{schedule.id}: {schedule.job}, {words_of(when_of(schedule.when))}")
    yield from (Finding(Area.JOBS, Verdict.WARNING, warning) for warning in worker.warnings())
