"""`milvaion-trio outbox`: what a worker on this machine still has to report, and sending it when no worker does."""

import time
from functools import partial
from typing import Annotated, TypeAlias

import trio
from cyclopts import Parameter

from milvaion_trio.cli.cluster import Cluster, cluster_of, the_cluster
from milvaion_trio.cli.failures import CommandFailed, ExitCode, UsageError
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.cli.terminal import error_console, output_console, table, write_json, write_line
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.ports import Broker, Outbox
from milvaion_trio.transports import broker_for, outbox_for, outbox_place

__all__ = ["flush_outbox", "list_outbox"]

CONNECT_TIMEOUT = 5.0
"""Seconds to try for RabbitMQ."""

OptionalWorker: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="MODULE:WORKER", help="A worker whose settings say where the outbox is, instead of a settings file."
    ),
]


def list_outbox(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    limit: Annotated[int, Parameter(metavar="COUNT", help="Show so many of them, those that are sent next.")] = 20,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """List the reports that wait on this machine for the broker: statuses, logs, copies for a retry, dead letters.

    It may be used while the worker runs. Nothing is changed.

        milvaion-trio outbox list --config appsettings.json
        milvaion-trio outbox list app.jobs:worker --json
    """
    from milvaion_trio.outbox.inspection import NoOutbox, look_into  # imports sqlite3

    if limit < 0:
        raise UsageError(f"--limit is {limit}; it must be 0 or more.")
    place = outbox_place(_cluster(target, config, settings).settings)
    try:
        contents = look_into(place, limit)
    except NoOutbox as error:
        raise CommandFailed(str(error)) from error
    count, first = (0, ()) if contents is None else (contents.count, contents.first)
    now = time.time()
    rows = [
        {
            "number": each.number,
            "kind": each.report.kind.value,
            "occurrence_id": each.report.occurrence_id,
            "exchange": each.report.publication.exchange,
            "routing_key": each.report.publication.routing_key,
            "delay": each.report.publication.delay,
            "bytes": len(each.report.publication.message.body),
            "age": max(0, round(now - each.written_at)),
        }
        for each in first
    ]
    if json:
        write_json({"path": str(place), "exists": contents is not None, "waiting": count, "reports": rows})
        return ExitCode.DONE
    if rows:
        shown = table("Number", "Kind", "Occurrence", "To", "Bytes", "Age")
        for row in rows:
            to = "/".join(filter(None, (str(row["exchange"]), str(row["routing_key"]))))
            shown.add_row(
                str(row["number"]),
                str(row["kind"]),
                str(row["occurrence_id"] or ""),
                to,
                str(row["bytes"]),
                f"{row['age']} s",
            )
        output_console().print(shown)
    more = "" if count <= len(rows) else f", of which {len(rows)} are shown"
    error_console().print(
        f"{place}: {_reports(count)} waiting{more}." if contents is not None else f"There is no outbox {place} yet."
    )
    return ExitCode.DONE


def flush_outbox(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    patience: Annotated[
        float, Parameter(name="--timeout", metavar="SECONDS", help="Give up what could not be sent in that time.")
    ] = 60.0,
) -> int:
    """Send what waits in the outbox of a worker that does not run: before its machine or its folder goes away, say.

    A worker that runs sends it by itself, and so does one that starts. May be interrupted and repeated: a report that
    was just on its way may then arrive twice, with the same message id.

    Exits with 1 if reports are left.

        milvaion-trio outbox flush --config appsettings.json
    """
    cluster = _cluster(target, config, settings)
    place = outbox_place(cluster.settings)
    if not place.exists():
        write_line("sent 0 reports")
        error_console().print(f"There is no outbox {place}.")
        return ExitCode.DONE
    try:
        sent, left = run_interruptible(partial(_flush, cluster, patience))
    except LinkLost as lost:
        raise CommandFailed(f"{cluster.name} cannot be used: {lost}. What was not sent is still in {place}.") from lost
    except SettingsError as error:
        raise CommandFailed(f"{error.problems[0]} If a worker runs, it sends them by itself.") from error
    write_line(f"sent {_reports(sent)}")
    if left:
        raise CommandFailed(f"{_reports(left)} could not be sent within {patience:g} s and stay in {place}.")
    return ExitCode.DONE


async def _flush(cluster: Cluster, patience: float) -> tuple[int, int]:
    """Send all there is; how many were sent and how many are left. If cancelled, some may have been sent."""
    outbox = outbox_for(cluster.settings)
    broker = broker_for(cluster.settings, "milvaion-trio outbox flush", CONNECT_TIMEOUT)
    try:
        with trio.move_on_after(patience):
            async with outbox.open():
                await _send(outbox, broker)
    except BaseExceptionGroup as group:
        raise sole(group) from None
    numbers = outbox.statistics()
    return numbers.confirmed, numbers.pending


async def _send(outbox: Outbox, broker: Broker) -> None:
    """Send until nothing is left; raises `LinkLost`. If cancelled, the rest stays."""
    async with broker.publishing() as publisher, trio.open_nursery() as nursery:
        nursery.start_soon(outbox.deliver, publisher)
        await outbox.drained()
        nursery.cancel_scope.cancel()


def _cluster(target: str | None, config: ConfigOption, given: SetOption) -> Cluster:
    if target is None:
        cluster = the_cluster(config, overrides(given))
    else:
        cluster = cluster_of(target, load(target, config, overrides(given)))
    if not cluster.settings.offline_resilience.enabled:
        raise SettingsError(["Worker:OfflineResilience:Enabled is false: this worker keeps its outbox in memory."])
    return cluster


def _reports(count: int) -> str:
    return "1 report" if count == 1 else f"{count} reports"
