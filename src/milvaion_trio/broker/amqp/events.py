"""What the broker tells us, as values, and the error for what it must not tell.

Separate because those who listen to a connection need only these, whichever driver brings the bytes.
"""

from typing import TypeAlias

from attrs import frozen
from pamqp.base import Frame

from milvaion_trio.model.envelope import Message

__all__ = [
    "AnsweredEvent",
    "BlockedEvent",
    "CancelledEvent",
    "ChannelClosedEvent",
    "ConfirmedEvent",
    "ConnectionClosedEvent",
    "DeliveredEvent",
    "EndedEvent",
    "Event",
    "OpenedEvent",
    "OversizedEvent",
    "ProtocolError",
    "ReturnedEvent",
]


class ProtocolError(ValueError):
    """AMQP 0-9-1 allows something else at this place: what came, or was to be sent, and what is allowed."""


# --- messages -------------------------------------------------------------------------------------------------------


@frozen
class DeliveredEvent:
    """A message came to a consumer."""

    channel: int
    delivery_tag: int
    redelivered: bool
    routing_key: str
    message: Message


@frozen
class OversizedEvent:
    """A message came to a consumer that is too large to be kept; its bytes are gone."""

    channel: int
    delivery_tag: int
    size: int
    """Bytes of its body."""


@frozen
class ReturnedEvent:
    """No queue took a message; its confirm still follows."""

    channel: int
    exchange: str
    routing_key: str
    message: Message
    """Without its body where that is too large to be kept."""


@frozen
class ConfirmedEvent:
    """The answer to one publish, or to all up to it."""

    channel: int
    delivery_tag: int
    multiple: bool
    is_stored: bool


@frozen
class CancelledEvent:
    """The broker ended a consumer, e.g. because its queue was deleted."""

    channel: int


@frozen
class BlockedEvent:
    """The broker has stopped reading publishes, or reads them again (`why` is empty)."""

    why: str


# --- questions ------------------------------------------------------------------------------------------------------


@frozen
class AnsweredEvent:
    """The answer to a question."""

    question: int
    method: Frame


@frozen
class ChannelClosedEvent:
    """The broker closed a channel because of an error."""

    channel: int
    why: str
    code: int
    questions: tuple[int, ...] = ()
    """What was asked on it and will never be answered."""


# --- the connection -------------------------------------------------------------------------------------------------


@frozen
class OpenedEvent:
    """The virtual host is open: channels can be opened."""


@frozen
class ConnectionClosedEvent:
    """The broker closes the connection."""

    code: int
    why: str


@frozen
class EndedEvent:
    """The broker agrees that the connection is over, which we ended."""


Event: TypeAlias = (
    DeliveredEvent
    | OversizedEvent
    | ReturnedEvent
    | ConfirmedEvent
    | CancelledEvent
    | BlockedEvent
    | AnsweredEvent
    | ChannelClosedEvent
    | OpenedEvent
    | ConnectionClosedEvent
    | EndedEvent
)
