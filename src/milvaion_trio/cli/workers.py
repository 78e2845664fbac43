"""`milvaion-trio workers`: which groups and processes there are, as a monitor has heard of them."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.history_rows import moment
from milvaion_trio.cli.history_store import opened_history, settings_here
from milvaion_trio.cli.options import ConfigOption, SetOption, overrides
from milvaion_trio.cli.terminal import BAD, GOOD, QUIET, WAITING, error_console, output_console, table, write_json
from milvaion_trio.model.history import InstanceRecord, WorkerRecord
from milvaion_trio.model.ids import WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.policy.worker_tracking import INTERVALS

__all__ = ["workers"]

_COLOURS = {"alive": GOOD, "silent": WAITING, "lost": BAD, "stopped": QUIET}


def workers(
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """List the groups of workers, their jobs, and their processes: alive, silent, lost or stopped.

    A process is silent when two of its heartbeats are missing, and lost when three are. One that is gone is shown for
    a day. It reads what `milvaion-trio monitor` keeps; where none runs, everybody seems silent.

        milvaion-trio workers --json
    """
    with opened_history(settings_here(config, overrides(settings))) as store:
        groups, processes, name = store.workers(), store.instances(), store.name
    now = Instant.from_unix_ns(time.time_ns())
    known = {group.worker_id: group for group in groups}
    states = {each.instance_id: _state(each, known.get(each.worker_id), now) for each in processes}
    if json:
        facts = [
            {
                **_group_json(group),
                "instances": [
                    _process_json(each, states[each.instance_id])
                    for each in processes
                    if each.worker_id == group.worker_id
                ],
            }
            for group in (*groups, *_unregistered(processes, known))
        ]
        write_json({"store": name, "workers": facts})
        return ExitCode.DONE
    shown = table("Worker", "Process", "State", "Jobs now", "Last heard", "Host", "Version", "Knows")
    for group in (*groups, *_unregistered(processes, known)):
        own = [each for each in processes if each.worker_id == group.worker_id]
        shown.add_row(group.worker_id, "", "", "", "", "", group.version or "", ", ".join(group.job_types))
        for each in own:
            state = states[each.instance_id]
            at = moment(each.last_heartbeat)
            host = each.host_name or ""
            shown.add_row("", each.instance_id, Text(state, _COLOURS[state]), str(each.current_jobs), at, host)
    if shown.rows:
        output_console().print(shown)
    alive = sum(state == "alive" for state in states.values())
    error_console().print(f"{alive} of {len(states)} processes alive, in {name}.")
    return ExitCode.DONE


def _state(instance: InstanceRecord, worker: WorkerRecord | None, now: Instant) -> str:
    if instance.stopped_at is not None:
        return "stopped"
    if instance.lost_at is not None:
        return "lost"
    interval = 30.0 if worker is None else worker.heartbeat_interval
    silent = (now.utc_ticks - instance.last_heartbeat.utc_ticks) / 10_000_000
    return "alive" if silent <= (INTERVALS - 1) * interval else "silent"


def _unregistered(processes: Sequence[InstanceRecord], known: Mapping[WorkerId, WorkerRecord]) -> list[WorkerRecord]:
    """Groups of which a process was heard, and no registration."""
    first = {each.worker_id: each for each in reversed(processes) if each.worker_id not in known}
    return [WorkerRecord(worker_id=name, registered_at=each.last_heartbeat) for name, each in first.items()]


def _group_json(group: WorkerRecord) -> dict[str, object]:
    return {
        "worker_id": group.worker_id,
        "display_name": group.display_name,
        "registered_at": group.registered_at.text,
        "version": group.version,
        "max_parallel_jobs": group.max_parallel_jobs,
        "heartbeat_interval": group.heartbeat_interval,
        "is_external": group.is_external,
        "jobs": {name: group.routing_patterns.get(name) for name in group.job_types},
    }


def _process_json(instance: InstanceRecord, state: str) -> dict[str, object]:
    return {
        "instance_id": instance.instance_id,
        "state": state,
        "current_jobs": instance.current_jobs,
        "last_heartbeat": instance.last_heartbeat.text,
        "lost_at": None if instance.lost_at is None else instance.lost_at.text,
        "stopped_at": None if instance.stopped_at is None else instance.stopped_at.text,
        "host_name": instance.host_name,
        "ip_address": instance.ip_address,
    }
