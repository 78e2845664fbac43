"""The bare reporter: a socket that marks, publishes two reports for each message, and acknowledges it last.

It does next to nothing itself, so what it gets through is what RabbitMQ gives to any worker that reports. Two
connections, as ours has, and what came together is answered together.
"""

import os
import selectors
import struct
import sys

from benchmarks.peers.programs.marking import mark
from benchmarks.peers.raw import ACK, DELIVER, RawAmqp, RawMessage, ack_frame, delivery_tag

QUEUE, REPORTS = "bench", "bench.reports"
PREFETCH = 100
REPORT = RawMessage(b"\x90\x00\x10application/json\x02", b"x" * 420)
"""Persistent, and about as long as a status."""


def report_all(source: RawAmqp, sink: RawAmqp) -> None:
    """Until killed."""
    report = 2 * sink.publish(REPORTS, REPORT)
    unconfirmed: dict[int, int] = {}
    """By the number of the report, in that order: the message it is of."""
    missing: dict[int, int] = {}
    """How many reports of a message are not confirmed."""
    published = 0
    source.begin_consuming(QUEUE, PREFETCH)
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        selector.register(sink, selectors.EVENT_READ)
        methods = source.kept()
        while True:
            reports, acks = [], []
            for kind, arguments in methods:
                if kind == DELIVER:
                    message = delivery_tag(arguments)
                    mark()
                    reports.append(report)
                    unconfirmed[published + 1] = unconfirmed[published + 2] = message
                    missing[message] = 2
                    published += 2
                elif kind == ACK:
                    for message in _confirmed(unconfirmed, *struct.unpack_from(">QB", arguments)):
                        missing[message] -= 1
                        if not missing[message]:
                            del missing[message]
                            acks.append(ack_frame(message))
                else:
                    raise OSError(f"RabbitMQ said {kind}")
            sink.send(b"".join(reports))
            source.send(b"".join(acks))
            methods = [
                method
                for key, _ in selector.select()
                for method in (source if key.fileobj is source else sink).received()
            ]


def _confirmed(unconfirmed: dict[int, int], number: int, has_more: int) -> list[int]:
    """The messages of the reports that this confirms: the one, or all up to it."""
    numbers = []
    if has_more:
        for known in unconfirmed:
            if known > number:
                break
            numbers.append(known)
    else:
        numbers.append(number)
    return [unconfirmed.pop(each) for each in numbers]


if __name__ == "__main__":
    place = int(os.environ["BENCH_PORT"]), os.environ["BENCH_VHOST"]
    consuming = RawAmqp(*place)
    consuming.declare(QUEUE)
    consuming.declare(REPORTS)
    if len(sys.argv) > 1:  # persistent, as a job's message is
        consuming.fill(QUEUE, [RawMessage(b"\x10\x00\x02", b"x" * int(sys.argv[2]))] * int(sys.argv[1]))
    else:
        publishing = RawAmqp(*place)
        publishing.ask_for_confirms()
        report_all(consuming, publishing)
