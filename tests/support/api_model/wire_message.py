"""What the model needs to know of a message, whoever brought it."""

import enum
from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

__all__ = ["Settlement", "Verdict", "WireMessage", "message_id"]


class WireMessage(Protocol):
    """A delivery with the AMQP types of its headers."""

    @property
    def exchange(self) -> str:
        """Where it was published to."""

    @property
    def routing_key(self) -> str:
        """The key it was published with."""

    @property
    def redelivered(self) -> bool:
        """Whether the broker may have delivered it before."""

    @property
    def properties(self) -> Mapping[str, object]:
        """The basic properties that are present, without the headers."""

    @property
    def headers(self) -> Mapping[str, tuple[str, object]]:
        """By name the letter of the type and the value."""

    @property
    def body(self) -> bytes:
        """The body."""

    @property
    def delivery_tag(self) -> int:
        """What it is settled by, on its channel."""


class Verdict(enum.Enum):
    """What the API does with a delivery."""

    ACK = "ack"
    DROP = "reject without requeue"
    PARK = "keep: the real API takes it up again for ever"


@frozen
class Settlement:
    """A delivery whose fate is known."""

    queue: str
    message: WireMessage
    verdict: Verdict


def message_id(message: WireMessage) -> str | None:
    """By what copies of a message are recognised (RELIABILITY.md 2.6, W12)."""
    found = message.properties.get("message_id")
    return found if isinstance(found, str) and found else None
