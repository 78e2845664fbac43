"""What of an embedded broker gets into its file, and when: eagerly, in batches, in order.

While one batch is being written the next one gathers: the busier the broker, the larger the batches. A message arrives
in its queue when it is in the file, so that nobody gets one that could be lost.
Separate from the broker, which knows where messages go, and from the store, which knows no Trio.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.store import Changes, Contents, Store
from milvaion_trio.broker.embedded.stored import StoredMessage
from milvaion_trio.disk.writer import OpenWriter, Writer
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.ports import Topology

__all__ = ["Batch", "Keeping"]

RETRY: Final = 1.0
"""Seconds between two tries to write what could not be written."""
LEAVE_TIMEOUT: Final = 2.0
"""Seconds to write what is left, on leaving."""

_log = logging.getLogger("milvaion_trio.broker")

T = TypeVar("T")


@define(eq=False)
class Batch:
    """What is written together."""

    changes: Changes = field(factory=Changes)
    offered: list[StoredMessage] = field(factory=list)
    """What was published: it may be refused, all else may not."""
    arriving: list[StoredMessage] = field(factory=list)
    """Of both, in order."""
    published: list[Publication] = field(factory=list)
    tried: trio.Event = field(factory=trio.Event)
    """Set when it was written or could not be."""
    is_written: bool = False

    def write_to(self, store: Store) -> None:
        """Write it; in the writer's thread, which alone has it then."""
        store.write(self.changes, self.offered)

    def refuse(self, later: "Batch") -> None:
        """Leave what cannot be refused to the batch behind it."""
        refused = {message.number for message in self.offered}
        mine, others = self.changes, later.changes
        others.declared[:0] = mine.declared
        others.stored[:0] = mine.stored
        others.removed[:0] = mine.removed
        others.moved = {**mine.moved, **others.moved}
        for queue, reach in mine.reaches.items():
            others.reaches[queue] = max(reach, others.reaches.get(queue, 0))
        later.arriving[:0] = [message for message in self.arriving if message.number not in refused]


@define(eq=False)
class Keeping:
    """The file as seen from Trio: nothing here waits for the disk but those who await a batch."""

    _store: Store
    _open_writer: OpenWriter
    _arrive: Callable[[Batch], None]
    """What is told of each batch that was written."""
    _on_trouble: Callable[[str], None]
    """Told why nothing can be written, and "" when it can be again."""
    _writer: Writer | None = field(default=None, init=False)
    _gathering: Batch = field(factory=Batch, init=False)
    _writing: Batch | None = field(default=None, init=False)
    _wanted: trio.Event = field(factory=trio.Event, init=False)
    _last_number: int = field(default=0, init=False)
    _trouble: str = field(default="", init=False)

    @asynccontextmanager
    async def open(
        self, restore: Callable[[Contents], None], handed_out: Callable[[], Mapping[str, int]]
    ) -> AsyncIterator[None]:
        """Write while open. On leaving, cancelled or not, all is in the file unless that cannot be written.

        Raises `StoreUnavailable` where the file cannot be had.
        """
        async with self._open_writer() as writer:
            try:
                contents = await _performed(writer, self._store.open)
            except trio.Cancelled:
                # Behind the opening, which goes on; where that fails, there is nothing to close.
                writer.submit(lambda: self._store.close({}), lambda _, error: None)
                raise
            self._last_number = contents.last_number
            self._writer = writer
            restore(contents)
            try:
                async with trio.open_nursery() as nursery:
                    writing = await nursery.start(self._write_gathered)
                    try:
                        yield
                    finally:
                        with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                            await self._flush()
                        writing.cancel()
            finally:
                self._writer = None
                with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                    await self._close(writer, handed_out())

    # --- what is to be written --------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """The place behind all others."""
        self._last_number += 1
        return self._last_number

    def publish(self, publication: Publication, messages: Iterable[StoredMessage]) -> Batch:
        """Write a publication that goes to these queues; the batch it is written with, or refused."""
        batch = self._gathered()
        for message in messages:
            batch.offered.append(message)
            batch.arriving.append(message)
        batch.published.append(publication)
        return batch

    def remove(self, numbers: Iterable[int], arriving: Sequence[StoredMessage] = ()) -> None:
        """Forget messages, and at once write those that come of them."""
        batch = self._gathered()
        batch.changes.removed += numbers
        batch.changes.stored += arriving
        batch.arriving += arriving

    def move(self, number: int, publication: Publication) -> None:
        """Let a message arrive whose time has come."""
        batch = self._gathered()
        batch.changes.moved[number] = new = self.next_number()
        batch.arriving.append(StoredMessage(new, publication.routing_key, publication))

    def declare(self, topology: Topology) -> None:
        """Write that these exist."""
        self._gathered().changes.declared.append(topology)

    def reach(self, queue: str, reach: int) -> Batch:
        """Write that so many messages of the queue may be with consumers; the batch it is written with."""
        batch = self._gathered()
        batch.changes.reaches[queue] = max(reach, batch.changes.reaches.get(queue, 0))
        return batch

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be written."""
        return not self._wanted.is_set() and self._writing is None

    def underway(self, queue: str) -> int:
        """How many messages will be in the queue when they are written."""
        batches = (self._gathering,) if self._writing is None else (self._writing, self._gathering)
        return sum(each.queue == queue and each.due is None for batch in batches for each in batch.arriving)

    # --- writing ----------------------------------------------------------------------------------------------------

    def _gathered(self) -> Batch:
        if self._writer is None:
            raise RuntimeError("this broker has a folder and is not open: use it inside `async with broker.open()`")
        self._wanted.set()
        return self._gathering

    async def _write_gathered(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Write what gathers, until the scope it starts with is cancelled: who is cancelled still has things to say."""
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                await self._write()

    async def _write(self) -> None:
        if self._writer is None:
            raise AssertionError("the writer lives as long as this task")
        batch, self._gathering = self._gathering, Batch()
        self._writing = batch
        try:
            await _performed(self._writer, lambda: batch.write_to(self._store))
        except StoreUnavailable as error:
            batch.refuse(self._gathering)
            self._tell(str(error))
        else:
            batch.is_written = True
            self._tell("")
            self._arrive(batch)
        self._writing = None
        batch.tried.set()
        if not batch.is_written:
            self._wanted.set()
            await trio.sleep(RETRY)

    def _tell(self, trouble: str) -> None:
        if bool(trouble) == bool(self._trouble):
            return
        self._trouble = trouble
        if trouble:
            _log.error("nothing that is published is taken until it can be written: %s", trouble)
        else:
            _log.warning("what is published is taken again")
        self._on_trouble(trouble)

    async def _flush(self) -> None:
        """Return when all is written, or could not be. If cancelled, some may not be."""
        while self._wanted.is_set() or self._writing is not None:
            batch = self._writing or self._gathering
            await batch.tried.wait()
            if not batch.is_written:
                _log.warning("not all acks could be written: those messages are delivered again at the next start")
                return

    async def _close(self, writer: Writer, handed_out: Mapping[str, int]) -> None:
        try:
            await _performed(writer, lambda: self._store.close(handed_out))
        except StoreUnavailable as error:
            _log.warning("the queues were not closed cleanly, and nothing is lost: %s", error)


async def _performed(writer: Writer, work: Callable[[], T]) -> T:
    """What it returns or raises, in the writer's thread. If cancelled, it is done all the same."""
    done = trio.Event()
    results: list[T] = []
    errors: list[Exception] = []

    def call() -> None:
        results.append(work())

    def finish(_: object, error: Exception | None) -> None:
        if error is not None:
            errors.append(error)
        done.set()

    writer.submit(call, finish)
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
