"""`milvaion-trio run`: serve a worker until it is told to leave."""

import logging
import sys
from functools import partial
from typing import Annotated

import trio
from attrs import evolve
from cyclopts import Parameter

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.logging_setup import LogFormat, LogLevelName, set_up_logging
from milvaion_trio.cli.narration import remark
from milvaion_trio.cli.options import ConfigOption, SetOption, WorkerArgument, load, overrides
from milvaion_trio.cli.outbox_folders import left_behind, of_process, wait_for_leaving
from milvaion_trio.cli.processes import keep_running
from milvaion_trio.cli.reload import LifelineOption, ReloadDirOption, ReloadOption, reloading
from milvaion_trio.cli.terminal import error_console
from milvaion_trio.cli.tether import ANOTHER_WANTED, Tether, tethered
from milvaion_trio.logs import log_event
from milvaion_trio.model import events
from milvaion_trio.worker import Worker

__all__ = ["run"]

_log = logging.getLogger("milvaion_trio")


def run(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    burst: Annotated[
        bool,
        Parameter(negative="", help="Leave when the queues are empty, own retries are done, and all is reported."),
    ] = False,
    settings: SetOption = None,
    worker_id: Annotated[
        str | None, Parameter(metavar="NAME", help="The group of workers to join, whatever the settings say.")
    ] = None,
    max_parallel_jobs: Annotated[
        int | None, Parameter(metavar="COUNT", help="How many jobs may run at the same time [10].")
    ] = None,
    processes: Annotated[
        int | None, Parameter(metavar="COUNT", help="How many processes to keep running, 0 to serve in this one [0].")
    ] = None,
    max_jobs_per_process: Annotated[
        int | None, Parameter(metavar="COUNT", help="After how many jobs a process leaves, 0 for never [0].")
    ] = None,
    drain_timeout: Annotated[
        float | None, Parameter(metavar="SECONDS", help="How long running jobs may go on after the first signal [20].")
    ] = None,
    cleanup_timeout: Annotated[
        float | None, Parameter(metavar="SECONDS", help="How long cancelled jobs may clean up [5].")
    ] = None,
    flush_timeout: Annotated[
        float | None, Parameter(metavar="SECONDS", help="How long the last reports may take to the broker [3].")
    ] = None,
    log_level: Annotated[LogLevelName, Parameter(metavar="LEVEL", help="The least that is logged.")] = "info",
    log_format: Annotated[LogFormat, Parameter(metavar="FORM", help="Logs for people, or one object a line.")] = "text",
    reload: ReloadOption = False,
    reload_dir: ReloadDirOption = None,
    lifeline: LifelineOption = None,
    process: Annotated[int | None, Parameter(show=False, negative="")] = None,
    tether: Annotated[int | None, Parameter(show=False, negative="")] = None,
) -> int:
    """Serve a worker until it is told to leave.

    Where the settings name RabbitMQ, it joins that Milvaion cluster; else it runs on an embedded broker. RabbitMQ must
    answer within Worker:StartupConnectionTimeoutSeconds; without Redis it runs, and hears no cancel signals.

    SIGINT or SIGTERM drains: no more jobs are taken, the running ones may end. A second one cancels them; their
    messages go back to the queue. A third one leaves at once. Logs go to stderr.

    With --reload a supervisor runs the worker as a child process and watches the Python and the settings files. After
    a change the worker drains and starts again; one that cannot start waits for the next change. Signals are handed on,
    and the exit code is that of the last child.

    With --processes a supervisor, which runs no jobs, keeps so many processes running. One that dies is replaced, after
    a pause that grows with each death; one that has run --max-jobs-per-process jobs is replaced at once. Signals are
    handed on, and the exit code is the worst of theirs.

    Exit codes: 0 drained, 1 the start failed, 2 the command line or the settings are wrong, 130 left at once.

        milvaion-trio run app.jobs:worker
        milvaion-trio run app.jobs:worker --config appsettings.json
        milvaion-trio run app.jobs:worker --burst --log-format json
        milvaion-trio run app.jobs:worker --reload --reload-dir app
        milvaion-trio run app.jobs:worker --processes 4 --max-jobs-per-process 10000
    """
    if reload and processes:
        raise UsageError("--reload runs one process: leave --processes out while you change the code.")
    link = None if tether is None or process is None else tethered(tether)
    supervised = reloading(reload, reload_dir, config, lifeline)
    if supervised is not None:
        return supervised
    set_up_logging(log_level, log_format, process)
    options: dict[str, tuple[str, object]] = {
        "--worker-id": ("worker_id", worker_id),
        "--max-parallel-jobs": ("max_parallel_jobs", max_parallel_jobs),
        "--processes": ("processes", processes),
        "--max-jobs-per-process": ("max_jobs_per_process", max_jobs_per_process),
        "--drain-timeout": ("shutdown.drain_timeout", drain_timeout),
        "--cleanup-timeout": ("shutdown.cleanup_timeout", cleanup_timeout),
        "--flush-timeout": ("shutdown.flush_timeout", flush_timeout),
    }
    worker = load(target, config, overrides(settings, options))
    if link is not None and process is not None:
        return _serve_tethered(worker, link, process, burst=burst)
    for place, count in left_behind(worker.settings):
        words = "1 report waits" if count == 1 else f"{count} reports wait"
        _log.warning(
            "%s in %s, the outbox of a process that is not started; milvaion-trio outbox flush sends them", words, place
        )
    if worker.settings.processes and lifeline is None:
        return _supervise(worker, burst=burst)
    if worker.settings.max_jobs_per_process and (burst or lifeline is not None):
        _log.warning(
            "Worker:MaxJobsPerProcess has no effect with %s: nobody would run the jobs that are left",
            "--burst without --processes" if lifeline is None else "--reload",
        )
        worker.settings = evolve(worker.settings, max_jobs_per_process=0)
    if isinstance(worker.broker, EmbeddedBroker):
        text = "This worker runs on the embedded broker: its queues are in this process and end with it."
        if log_format == "text":
            error_console().print(text)
        else:  # on a stream that is JSON to its last line
            _log.warning("%s", text)
    if log_format == "text" and sys.stderr.isatty():
        _tell_leaving(worker)
    suit_the_collector()
    trio.run(_serve_burst if burst else partial(Worker.serve, handle_signals=True), worker)
    return ExitCode.DONE


def _supervise(worker: Worker, *, burst: bool) -> int:
    """Keep processes running; what is wrong with settings or jobs is said here, once, before there is one."""
    if worker.settings.rabbitmq is None and isinstance(worker.broker, EmbeddedBroker):
        raise UsageError(
            "--processes (Worker:Processes) shares the queues of RabbitMQ between processes, and no settings here name "
            "it: an embedded broker is in one process."
        )
    worker.prepare()
    return keep_running(worker.settings, burst=burst)


def _serve_tethered(worker: Worker, tether: Tether, process: int, *, burst: bool) -> int:
    """Serve as one of several processes; returns the exit code that tells the supervisor why it ended."""
    worker.settings = of_process(worker.settings, process)
    wait_for_leaving(worker.settings, lambda: tether.is_to_leave)
    if tether.is_to_leave:
        return ExitCode.DONE
    suit_the_collector()
    trio.run(partial(tether.serve, worker, burst=burst))
    return ANOTHER_WANTED if tether.is_spent else ExitCode.DONE


def _tell_leaving(worker: Worker) -> None:
    """Say to who pressed Ctrl-C, in place of the log line, how long it may take and what a second one does."""
    drain_timeout = worker.settings.shutdown.drain_timeout

    def log_or_tell(event: events.Event) -> None:
        if isinstance(event, events.ShutdownBegan) and event.running and not event.hard:
            words = remark(event, drain_timeout)
            error_console().print("" if words is None else words.text)
        else:
            log_event(event)

    worker.observers = tuple(log_or_tell if each is log_event else each for each in worker.observers)


async def _serve_burst(worker: Worker) -> None:
    """Serve until nothing is left to do."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.serve, handle_signals=True))
        await worker.idle()
        worker.drain()
