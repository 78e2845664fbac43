"""Copies of one message, each with ids of its own: a queue is filled in a second, and no worker sees an id twice.

The message is made by the peer itself, so what is copied is exactly what its own client sends.
"""

import re
import uuid
from collections.abc import Iterator

from benchmarks.peers.raw import RawMessage

__all__ = ["copies"]

_ID = re.compile(rb"(?<![0-9a-f-])[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}(?![0-9a-f-])")


def copies(message: RawMessage, count: int) -> Iterator[RawMessage]:
    """So many, alike but for their UUIDs; what was one id in several places is one in the copy too."""
    ids = sorted({match[0] for text in (message.properties, message.body) for match in _ID.finditer(text)})
    for _ in range(count):
        properties, body = message.properties, message.body
        for old in ids:
            made = uuid.uuid4()
            new = (str(made) if b"-" in old else made.hex).encode()
            properties, body = properties.replace(old, new), body.replace(old, new)
        yield RawMessage(properties, body)
