"""Whether a monitor knows the same as the Milvaion API of a run: it is given the same messages in the same order.

Separate from the invariants, which judge workers: this judges our reading of what they said, by another reading of it
that shares no code. What an API does by itself (it fails old occurrences when it starts again) a monitor does not, so
only ends that workers told are compared.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen
from tests.support.api_model import ApiModel, Dispatch, Settlement, WireMessage
from tests.support.api_model.database import ENDS, Occurrence, OccurrenceStatus
from tests.support.api_model.messages import read_logs
from tests.support.api_model.topology import LOGS

from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.topology import DISPATCHES_QUEUE
from milvaion_trio.monitor.keeper import Keeper
from milvaion_trio.ports.history import HistoryStore

__all__ = ["Heard", "disagreements"]

MOST: Final = 200
"""Messages of a batch; each batch has some number up to that."""


@frozen(eq=False)
class Copy:
    """A delivery of which nobody wants to know what became of it."""

    queue: str
    message: Message
    redelivered: bool = False

    def ack(self) -> None:
        """Nothing happens."""

    def requeue(self) -> None:
        """Nothing happens."""

    def reject(self) -> None:
        """Nothing happens."""


@define(eq=False)
class Heard:
    """What an API was given."""

    copies: list[Copy] = field(factory=list)

    @classmethod
    def by(cls, model: ApiModel) -> "Heard":
        """Take note of everything that this API gets and dispatches from now on."""
        heard = cls()
        take, dispatch = model.take, model.dispatch

        def taken(queue: str, message: WireMessage, now: float) -> list[Settlement]:
            heard.copies.append(Copy(queue, _message(message), message.redelivered))
            return take(queue, message, now)

        def dispatched(*arguments: Any, **options: Any) -> Dispatch:
            made = dispatch(*arguments, **options)
            heard.copies.append(Copy(DISPATCHES_QUEUE, _message(made)))
            return made

        model.take = taken  # type: ignore[method-assign]
        model.dispatch = dispatched  # type: ignore[method-assign]
        return heard


def disagreements(heard: Heard, model: ApiModel, seed: int = 1) -> Iterator[str]:
    """What a monitor that reads the same knows otherwise. In batches of any size, since they must not matter."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="mtrio-agreement-") as folder:
        with SQLiteHistory(Path(folder) / "history.db") as store:
            keeper = Keeper(store, lambda: Instant.from_unix_ns(1_900_000_000_000_000_000))
            keeper.open()
            left: Sequence[Copy] = heard.copies
            while left:
                count = chance.randint(1, MOST)
                for copy, why in keeper.keep(left[:count]).unreadable:
                    yield f"a message of {copy.queue} cannot be read: {why}"
                left = left[count:]
            yield from _compared(heard, store, model)


def _compared(heard: Heard, store: HistoryStore, model: ApiModel) -> Iterator[str]:
    occurrences = model.database.occurrences
    rows = store.load([OccurrenceId(one) for one in occurrences])
    for theirs in occurrences.values():
        row = rows.get(OccurrenceId(theirs.id))
        if row is None:
            yield f"{theirs.id} is not known"
        elif theirs.status in ENDS and any(one.status == theirs.status for one in theirs.wire):
            yield from _differences(theirs, row)
    their_letters = {letter.occurrence_id for letter in model.failed_occurrences}
    letters = {str(letter.occurrence_id) for letter in store.failures(limit=len(occurrences) + 1)}
    for one in their_letters ^ letters:
        yield f"{one} has a dead letter here or there only"
    lines: dict[str, set[str]] = {}
    for copy in heard.copies:
        if copy.queue == LOGS:
            for record in read_logs(copy.message.body).records:
                lines.setdefault(record.occurrence_id, set()).add(f"{record.timestamp.text} {record.message}")
    for one, texts in lines.items():
        ours = {f"{line.at.text} {line.message}" for line in store.lines(OccurrenceId(one), 100_000)}
        if ours != texts:
            yield f"{one} has {len(ours)} lines instead of {len(texts)}"


def _differences(theirs: Occurrence, row: OccurrenceRecord) -> Iterator[str]:
    ends = getattr(theirs.end_time, "text", None)
    pairs = {
        "status": (int(theirs.status), int(row.status)),
        "result": (theirs.result, row.result),
        "exception": (theirs.exception, row.exception),
        "duration": (theirs.duration_ms, row.duration_ms),
        "end": (ends, None if row.end_time is None else row.end_time.text),
        "worker": (theirs.worker_id, row.worker_id),
    }
    if theirs.status == OccurrenceStatus.CANCELLED:
        del pairs["exception"]  # an API writes down itself that somebody wanted it
    for what, (api, ours) in pairs.items():
        if api != ours:
            yield f"{what} of {theirs.id} is {ours!r}, and {api!r} for an API"


def _message(of: WireMessage | Dispatch) -> Message:
    properties = of.properties
    timestamp, message_id, correlation_id = (
        properties.get(name) for name in ("timestamp", "message_id", "correlation_id")
    )
    return Message(
        body=of.body,
        headers={name: value for name, (_, value) in of.headers.items()},
        message_id=message_id if isinstance(message_id, str) else None,
        correlation_id=correlation_id if isinstance(correlation_id, str) else None,
        timestamp=timestamp if isinstance(timestamp, int) else None,
    )
