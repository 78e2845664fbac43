"""Where a command of a second terminal has its work done: by a dev worker, or in a cluster.

Separate from what is asked for, as all such commands find their way by the same rule.
"""

import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from milvaion_trio.cli.cluster import Cluster, find_cluster, the_cluster
from milvaion_trio.cli.control import Done
from milvaion_trio.cli.dev_client import folder_of_dev_worker
from milvaion_trio.cli.failures import CommandFailed, UsageError
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.sockets import NobodyListens, socket_place
from milvaion_trio.cli.terminal import error_console
from milvaion_trio.configuration import Override
from milvaion_trio.model.errors import SettingsError

__all__ = ["done_there"]


def done_there(
    socket: Path | None,
    config: Path | None,
    given: Sequence[Override],
    worker_id: str | None,
    in_dev: Callable[[Path], Awaitable[Done]],
    in_cluster: Callable[[Cluster], Awaitable[Done]],
    *,
    over_redis: bool = False,
) -> Done:
    """Have it done where the options say; where they say nothing, by the rule of `_found`.

    What is done `over_redis` alone names that as where it goes.
    """
    is_for_cluster = config is not None or worker_id is not None or bool(given)
    if socket is not None and is_for_cluster:
        raise UsageError("--socket leads to a dev worker; --config, --set and --worker-id to a cluster: choose one.")
    if is_for_cluster:
        return _in(the_cluster(config, given), in_cluster)
    place = socket_place(socket)
    if socket is not None:
        return run_interruptible(partial(in_dev, place))
    if (cluster := _found(place, over_redis=over_redis)) is not None:
        return _in(cluster, in_cluster)
    try:
        return run_interruptible(partial(in_dev, place))
    except NobodyListens as nobody:
        raise CommandFailed(f"{nobody}\nOr say where a cluster is: --config appsettings.json") from nobody


def _in(cluster: Cluster, act: Callable[[Cluster], Awaitable[Done]]) -> Done:
    with cluster.own_words():
        return run_interruptible(partial(act, cluster))


def _found(place: Path, *, over_redis: bool) -> Cluster | None:
    """The cluster that the settings here name, unless a dev worker of this folder listens; `None` for a dev worker.

    One of another folder must not take what is meant for the cluster of this one. Wherever it goes to that could be
    another place than was meant, it is told before, so that it is known of what fails, too.
    """
    try:
        folder = run_interruptible(partial(folder_of_dev_worker, place))
    except CommandFailed as silent:  # it may be the one of this folder, so nothing goes past it
        raise CommandFailed(
            f"{silent} It listens on {place}; to go to a cluster all the same, use --config."
        ) from silent
    is_of_here = folder == os.path.realpath(os.curdir)
    try:
        cluster = find_cluster(None)
    except SettingsError:
        if not is_of_here:
            raise
        return None
    if cluster is None:
        if folder is not None and not is_of_here:
            error_console().print(f"This goes to the dev worker of {folder}.")
        return None
    name = cluster.redis_name if over_redis else cluster.name
    if is_of_here:
        error_console().print(f"This goes to the dev worker of this folder; with --config it goes to {name}.")
        return None
    other = f"; with --socket {shlex.quote(str(place))} it goes to the dev worker of {folder}" if folder else ""
    error_console().print(f"This goes to {name}{other}.")
    return cluster
