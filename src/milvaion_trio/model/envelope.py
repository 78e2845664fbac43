"""A message as a broker carries it: body, properties, headers, and where it goes.

Separate from the wire's JSON: transports need this and never look into a body.
"""

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

__all__ = ["HeaderValue", "Message", "Publication"]

HeaderValue: TypeAlias = object
"""What a header may hold once decoded: any AMQP field type. Read it with the total functions of `model.headers`.

Written, it is `str` (long string), `bool` or `int`; an int always travels as int32 (WIRE.md 0.2).
"""


@frozen(kw_only=True)
class Message:
    """Body, headers and the basic properties that Milvaion or we read."""

    body: bytes
    headers: Mapping[str, HeaderValue] = field(factory=dict)
    message_id: str | None = None
    correlation_id: str | None = None
    content_type: str | None = None
    timestamp: int | None = None
    """Unix seconds, set by the publisher."""
    persistent: bool = True


@frozen
class Publication:
    """A message and its destination."""

    message: Message
    routing_key: str
    exchange: str = ""
    """The default exchange unless said: the routing key is then the queue's name."""
    delay: float = 0.0
    """Seconds the message waits in the broker before it reaches its queue; 0 goes straight through.

    What waits is on its way to one queue, so a delay goes with the default exchange only.
    """

    def __attrs_post_init__(self) -> None:
        """Refuse a delay on the way to any other exchange; raises `ValueError`."""
        if self.delay > 0 and self.exchange:
            raise ValueError(
                f"A message with a delay is for a queue, not for exchange {self.exchange!r}: publish it to the default "
                "exchange with the queue's name as routing key."
            )
