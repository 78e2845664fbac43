"""Ends servers when the process ends that they were started for: `python server_watchdog.py FOLDER OWNER PID…`.

Needs nothing but the standard library, and nothing from the process that started it.
"""

import os
import select
import shutil
import signal
import sys
import time

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


def main(folder: str, owner: int, servers: list[int]) -> None:
    """Wait until the owner or the first server is gone; if the owner is, end the servers and remove their folder."""
    handles = {pid: handle for pid in (owner, *servers) if (handle := opened(pid)) is not None}
    if owner in handles:
        if servers[0] in handles:
            select.select([handles[owner], handles[servers[0]]], [], [])
        if not has_ended(handles[owner], 0):
            return  # somebody has stopped the server and may start it again
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        for pid in servers:
            if pid in handles and not has_ended(handles[pid], 0):
                signal.pidfd_send_signal(handles[pid], number)
        deadline = time.monotonic() + (GRACE if number is signal.SIGTERM else 0.1)
        while time.monotonic() < deadline and any(
            pid in handles and not has_ended(handles[pid], 0.1) for pid in servers
        ):
            pass
    shutil.rmtree(folder, ignore_errors=True)
    parent = os.path.dirname(folder)
    if os.path.basename(parent).startswith("mtrio-servers-"):
        shutil.rmtree(parent, ignore_errors=True)


def opened(pid: int) -> int | None:
    """A handle that stays true to this process even when its number is used again."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def has_ended(handle: int, seconds: float) -> bool:
    """Whether the process ends within that time."""
    return bool(select.select([handle], [], [], seconds)[0])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(pid) for pid in sys.argv[3:]])
