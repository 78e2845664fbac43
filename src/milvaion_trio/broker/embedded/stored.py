"""A message as it lies in the file of an embedded broker: a row, and back.

Separate from the store, which says when rows are written and what they mean together.
"""

import zlib
from collections.abc import Container, Sequence

from attrs import frozen

from milvaion_trio.disk.envelope_text import envelope_text, publication_of
from milvaion_trio.model.envelope import Publication

__all__ = ["StoredMessage", "message_of", "row_of"]


@frozen
class StoredMessage:
    """A message in a queue."""

    number: int
    """Its place: all that came earlier have smaller ones."""
    queue: str
    publication: Publication
    due: float | None = None
    """When it reaches the queue, in Unix seconds; `None` when it is there."""


def row_of(message: StoredMessage) -> tuple[object, ...]:
    """The columns of `message`."""
    envelope, body = envelope_text(message.publication), message.publication.message.body
    return message.number, message.queue, message.due, envelope, body, _checksum(message.queue, envelope, body)


def message_of(row: Sequence[object], known: Container[str]) -> StoredMessage:
    """The message of a row in one of the queues that are known.

    Raises `ValueError`, `ArithmeticError`, `TypeError` or `AttributeError` for what nobody wrote.
    """
    number, queue, due, envelope, body, checksum = row
    if not (isinstance(number, int) and isinstance(due, float | None) and isinstance(body, bytes) and queue in known):
        raise ValueError("a message has the wrong types, or an unknown queue")
    if checksum != _checksum(str(queue), str(envelope), body):
        raise ValueError(f"message {number} is not as it was written")
    return StoredMessage(number, str(queue), publication_of(str(envelope), body), due)


def _checksum(queue: str, envelope: str, body: bytes) -> int:
    """SQLite checks the frame of what is written, not the picture; a message that is garbled must not run."""
    return zlib.crc32(body, zlib.crc32(f"{queue}\0{envelope}".encode()))
