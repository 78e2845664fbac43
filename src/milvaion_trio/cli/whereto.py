"""Where a command of a second terminal has its work done: by a dev worker, or in a cluster.

Separate from what is asked for, as all such commands find their way by the same rule.
"""

import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from milvaion_trio.cli.cluster import Cluster, find_cluster, the_cluster
from milvaion_trio.cli.control import Done
from milvaion_trio.cli.failures import CommandFailed, UsageError
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.sockets import NobodyListens, is_listened_on, socket_place
from milvaion_trio.cli.terminal import error_console
from milvaion_trio.configuration import Override

__all__ = ["done_there", "tell_place"]


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
    """Have it done where the options say, else in the cluster that the settings here name, else by a dev worker.

    Unless --socket names the place it is told before it is done, so that it is known of what fails or takes long too;
    of a cluster RabbitMQ, or Redis where it is done over that alone.
    """
    is_for_cluster = config is not None or worker_id is not None or bool(given)
    if socket is not None and is_for_cluster:
        raise UsageError("--socket leads to a dev worker; --config, --set and --worker-id to a cluster: choose one.")
    if socket is None:
        # A dev worker that happens to run, maybe of another project, must not take what is meant for the cluster.
        cluster = the_cluster(config, given) if is_for_cluster else find_cluster(None)
        if cluster is not None:
            name = cluster.redis_name if over_redis else cluster.name
            tell_place(f"{name}{'' if is_for_cluster else _otherwise()}")
            with cluster.own_words():
                return run_interruptible(partial(in_cluster, cluster))
    place = socket_place(socket)
    if socket is None and is_listened_on(place):
        tell_place(f"the dev worker on {place}")
    try:
        return run_interruptible(partial(in_dev, place))
    except NobodyListens as nobody:
        if socket is not None:
            raise
        raise CommandFailed(f"{nobody}\nOr say where a cluster is: --config appsettings.json") from nobody


def tell_place(name: str) -> None:
    """Say where a command goes."""
    error_console().print(f"This goes to {name}.")


def _otherwise() -> str:
    """How to have it done by the dev worker that listens too."""
    with suppress(CommandFailed):  # there can be no such socket
        if is_listened_on(place := socket_place(None)):
            return f"; with --socket {shlex.quote(str(place))} it goes to the dev worker"
    return ""
