"""Forks worker processes from one that has imported nearly all of a worker: `python -m torture.forking SOCKET`.

Separate from the fork server of the tests, whose commands look at their terminal when they are imported. A worker's
process costs a second of CPU to start, nearly all of it imports; a scenario starts hundreds. What is forked is a
process of its own in every respect that a kill or a signal can tell.
"""

import atexit
import gc
import importlib
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from tests.support import fork_server

__all__ = ["forked_worker"]

PROJECT: Final = Path(__file__).parents[1]
PRELOADED: Final = (
    "milvaion_trio.cli.app",
    "milvaion_trio.cli.run",
    "milvaion_trio.broker.amqp.link",
    "milvaion_trio.broker.rabbitmq",
    "milvaion_trio.composition",
    "milvaion_trio.outbox.disk",
    "milvaion_trio.signals.redis",
    "torture.crash_points",
    "torture.endings",
    "torture.recording",
    "torture.sabotages",
    "torture.telling",
)


def forked_worker(target: str) -> list[str]:
    """The command line of a process that forks into `milvaion-trio run target`, and ends as that ends."""
    client = PROJECT / "tests" / "support" / "fork_client.py"
    return [sys.executable, "-I", "-S", str(client), _server(), "run", target, "--log-level", "warning"]


@cache
def _server() -> str:
    """Start the one of this process, which ends with it, and return where it listens."""
    path = f"{tempfile.mkdtemp(prefix='mtrio-fork-')}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "torture.forking", path],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C in the terminal is for the harness
    )
    atexit.register(server.communicate)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return path


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    fork_server.serve(sys.argv[1])
    runpy.run_module("milvaion_trio", run_name="__main__", alter_sys=True)
