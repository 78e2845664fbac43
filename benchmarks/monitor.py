"""How many occurrences a monitor keeps per second: a backlog on RabbitMQ, read, written to SQLite, acknowledged.

    python -m benchmarks.monitor [--occurrences 10000] [--rounds 5] [--json]

Each occurrence is a copy of its dispatch, a Running, a Completed and a log message of two lines. The broker is started
for it and runs on the same machine; the monitor is in a process without anything else. The median of the rounds counts,
the spread is shown, and the CPU that the monitor's process took, as a busy machine slows the rest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio
from tests.support.servers import HOST, RabbitMQServer

from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import LogEntry, LogRecord, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.model.wire import encode_logs, encode_status
from milvaion_trio.monitor import Monitor
from milvaion_trio.monitor.queues import TOPOLOGY
from milvaion_trio.runtime.dispatching import Destination, dispatch_message

TO = Destination(worker_id="bench", job_name="SendEmailJob", pattern="bench.sendemail.*")
INSTANCE = InstanceId("bench-12345678")
PAGE = 250


def messages() -> list[Publication]:
    """Of one occurrence, in the order in which they are published."""
    dispatch = dispatch_message(TO, {"to": "ada@example.org", "subject": "Hello"}).message
    occurrence, job = OccurrenceId(str(dispatch.correlation_id)), JobId(str(dispatch.message_id))
    now = Instant.from_unix_ns(time.time_ns())

    def status(of: OccurrenceStatus, end: Instant | None, result: str | None) -> bytes:
        return encode_status(
            StatusUpdate(
                occurrence_id=occurrence,
                job_id=job,
                worker_id=WorkerId("bench"),
                instance_id=INSTANCE,
                status=of,
                start_time=now,
                end_time=end,
                duration_ms=None if end is None else 3,
                result=result,
                message_timestamp=now,
            )
        )

    lines = [
        LogRecord(
            occurrence_id=occurrence,
            worker_id=INSTANCE,
            log=LogEntry(timestamp=now, level="Information", message=text, data={"number": 7}),
            message_timestamp=now,
        )
        for text in ("sending", "sent")
    ]
    bodies = [
        (topology.STATUS_QUEUE, status(OccurrenceStatus.RUNNING, None, None)),
        (topology.LOGS_QUEUE, encode_logs(lines, now)[0]),
        (topology.STATUS_QUEUE, status(OccurrenceStatus.COMPLETED, now, "sent")),
    ]
    reports = [Publication(Message(body=body), queue) for queue, body in bodies]
    return [Publication(dispatch, topology.DISPATCHES_QUEUE), *reports]


async def measure(port: int, occurrences: int) -> dict[str, float]:
    """Fill the queues, then let a monitor empty them."""
    broker = RabbitMQBroker(RabbitMQSettings(host=HOST, port=port), client_name="benchmark")
    async with broker.consuming() as consumer:
        await consumer.declare(TOPOLOGY)
    async with broker.publishing() as publisher:
        for _ in range(0, occurrences, PAGE):
            await publisher.publish([one for _ in range(PAGE) for one in messages()])
    suit_the_collector()
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(broker=broker, store=SQLiteHistory(Path(folder) / "history.db"))
        async with trio.open_nursery() as nursery:
            began, cpu = time.perf_counter(), time.process_time()
            await nursery.start(monitor.run)
            while monitor.kept < 4 * occurrences:  # noqa: ASYNC110  # it tells nobody
                await trio.sleep(0.01)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            nursery.cancel_scope.cancel()
    return {"per_second": occurrences / seconds, "cpu_us": 1e6 * cpu / occurrences}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--occurrences", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    occurrences = -(-options.occurrences // PAGE) * PAGE
    if options.port is not None:
        print(json.dumps(trio.run(measure, options.port, occurrences)))
        return
    rounds = []
    with RabbitMQServer() as server:
        for _ in range(options.rounds):
            command = [
                sys.executable,
                "-m",
                "benchmarks.monitor",
                "--port",
                str(server.port),
                "--occurrences",
                str(occurrences),
            ]
            rounds.append(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    found = {
        name: {"median": statistics.median(values), "least": min(values), "most": max(values)}
        for name in ("per_second", "cpu_us")
        for values in [[one[name] for one in rounds]]
    }
    if options.json:
        print(json.dumps({"occurrences": occurrences, **found}))
        return
    rate, cpu = found["per_second"], found["cpu_us"]
    print(f"{rate['median']:.0f} occurrences/s ({rate['least']:.0f} to {rate['most']:.0f})")
    print(f"{cpu['median']:.0f} us of CPU each ({cpu['least']:.0f} to {cpu['most']:.0f})")


if __name__ == "__main__":
    main()
