"""`milvaion-trio run`: serve a worker until it is told to leave."""

from functools import partial
from typing import Annotated

import trio
from attrs import evolve
from cyclopts import Parameter

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.logging_setup import LogFormat, LogLevelName, set_up_logging
from milvaion_trio.cli.narration import remark
from milvaion_trio.cli.options import ConfigOption, WorkerArgument, load
from milvaion_trio.cli.terminal import error_console
from milvaion_trio.model import events
from milvaion_trio.worker import Worker

__all__ = ["run"]


def run(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    burst: Annotated[bool, Parameter(negative="", help="Leave when the queues are empty and all is reported.")] = False,
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
) -> int:
    """Serve a worker until it is told to leave.

    Where the settings name RabbitMQ, it joins that Milvaion cluster; else it runs on an embedded broker. RabbitMQ must
    answer within Worker:StartupConnectionTimeoutSeconds; without Redis it runs, and hears no cancel signals.

    SIGINT or SIGTERM drains: no more jobs are taken, the running ones may end. A second one cancels them; their
    messages go back to the queue. A third one leaves at once. Logs go to stderr.

    Exit codes: 0 drained, 1 the start failed, 2 the command line or the settings are wrong, 130 left at once.

        milvaion-trio run app.jobs:worker
        milvaion-trio run app.jobs:worker --config appsettings.json
        milvaion-trio run app.jobs:worker --burst --log-format json
    """
    set_up_logging(log_level, log_format)
    worker = load(target, config)
    budgets = {"drain_timeout": drain_timeout, "cleanup_timeout": cleanup_timeout, "flush_timeout": flush_timeout}
    given = {name: seconds for name, seconds in budgets.items() if seconds is not None}
    worker.settings = evolve(worker.settings, shutdown=evolve(worker.settings.shutdown, **given))
    if isinstance(worker.broker, EmbeddedBroker):
        error_console().print(
            "This worker runs on the embedded broker: its queues are in this process and end with it."
        )
    if log_format == "text":
        worker.observe(partial(_tell_leaving, worker.settings.shutdown.drain_timeout))
    suit_the_collector()
    trio.run(_serve_burst if burst else partial(Worker.serve, handle_signals=True), worker)
    return ExitCode.DONE


def _tell_leaving(drain_timeout: float, event: events.Event) -> None:
    """Say to who pressed Ctrl-C how long it may take, and what a second one does."""
    if isinstance(event, events.ShutdownBegan) and event.running and not event.hard:
        words = remark(event, drain_timeout)
        error_console().print("" if words is None else words.text)


async def _serve_burst(worker: Worker) -> None:
    """Serve until nothing is left to do."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.serve, handle_signals=True))
        await worker.idle()
        worker.drain()
