"""`milvaion-trio scheduler`: turn schedules into runs beside the workers, until told to leave."""

import logging
import os
import secrets
import time
from contextlib import nullcontext
from typing import Annotated

import trio
from cyclopts import Parameter

from milvaion_trio.cli.cluster import Cluster, cluster_of, the_cluster
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.logging_setup import LogFormat, LogLevelName, set_up_logging
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.configuration import resolve
from milvaion_trio.configuration.contradictions import unheard
from milvaion_trio.external.schedules import ScheduleReports
from milvaion_trio.logs import log_event
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.schedule import Millis, Schedule
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.os_signals import cancelled_by_signals
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.runtime.timetable import Timetable
from milvaion_trio.scheduler.participation import taking_part
from milvaion_trio.scheduler.scheduler import Scheduler
from milvaion_trio.scheduler.telling import UNHEARD
from milvaion_trio.transports import broker_for, coordination_for, signals_for

__all__ = ["scheduler"]

NO_REDIS = (
    "The settings name no Redis (Worker:Redis:ConnectionString), and schedules are kept there, so that of several "
    "schedulers one dispatches each tick."
)

_log = logging.getLogger("milvaion_trio.scheduler")


def scheduler(
    target: Annotated[
        str | None,
        Parameter(name="MODULE:WORKER", help="A worker whose schedules are brought along, besides those of settings."),
    ] = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    log_level: Annotated[LogLevelName, Parameter(metavar="LEVEL", help="The least that is logged.")] = "info",
    log_format: Annotated[LogFormat, Parameter(metavar="FORM", help="Logs for people, or one object a line.")] = "text",
) -> int:
    """Dispatch what schedules say, for a cluster whose workers do not do it or not alone.

    Workers on RabbitMQ with Redis do this themselves, unless Worker:Scheduler:Enabled is false: of all that may, one
    leads, and another one takes over within Worker:Scheduler:Lease seconds when it falls silent. This one runs no jobs.
    It brings the schedules of the worker and of the settings along; those that others brought it dispatches too.

    SIGINT or SIGTERM ends it, and another one may lead at once. A third one leaves at once. Logs go to stderr, and say
    who leads.

    Exit codes: 0 told to leave, 1 the start failed, 2 the command line or the settings are wrong, 130 left at once.

        milvaion-trio scheduler --config appsettings.json
        milvaion-trio scheduler app.jobs:worker --config milvaion.toml
    """
    set_up_logging(log_level, log_format)
    cluster, schedules = _brought(target, config, settings)
    with cluster.own_words():
        if cluster.settings.redis is None:
            raise SettingsError([NO_REDIS])
        if problems := list(unheard(cluster.settings, is_embedded=False)):
            raise SettingsError(problems)
        suit_the_collector()
        trio.run(_run, cluster, schedules)
    return ExitCode.DONE


def _brought(target: str | None, config: ConfigOption, given: SetOption) -> tuple[Cluster, tuple[Schedule, ...]]:
    """The cluster, and the schedules of the worker or of the settings alone."""
    if target is not None:
        worker = load(target, config, overrides(given))
        cluster = cluster_of(target, worker)
        if cluster.settings.redis is None:  # which a worker without schedules would not miss
            raise SettingsError([NO_REDIS])
        worker.prepare()
        return cluster, worker.schedules
    cluster, timetable = the_cluster(config, overrides(given)), Timetable()
    resolved = resolve(WorkerSettings(), config=config, environ=os.environ, overrides=overrides(given))
    timetable.prepare(resolved.settings, None, resolved.schedules)
    return cluster, timetable.schedules


async def _run(cluster: Cluster, schedules: tuple[Schedule, ...]) -> None:
    """Run until a signal comes. If cancelled, another one may lead at once."""
    with cancelled_by_signals():
        try:
            await _take_part(cluster, schedules)
        except BaseExceptionGroup as group:
            raise sole(group) from None
    _log.info("scheduler stopped")


async def _take_part(cluster: Cluster, schedules: tuple[Schedule, ...]) -> None:
    """Bring schedules along and lead when it is its turn, until cancelled."""
    settings = cluster.settings
    holder = f"{settings.worker_id}-scheduler-{secrets.token_hex(4)}"
    coordination = coordination_for(settings)
    if coordination is None:
        raise SettingsError([NO_REDIS])
    broker = broker_for(settings, holder)
    startup = Startup(settings.startup_connection_timeout, trio.current_time())
    link = SupervisedLink("scheduler", broker.name, broker.publishing, Observers([log_event]), startup)
    reports = ScheduleReports(broker, settings, time.time_ns) if settings.scheduler.report else None
    leader = Scheduler(
        coordination=coordination,
        link=link,
        signals=signals_for(settings),
        holder=holder,
        lease=settings.scheduler.lease,
        clock_ns=time.time_ns,
        telling=UNHEARD if reports is None else reports,
    )
    expected = trio.Event()
    expected.set()
    async with nullcontext() if reports is None else reports.open(), coordination.open(), link.kept_up():
        async with taking_part(coordination.book, schedules, _now, leader, expected):
            _log.info("scheduler %s ready: it dispatches to %s, as %s says", holder, cluster.name, coordination.name)
            await trio.sleep_forever()


def _now() -> Millis:
    return time.time_ns() // 1_000_000
