"""`milvaion-trio outbox`: what a worker on this machine still has to report, and sending it when no worker does."""

import time
from functools import partial
from typing import Annotated, TypeAlias

import trio
from attrs import evolve
from cyclopts import Parameter

from milvaion_trio.cli.cluster import Cluster, cluster_of, the_cluster
from milvaion_trio.cli.failures import CommandFailed, ExitCode, UsageError
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.cli.outbox_folders import of_all
from milvaion_trio.cli.terminal import error_console, output_console, table, write_json, write_line
from milvaion_trio.configuration.spelling import respelled, spelled
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

    It may be used while the worker runs. Nothing is changed. Those of all processes of the worker are shown.

        milvaion-trio outbox list --config appsettings.json
        milvaion-trio outbox list app.jobs:worker --json
    """
    from milvaion_trio.outbox.inspection import Contents, NoOutbox, look_into  # imports sqlite3

    if limit < 0:
        raise UsageError(f"--limit is {limit}; it must be 0 or more.")
    own = _cluster(target, config, settings).settings
    everywhere = of_all(own)
    found: list[tuple[str, Contents]] = []
    for _, each in everywhere:
        place = outbox_place(each)
        try:
            contents = look_into(place, limit - sum(len(contents.first) for _, contents in found))
        except NoOutbox as error:
            raise CommandFailed(str(error)) from error
        if contents is not None:
            found.append((str(place), contents))
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
            "path": path,
        }
        for path, contents in found
        for each in contents.first
    ]
    if json:
        count = sum(contents.count for _, contents in found)
        paths = [path for path, _ in found]
        first = str(outbox_place(own))
        write_json({"path": first, "exists": first in paths, "waiting": count, "paths": paths, "reports": rows})
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
    for path, contents in found:
        shown_here = len(contents.first)
        more = "" if contents.count <= shown_here else f", of which {shown_here} are shown"
        error_console().print(f"{path}: {_reports(contents.count)} waiting{more}.")
    if not found:
        error_console().print(f"There is no outbox {outbox_place(own)} yet.")
    return ExitCode.DONE


def flush_outbox(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    patience: Annotated[
        float,
        Parameter(name="--timeout", metavar="SECONDS", help="Give up what of an outbox is not sent by then."),
    ] = 60.0,
) -> int:
    """Send what waits in the outbox of a worker that does not run: before its machine or its folder goes away, say.

    Of a worker with several processes, what is in the outboxes of all of them.

    A worker that runs sends it by itself, and so does one that starts. May be interrupted and repeated: a report that
    was just on its way may then arrive twice, with the same message id.

    Exits with 1 if reports are left.

        milvaion-trio outbox flush --config appsettings.json
    """
    cluster = _cluster(target, config, settings)
    everywhere = of_all(cluster.settings)
    if not everywhere:
        write_line("sent 0 reports")
        error_console().print(f"There is no outbox {outbox_place(cluster.settings)}.")
        return ExitCode.DONE
    sent = opened = 0
    problems: list[str] = []
    for _, settings_there in everywhere:
        place = outbox_place(settings_there)
        there = evolve(cluster, settings=settings_there)
        try:
            sent_there, left = run_interruptible(partial(_flush, there, patience))
        except LinkLost as lost:
            text = f"{cluster.name} cannot be used: {lost}. What was not sent is still in {place}."
            raise respelled(CommandFailed(text), cluster.resolved) from lost
        except SettingsError as error:
            problems.append(
                f"{spelled(error.problems[0], cluster.resolved)} If a worker runs, it sends them by itself."
            )
            continue
        opened += 1
        sent += sent_there
        if left:
            problems.append(f"{_reports(left)} could not be sent within {patience:g} s and stay in {place}.")
    if opened:
        write_line(f"sent {_reports(sent)}")
    if problems:
        raise CommandFailed("\n".join(problems))
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
        problem = "Worker:OfflineResilience:Enabled is false: this worker keeps its outbox in memory."
        raise respelled(SettingsError([problem]), cluster.resolved)
    return cluster


def _reports(count: int) -> str:
    return "1 report" if count == 1 else f"{count} reports"
