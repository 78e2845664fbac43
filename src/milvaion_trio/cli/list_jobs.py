"""`milvaion-trio list`: the jobs of a worker, as the worker itself will understand them."""

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.options import ConfigOption, SetOption, WorkerArgument, load, overrides
from milvaion_trio.cli.schedule_rows import when_of, words_of
from milvaion_trio.cli.terminal import QUIET, output_console, table, write_json
from milvaion_trio.policy.parameters import DataParameter
from milvaion_trio.runtime.registry import RegisteredJob
from milvaion_trio.worker import Worker

__all__ = ["list_jobs"]


def list_jobs(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON array, with numbers as numbers.")] = False,
) -> int:
    """List the jobs of a worker: how they run, which queue they take, what data they want, when they run by themselves.

    Schedules are those of the code and the settings; what else a cluster keeps, schedule list shows. Everything is
    looked up as for serving, so this also finds the mistakes that would stop the start.

        milvaion-trio list app.jobs:worker
        milvaion-trio list app.jobs:worker --json
    """
    worker = load(target, config, overrides(settings))
    worker.prepare()
    if json:
        write_json([_facts(job, worker) for job in worker.registry.jobs])
    else:
        _print_tables(worker)
    return ExitCode.DONE


def _facts(job: RegisteredJob, worker: Worker) -> dict[str, object]:
    effective = job.effective
    return {
        "name": job.name,
        "queue": job.queue,
        "routing_patterns": list(job.patterns),
        "run": job.definition.mode.value,
        "max_parallel": effective.max_parallel,
        "timeout": effective.timeout,
        "max_retries": effective.retry.max_retries,
        "base_retry_delay": effective.retry.base_delay,
        "data": _data_type(job.parameters.data),
        "schedules": [
            {"id": schedule.id, **when_of(schedule.when)} for schedule in worker.schedules if schedule.job == job.name
        ],
    }


def _print_tables(worker: Worker) -> None:
    """How the jobs run, where their messages come from, and when: side by side this fits no terminal."""
    jobs = worker.registry.jobs
    console = output_console()
    if not jobs:
        console.print(f"{worker.settings.worker_id} has no jobs. Decorate a function with @worker.job().")
        return
    policies = table("Job", "Runs as", "Parallel", "Timeout", "Retries", "Data")
    queues = table("Job", "Queue, and the routing patterns that lead to it")
    for job in jobs:
        effective, retry = job.effective, job.effective.retry
        policies.add_row(
            job.name,
            job.definition.mode.value,
            str(effective.max_parallel),
            "none" if effective.timeout is None else f"{effective.timeout:g} s",
            f"{retry.max_retries} from {retry.base_delay:g} s" if retry.max_retries else "none",
            _data_type(job.parameters.data) or "none",
        )
        queues.add_row(job.name, Text.assemble(job.queue, *[(f"\n{pattern}", QUIET) for pattern in job.patterns]))
    console.print(policies)
    console.print()
    console.print(queues)
    if not worker.schedules:
        return
    schedules = table("Schedule", "Job", "When")
    for schedule in worker.schedules:
        schedules.add_row(schedule.id, schedule.job, words_of(when_of(schedule.when)))
    console.print()
    console.print(schedules)


def _data_type(data: DataParameter | None) -> str | None:
    """The type's name as the job's author wrote it; `None` for a job without data."""
    if data is None:
        return None
    if data.annotation is object:
        return "any JSON"
    # A class is known by its name; anything composed, like `list[int]` or `Email | None`, writes itself.
    return data.annotation.__qualname__ if type(data.annotation) is type else str(data.annotation)
