"""What every program under comparison does in its job: write down when it ran.

A mark is eight bytes, the nanoseconds of CLOCK_MONOTONIC, appended with one system call: whole, from any number of
threads and processes. It costs the same for everybody. Separate, and the standard library alone, as it is imported in
the environment of each peer.
"""

import os
import struct
import sys
import time

__all__ = ["STATES", "URL", "count_and_text", "mark"]

URL = os.environ.get("BENCH_URL", "")
"""Where the private server is, with the virtual host of this round."""

STATES = os.environ.get("BENCH_STATES", "")
"""The Redis that is told how each job ends; empty where nobody is."""

_FILE = os.open(os.environ.get("BENCH_MARKS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def mark() -> None:
    """Append a mark."""
    os.write(_FILE, struct.pack("<q", time.monotonic_ns()))


def count_and_text() -> tuple[int, str]:
    """How many jobs to enqueue, and the text each of them carries, from the command line."""
    return int(sys.argv[1]), "x" * int(sys.argv[2])
