"""What the runtime needs from the world: broker, signals, outbox.

Each method carries the guarantee an adapter gives and what happens if it is cancelled.
`tests/contract` holds every adapter to these sentences.
"""

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation

__all__ = [
    "Binding",
    "Broker",
    "Confirmation",
    "Consumer",
    "Deliveries",
    "Delivery",
    "Exchange",
    "Link",
    "Outbox",
    "Publisher",
    "Queue",
    "QueueState",
    "Report",
    "ReportKind",
    "Signals",
    "Topology",
]


@frozen
class Exchange:
    """A durable exchange to declare; `kind` is `topic`, `direct` or `fanout`."""

    name: str
    kind: str


@frozen
class Queue:
    """A durable queue to declare, with exactly these arguments (WIRE.md 1.2)."""

    name: str
    arguments: Mapping[str, str | int] = field(factory=dict)


@frozen
class Binding:
    """Messages of the exchange that match the key also go to the queue."""

    exchange: str
    queue: str
    key: str


@frozen(kw_only=True)
class Topology:
    """What must exist before a worker consumes and publishes."""

    exchanges: Sequence[Exchange] = ()
    queues: Sequence[Queue] = ()
    bindings: Sequence[Binding] = ()


@frozen
class QueueState:
    """What a broker tells about a queue to anyone."""

    ready: int
    """How many messages wait to be delivered."""
    consumers: int
    """How many consumers it has, of any worker or API."""


class Confirmation(enum.Enum):
    """What the broker answered to one publish."""

    CONFIRMED = "confirmed"
    """It is in every queue it was routed to, and survives the broker's death if it is persistent."""
    REFUSED = "refused"
    """Negatively acknowledged: not stored, worth trying again."""
    UNROUTABLE = "unroutable"
    """No queue takes it (all publishes are mandatory); of one with a delay, its queue does not exist now."""


class Delivery(Protocol):
    """One message handed to this worker, with one owner who settles it exactly once.

    Settling only hands the answer to the link and never waits.
    On a lost link it has no effect: the broker delivers the message again, marked as redelivered.
    Settling twice raises `DeliverySettled`.
    """

    @property
    def message(self) -> Message:
        """The message, as published."""

    @property
    def queue(self) -> str:
        """The queue it came from."""

    @property
    def redelivered(self) -> bool:
        """Whether it was handed out before, here or elsewhere."""

    def ack(self) -> None:
        """Done: the broker forgets the message."""

    def requeue(self) -> None:
        """Not done: it goes back to its queue at once and is delivered again, marked as redelivered."""

    def reject(self) -> None:
        """Never: the queue's dead-letter exchange gets it as it is, or it is dropped where there is none."""


class Deliveries(Protocol):
    """The messages of one queue, as they come."""

    async def receive(self) -> Delivery:
        """The next delivery, in queue order.

        Raises `LinkLost` once the link is gone.
        If cancelled, no delivery is lost: what was not returned is still with the consumer.
        """

    def receive_nowait(self) -> Delivery | None:
        """The next delivery if one is here already, else `None`; a lost link is left for `receive` to report.

        It lets an intake start all that came in one read within one pass of the scheduler; the prefetch bounds it.
        """

    @property
    def unsettled(self) -> int:
        """How many deliveries came and are not settled, received or not; below the prefetch there is room for more."""


class Link(Protocol):
    """One connection."""

    async def lost(self) -> str:
        """Return when the connection is gone, and why, for people to read. If cancelled, nothing changes."""


class Publisher(Link, Protocol):
    """A connection that publishes, every message persistent, mandatory and confirmed."""

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Publish in this order and return the broker's answer to each, in the same order.

        Publications with a delay wait in the broker, not here. On a long way they pass `topology.HOP_QUEUE`, and wait
        there until whoever consumes it publishes them on (`policy.hops`).
        Raises `LinkLost` when the connection dies first: then any prefix may have arrived.
        There is no time limit: a timer that gives up would not mean failure (RELIABILITY.md 0.8).
        If cancelled, any prefix may have arrived.
        """

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason when the broker stops reading what is published, with "" when it reads again.

        At once if it has stopped already. In Trio's thread; `tell` must neither wait nor raise.
        """


class Consumer(Link, Protocol):
    """A connection that consumes and acknowledges. Leaving it returns every unsettled delivery to its queue."""

    async def declare(self, topology: Topology) -> None:
        """Make the topology exist; what exists already with the same arguments is left alone.

        Raises `LinkLost`, or `SettingsError` where something exists with other arguments.
        If cancelled, any part may have been declared.
        """

    def consume(self, queue: str, *, prefetch: int) -> AbstractAsyncContextManager[Deliveries]:
        """Consume the queue with at most `prefetch` unsettled deliveries.

        Leaving the context stops the consumer and gives back what was not received yet; received deliveries stay
        valid while the link lives.
        """

    async def state(self, queue: str) -> QueueState | None:
        """The queue as it is now, or `None` when there is no such queue; nothing is declared by asking.

        Raises `LinkLost`. If cancelled, nothing changes.
        """

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        """How many messages are ready in the queue or wait in the broker to reach it.

        A broker that does not know where waiting messages are bound for counts all of them where `may_wait` says that
        some may be for this queue, and none otherwise. Raises `LinkLost`. If cancelled, nothing changes.
        """


class Broker(Protocol):
    """Where connections come from. Two kinds, because a broker under alarm stops reading those that publish."""

    @property
    def name(self) -> str:
        """For messages to people, without secrets, e.g. `amqp://localhost:5672/`."""

    def publishing(self) -> AbstractAsyncContextManager[Publisher]:
        """Open a publishing connection; leaving the context closes it.

        Raises `LinkLost` when none can be had, `LinkRefused` where trying again changes nothing until a person does.
        """

    def consuming(self) -> AbstractAsyncContextManager[Consumer]:
        """Open a consuming connection; raises as `publishing`. Leaving the context closes it."""


class Signals(Protocol):
    """Cancel signals. Advisory: jobs never depend on them."""

    def cancellations(self) -> AbstractAsyncContextManager[AsyncIterator[Cancellation]]:
        """Every cancel signal that is sent while the context is open, in order; junk is left out.

        Entering and iterating raise `LinkLost` when signals can no longer be heard.
        """

    async def send(self, cancellation: Cancellation) -> int:
        """Send a cancel signal to every listener there is now, and return how many that are.

        If cancelled, it may have been sent.
        """


class ReportKind(enum.Enum):
    """What a row of the outbox is, as far as its treatment differs."""

    RUNNING = "running"
    """An attempt started; superseded by a final status where it could not leave in time."""
    HEARTBEAT = "heartbeat"
    """Alive; worthless when late, so dropped when there is no link."""
    LOG = "log"
    """Log entries; bounded while there is no link."""
    FINAL = "final"
    """Everything a conclusion publishes; never dropped."""


@frozen
class Report:
    """A row of the outbox: bytes and message id stay the same however often it must be sent."""

    kind: ReportKind
    publication: Publication
    occurrence_id: OccurrenceId | None = None
    """`None` for a log batch of several occurrences."""


class Outbox(Protocol):
    """What must still reach the broker.

    Of an occurrence, statuses leave in the order they came, logs too, and a conclusion behind all that was before it.
    Rows are forgotten when they are confirmed.
    """

    def open(self) -> AbstractAsyncContextManager[None]:
        """Serve `add` and `conclude` while open. On leaving, everything accepted is durable (where the outbox is)."""

    def add(self, report: Report) -> bool:
        """Take a row and return without waiting; `False` when it was dropped (heartbeats and logs only, see kinds)."""

    async def conclude(self, attempt: AttemptKey, reports: Sequence[Report]) -> None:
        """Write the rows and the mark "this attempt is concluded" as one, and return when all of it is confirmed.

        All of it: these rows and every earlier row of the occurrence. Only then may the delivery be acked.
        Where no row of the occurrence is pending, it returns without a checkpoint.
        Raises `ReportsLost` when rows were lost with their file: the attempt is not concluded and has to run again.
        If cancelled, the rows stay and will be sent; only the waiting ends.
        """

    def is_concluded(self, attempt: AttemptKey) -> bool:
        """Whether this attempt was concluded here before, so that its message needs no second run."""

    async def settled(self, attempt: AttemptKey) -> None:
        """Return when no row of the attempt's occurrence waits for its confirm; raises `ReportsLost` as `conclude`.

        If cancelled, nothing changes.
        """

    async def started(self, attempt: AttemptKey) -> None:
        """Note that the attempt's code is about to run, and return when the death of this process would be counted.

        Until `conclude` or `returned`. If cancelled, it may be noted.
        """

    def begun(self, attempt: AttemptKey) -> None:
        """Note that the attempt's code runs, without making it wait: a death in the next moment is not counted."""

    def returned(self, attempt: AttemptKey) -> None:
        """Its message went back to its queue by intent: no death from now on is this attempt's."""

    def deaths(self, attempt: AttemptKey, parked: int = 0) -> int:
        """How many processes with this outbox died while this attempt ran; 0 where nothing outlives a process.

        So many of its snoozes were none: its message was sent away, each time under another key. Deaths under a key
        that was concluded with this outbox are in the message, and not counted here.
        """

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with what is wrong when rows cannot be written where they should be, with "" when they can again.

        Meanwhile no new work should be taken on. In Trio's thread; `tell` must neither wait nor raise.
        """

    async def deliver(self, publisher: Publisher) -> None:
        """Send rows over this connection until it is lost (`LinkLost`) or the call is cancelled.

        If cancelled or lost, rows without a confirm stay and are sent again by the next call, with the same bytes.
        """

    async def drained(self) -> None:
        """Return when no row is left. If cancelled, nothing changes."""
