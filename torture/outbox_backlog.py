"""A process that writes a backlog without a link, and one that sends it when there is a link again.

Separate from the scenario that starts them, because each is measured as a process: what it holds in memory, and how
fast it sends. `python -m torture.outbox_backlog write FOLDER ROWS [SABOTAGE]`, then
`… send FOLDER ROWS HOST PORT VHOST [SABOTAGE]`; they print what they saw as JSON. The first is killed when all is
written, by itself.
"""

import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, field

from milvaion_trio import WorkerSettings
from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.ports import Confirmation, Publisher, Queue, Report, ReportKind, Topology
from milvaion_trio.transports import broker_for
from torture import sabotages

__all__ = ["QUEUE", "resident_megabytes"]

QUEUE: Final = "backlog"
BODY: Final = 300
"""Bytes, about those of a status; a log batch has more, but then there are fewer."""
LANES: Final = 100
"""Occurrences that write logs; every tenth row is a status of an occurrence of its own."""
LOOK: Final = 0.05
BARRIER: Final = AttemptKey(OccurrenceId("barrier"), None, 0, 0)


def resident_megabytes() -> float:
    """Of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def reports(count: int) -> Iterator[Report]:
    """So many, each with its number and its lane in the message id."""
    for number in range(count):
        is_final = number % 10 == 0
        lane = f"final-{number}" if is_final else f"lane-{number % LANES}"
        message = Message(body=f"{number}".ljust(BODY).encode(), message_id=f"{lane}:{number}")
        kind = ReportKind.FINAL if is_final else ReportKind.LOG
        yield Report(kind, Publication(message, QUEUE), OccurrenceId(lane))


@define(eq=False)
class Watched:
    """A publisher that looks whether rows come in their order."""

    publisher: Publisher
    last: dict[str, int] = field(factory=lambda: defaultdict(lambda: -1))
    confirmed: int = 0
    disorder: list[str] = field(factory=list)

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """As the publisher does."""
        answers = await self.publisher.publish(publications)
        for publication, answer in zip(publications, answers, strict=True):
            if answer is Confirmation.CONFIRMED:
                self._note(publication.message.message_id or "")
        return answers

    def on_blocked(self, tell: Any) -> None:
        """As the publisher does."""
        self.publisher.on_blocked(tell)

    async def lost(self) -> str:
        """As the publisher does. If cancelled, nothing changes."""
        return await self.publisher.lost()

    def _note(self, message_id: str) -> None:
        lane, _, number = message_id.partition(":")
        self.confirmed += 1
        if int(number) <= self.last[lane]:
            self.disorder.append(f"{message_id} came behind {self.last[lane]}")
        self.last[lane] = int(number)


@define(eq=False)
class Memory:
    """What the process holds, at most."""

    outbox: DiskOutbox
    megabytes: float = 0.0
    rows: int = 0

    def look(self) -> None:
        """Take a measure."""
        self.megabytes = max(self.megabytes, resident_megabytes())
        self.rows = max(self.rows, self.outbox._backlog.queued + len(self.outbox._held))

    async def watch(self) -> None:
        """Take measures until cancelled."""
        while True:
            self.look()
            await trio.sleep(LOOK)


async def write(folder: str, count: str) -> None:
    """Write all of them, then die. If cancelled, some are written."""
    outbox = DiskOutbox(OutboxFile(Path(folder) / "backlog.outbox.db", "NORMAL", "writer"))
    memory = Memory(outbox)
    began = time.perf_counter()
    async with outbox.open():
        for number, report in enumerate(reports(int(count))):
            outbox.add(report)
            if number % 500 == 0:  # as much as comes in one pass of the scheduler, at most
                await outbox.started(BARRIER)
                memory.look()
        await outbox.started(BARRIER)
        seconds = time.perf_counter() - began
        found = {
            "rows_per_second": round(int(count) / seconds),
            "megabytes": round(memory.megabytes),
            "rows_in_memory": memory.rows,
            "dropped": outbox.statistics().dropped_logs,
        }
        print(json.dumps(found), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


async def send(folder: str, count: str, host: str, port: str, vhost: str) -> None:
    """Send all there is. If cancelled, some is sent."""
    rabbitmq = RabbitMQSettings(host=host, port=int(port), virtual_host=vhost)
    broker = broker_for(WorkerSettings(rabbitmq=rabbitmq), "backlog")
    async with broker.consuming() as consumer:
        await consumer.declare(Topology(queues=[Queue(QUEUE)]))
    outbox = DiskOutbox(OutboxFile(Path(folder) / "backlog.outbox.db", "NORMAL", "sender"))
    memory = Memory(outbox)
    async with outbox.open(), broker.publishing() as publisher, trio.open_nursery() as nursery:
        waiting = outbox.statistics().pending
        watched = Watched(publisher)
        nursery.start_soon(memory.watch)
        began = time.perf_counter()
        nursery.start_soon(outbox.deliver, watched)
        await outbox.drained()
        seconds = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    async with broker.consuming() as consumer:
        depth = await consumer.depth(QUEUE, may_wait=False)
    found = {
        "waiting": waiting,
        "confirmed": watched.confirmed,
        "in_the_queue": depth,
        "rows_per_second": round(int(count) / seconds),
        "megabytes": round(memory.megabytes),
        "rows_in_memory": memory.rows,
        "disorder": watched.disorder[:10],
    }
    print(json.dumps(found))


PROGRAMS: Final[Mapping[str, tuple[Callable[..., Awaitable[None]], int]]] = {"write": (write, 2), "send": (send, 5)}
"""What each does, and how many words it needs; those behind are sabotages."""


def main(what: str, *arguments: str) -> None:
    """Do one of the two."""
    suit_the_collector()
    program, wanted = PROGRAMS[what]
    for name in arguments[wanted:]:
        sabotages.install(name)
    trio.run(program, *arguments[:wanted])


if __name__ == "__main__":
    main(*sys.argv[1:])
