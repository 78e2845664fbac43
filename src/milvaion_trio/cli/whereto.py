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
from milvaion_trio.cli.sockets import NobodyListens, socket_place, socket_places
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
    if socket is not None:
        return run_interruptible(partial(in_dev, socket_place(socket)))
    to = _found(over_redis=over_redis)
    if isinstance(to, Cluster):
        return _in(to, in_cluster)
    try:
        return run_interruptible(partial(in_dev, to))
    except NobodyListens as nobody:
        raise CommandFailed(f"{nobody}\nOr say where a cluster is: --config appsettings.json") from nobody


def _in(cluster: Cluster, act: Callable[[Cluster], Awaitable[Done]]) -> Done:
    with cluster.own_words():
        return run_interruptible(partial(act, cluster))


def _found(*, over_redis: bool) -> Cluster | Path:
    """The dev worker of this folder, by its socket; else the cluster that the settings here name; else a dev worker.

    One of another folder must not take what is meant for the cluster of this one. Wherever it goes to that could be
    another place than was meant, it is told before, so that it is known of what fails, too.
    """
    here, own = os.path.realpath(os.curdir), socket_place(None)
    is_of_here = _folder_of(own) == here
    try:
        cluster = find_cluster(None)
    except SettingsError:
        if not is_of_here:
            raise
        return own
    if cluster is None:
        return own if is_of_here else _elsewhere(here, own)
    name = cluster.redis_name if over_redis else cluster.name
    if is_of_here:
        error_console().print(f"This goes to the dev worker of this folder; with --config it goes to {name}.")
        return own
    error_console().print(f"This goes to {name}.")
    return cluster


def _elsewhere(here: str, own: Path) -> Path:
    """The dev worker of the nearest folder above this one, or the only one that there is."""
    found = {folder: place for place in socket_places() if (folder := _folder_of(place)) is not None}
    above = next((os.fspath(each) for each in Path(here).parents if os.fspath(each) in found), None)
    if above is None and len(found) > 1:
        those = "".join(f"\n  --socket {shlex.quote(str(place))}  of {folder}" for folder, place in found.items())
        raise CommandFailed(f"No dev worker was started in this folder, and several elsewhere; say which:{those}")
    if not found:
        return own  # who says that nobody listens there
    folder = above or next(iter(found))
    error_console().print(f"This goes to the dev worker of {folder}.")
    return found[folder]


def _folder_of(place: Path) -> str | None:
    try:
        return run_interruptible(partial(folder_of_dev_worker, place))
    except CommandFailed as silent:  # it may be the one that is meant, so nothing goes past it
        raise CommandFailed(
            f"{silent} It listens on {place}; to go to a cluster all the same, use --config."
        ) from silent
