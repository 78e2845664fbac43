"""`milvaion-trio monitor`: keep what happens in a cluster, until told to leave."""

import contextlib
import logging
from typing import Annotated

import trio
from cyclopts import Parameter

from milvaion_trio.cli.cluster import Cluster, the_cluster
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.logging_setup import LogFormat, LogLevelName, set_up_logging
from milvaion_trio.cli.options import ConfigOption, SetOption, overrides
from milvaion_trio.history.choosing import history_for
from milvaion_trio.logs import log_event
from milvaion_trio.monitor import Monitor
from milvaion_trio.runtime.os_signals import cancelled_by_signals
from milvaion_trio.transports import broker_for, coordination_for

__all__ = ["monitor"]

_log = logging.getLogger("milvaion_trio.monitor")


def monitor(
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    beside_others: Annotated[
        bool,
        Parameter(
            negative="",
            help="Start although somebody else reads the same queues, a Milvaion API for instance: each then gets a "
            "part of the messages, and knows a part of what happened.",
        ),
    ] = False,
    log_level: Annotated[LogLevelName, Parameter(metavar="LEVEL", help="The least that is logged.")] = "info",
    log_format: Annotated[LogFormat, Parameter(metavar="FORM", help="Logs for people, or one object a line.")] = "text",
) -> int:
    """Keep the history of a cluster: occurrences with their logs, dead letters, workers.

    It takes the place of a Milvaion API: it reads the queues into which workers report, and gets a copy of every
    dispatch. What it reads is written to a file (Worker:Monitor:Store) or to MongoDB (Worker:Monitor:Mongodb), and
    acknowledged after that. The commands history, occurrences, workers, retry and dlq read it.

    One monitor per virtual host: it does not start where somebody else reads these queues. Workers report the jobs of
    clients only with Worker:Reporting:LocalOccurrences.

    SIGINT or SIGTERM ends it: what it has taken is written first. A third one leaves at once. Logs go to stderr.

    Exit codes: 0 told to leave, 1 the start failed, 2 the command line or the settings are wrong or somebody else
    reads, 130 left at once.

        milvaion-trio monitor --config appsettings.json
        milvaion-trio monitor --set rabbitmq.host=localhost --set monitor.store=history.db
    """
    set_up_logging(log_level, log_format)
    cluster = the_cluster(config, overrides(settings))
    suit_the_collector()
    with cluster.own_words():
        trio.run(_run, cluster, beside_others)
    return ExitCode.DONE


async def _run(cluster: Cluster, beside_others: bool) -> None:
    """Run until a signal comes. If cancelled, as the monitor."""
    settings = cluster.settings
    coordination = coordination_for(settings)
    watching = Monitor(
        broker=broker_for(settings, "milvaion-trio monitor"),
        store=history_for(settings),
        coordination=coordination,
        settings=settings.monitor,
        observers=(log_event,),
        startup_timeout=settings.startup_connection_timeout,
        beside_others=beside_others,
    )
    with cancelled_by_signals():
        async with contextlib.nullcontext() if coordination is None else coordination.open():
            async with trio.open_nursery() as nursery:
                await nursery.start(watching.run)
                _log.info("monitor ready: what is reported at %s is kept in %s", cluster.name, watching.store.name)
    _log.info("monitor stopped")
