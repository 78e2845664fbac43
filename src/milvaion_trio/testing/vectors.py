"""Messages written as JSON: what a capture of another program's traffic, or a protocol's test vector, looks like.

Separate because it only reads; which worker gets the message is not its business.
"""

import json
from collections.abc import Mapping
from typing import TypeAlias

from milvaion_trio.model.envelope import HeaderValue, Message, Publication

__all__ = ["Vector", "publication_from"]

Vector: TypeAlias = Mapping[str, object]
"""`exchange`, `routing_key`, `properties` with AMQP's names, `body_raw` (a text) or `body` (any JSON value)."""


def publication_from(vector: Vector) -> Publication:
    """The message as it stands there. A header is a plain value, or `{"type": …, "value": …}`."""
    properties = _object(vector.get("properties"))
    body = vector.get("body_raw")
    text = body if isinstance(body, str) else json.dumps(vector.get("body"))
    timestamp = properties.get("timestamp")
    message = Message(
        body=text.encode(),
        headers={name: _value(header) for name, header in _object(properties.get("headers")).items()},
        message_id=_text(properties.get("message_id")),
        correlation_id=_text(properties.get("correlation_id")),
        content_type=_text(properties.get("content_type")),
        timestamp=timestamp if isinstance(timestamp, int) else None,
    )
    return Publication(message, _text(vector.get("routing_key")) or "", _text(vector.get("exchange")) or "")


def _value(header: object) -> HeaderValue:
    return header["value"] if isinstance(header, Mapping) and "value" in header else header


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
