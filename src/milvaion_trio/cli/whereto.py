"""Where a command of a second terminal has its work done: by a dev worker, or in a cluster.

Separate from what is asked for, as all such commands find their way by the same rule.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from milvaion_trio.cli.cluster import Cluster, find_cluster, the_cluster
from milvaion_trio.cli.control import Done
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
) -> Done:
    """Have it done where the options say; where they say nothing, by a dev worker that listens, else in a cluster."""
    is_for_cluster = config is not None or worker_id is not None or bool(given)
    if socket is not None and is_for_cluster:
        raise UsageError("--socket leads to a dev worker; --config, --set and --worker-id to a cluster: choose one.")
    if socket is not None:
        return run_interruptible(partial(in_dev, socket_place(socket)))
    if is_for_cluster:
        return run_interruptible(partial(in_cluster, the_cluster(config, given)))
    place = socket_place(None)
    try:
        done = run_interruptible(partial(in_dev, place))
    except NobodyListens as nobody:
        cluster = find_cluster(None)
        if cluster is None:
            raise CommandFailed(f"{nobody}\nOr say where a cluster is: --config appsettings.json") from nobody
        done = run_interruptible(partial(in_cluster, cluster))
        error_console().print(f"No dev worker listens here, so it went to {cluster.name}.")
        return done
    if (other := _other_place()) is not None:
        error_console().print(f"It went to the dev worker on {place}. With --config it goes to {other}.")
    return done


def _other_place() -> str | None:
    """The cluster where it could have gone too."""
    try:
        cluster = find_cluster(None)
    except SettingsError:  # of no importance to what was done already
        return None
    return None if cluster is None else cluster.name
