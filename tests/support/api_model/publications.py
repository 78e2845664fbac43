"""What our worker published on the embedded broker, given to the model as if it had come over AMQP."""

from collections.abc import Iterable

from attrs import frozen
from tests.support.api_model.model import ApiModel
from tests.support.api_model.topology import API_QUEUES

from milvaion_trio.model.envelope import Publication
from milvaion_trio.testing import VIRTUAL_START, Published

__all__ = ["EmbeddedMessage", "replay", "wire_message"]

STEP = 0.1
"""Seconds between ticks while something is to be stored."""
LONG_STEP = 1.0


@frozen(kw_only=True)
class EmbeddedMessage:
    """A `WireMessage`."""

    exchange: str
    routing_key: str
    redelivered: bool = False
    properties: dict[str, object]
    headers: dict[str, tuple[str, object]]
    body: bytes
    delivery_tag: int = 0


def wire_message(publication: Publication) -> EmbeddedMessage:
    """The message as a transport writes it: every integer header as int32 (WIRE.md 0.2)."""
    message = publication.message
    properties = {
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "message_id": message.message_id,
        "timestamp": message.timestamp,
        "delivery_mode": 2 if message.persistent else 1,
    }
    return EmbeddedMessage(
        exchange=publication.exchange,
        routing_key=publication.routing_key,
        properties={name: value for name, value in properties.items() if value is not None},
        headers={name: (_letter(value), value) for name, value in message.headers.items()},
        body=message.body,
    )


def replay(api: ApiModel, published: Iterable[Published], *, and_then: float = 5.0) -> None:
    """Give the model everything that was published in virtual time, at its time, and some seconds more."""
    start = VIRTUAL_START.to_datetime().timestamp()
    queues = {(queue.exchange, queue.key): queue.name for queue in API_QUEUES.values()}
    now = start
    for item in published:
        now = _pass_time(api, now, start + item.at)
        queue = queues.get((item.publication.exchange, item.publication.routing_key))
        if queue is not None:
            api.take(queue, wire_message(item.publication), now)
    _pass_time(api, now, now + and_then)


def _pass_time(api: ApiModel, now: float, until: float) -> float:
    while now < until:
        now = min(until, now + (STEP if api.unstored else LONG_STEP))
        api.tick(now)
    return until


def _letter(value: object) -> str:
    return "t" if isinstance(value, bool) else "I" if isinstance(value, int) else "S"
