"""A publication without its body as text and back, for a column beside the body.

Separate from the files that hold it: what was published is the same for all of them, and so has to come back the same.
"""

import json

from milvaion_trio.disk.header_text import plain, restored
from milvaion_trio.model.envelope import Message, Publication

__all__ = ["envelope_text", "publication_of"]


def envelope_text(publication: Publication) -> str:
    """All of it but the body."""
    message = publication.message
    return json.dumps(
        [
            publication.exchange,
            publication.routing_key,
            publication.delay,
            message.message_id,
            message.correlation_id,
            message.content_type,
            message.timestamp,
            message.persistent,
            {name: plain(value) for name, value in message.headers.items()} if message.headers else None,
        ]
    )


def publication_of(text: str, body: bytes) -> Publication:
    """What `envelope_text` made this of.

    Raises `ValueError`, `ArithmeticError`, `TypeError` or `AttributeError` for anything else.
    """
    exchange, key, delay, message_id, correlation_id, content_type, timestamp, persistent, headers = json.loads(text)
    message = Message(
        body=body,
        headers={name: restored(value) for name, value in (headers or {}).items()},
        message_id=message_id,
        correlation_id=correlation_id,
        content_type=content_type,
        timestamp=timestamp,
        persistent=persistent,
    )
    return Publication(message, key, exchange, delay)
