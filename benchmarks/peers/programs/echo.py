"""The bare consumer: a socket, a mark, an ack. What it takes from queue to mark is the floor for every worker."""

import os
import sys

from benchmarks.peers.programs.marking import mark
from benchmarks.peers.raw import RawAmqp, RawMessage

QUEUE = "bench"

if __name__ == "__main__":
    connection = RawAmqp(int(os.environ["BENCH_PORT"]), os.environ["BENCH_VHOST"])
    connection.declare(QUEUE)
    if len(sys.argv) > 1:  # persistent, as a job's message is
        message = RawMessage(b"\x10\x00\x02", b"x" * int(sys.argv[2]))
        connection.fill(QUEUE, [message] * int(sys.argv[1]))
    else:
        for _ in connection.consume(QUEUE, prefetch=100):
            mark()
