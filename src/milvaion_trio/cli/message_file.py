"""Messages in files, for `enqueue --message`: published byte for byte, with the properties that the file names.

A file is either an object with `exchange`, `routing_key`, `properties` and `body_raw`, the form of Milvaion's example
messages, or the bare body of a job message.
"""

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from milvaion_trio.cli.control import Publish
from milvaion_trio.cli.failures import CommandFailed, UsageError
from milvaion_trio.cli.members import Members
from milvaion_trio.model import headers
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.wire import decode_job
from milvaion_trio.runtime.dispatching import Destination, dispatch

__all__ = ["dispatched", "job_message", "publication", "read_message_file"]

_MEMBERS = ("exchange", "routing_key", "properties", "body_raw")

_JOB_NAME = "jobNameInWorker"
"""The member by which the body of a job message is known."""

_INTEGERS = "bBsuIilL"
"""The letters of AMQP's field tables for whole numbers. They travel as `I` where they fit, else as `l`."""

_LAST_SECOND = 253_402_300_799
"""Of the year 9999, the last that a time can name here."""


def read_message_file(path: Path, *, wait: bool) -> Publish:
    """The request to publish what is in the file; raises `UsageError` when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The message file {path} cannot be read: {error.strerror}.") from error
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError):
        value = None  # a body may be anything; the worker says what is wrong with it
    if isinstance(value, dict) and not any(name.lower() == _JOB_NAME.lower() for name in value):
        missing = [member for member in _MEMBERS if member not in value]
        if missing:
            raise UsageError(
                f"The message file {path} has no {', no '.join(missing)}. A message has {', '.join(_MEMBERS)}; the "
                f"bare body of a job message has at least id and {_JOB_NAME}."
            )
    if not (isinstance(value, dict) and all(member in value for member in _MEMBERS)):
        return Publish(body_raw=content.decode("utf-8", "surrogateescape"), wait=wait)
    return Publish(**{member: value[member] for member in _MEMBERS}, wait=wait)


def publication(request: Publish) -> Publication:
    """The message of a request that names its exchange; raises `CommandFailed` for properties that AMQP has not."""
    properties = Members("message's properties", request.properties)
    message = Message(
        body=_bytes(request.body_raw),
        headers={name: _header(name, value) for name, value in properties.mapping("headers").items()},
        message_id=properties.text_or_null("message_id"),
        correlation_id=properties.text_or_null("correlation_id"),
        content_type=properties.text_or_null("content_type"),
        timestamp=properties.whole_number("timestamp"),
        persistent=properties.whole_number("delivery_mode") == 2,
    )
    properties.whole_number("priority")  # read by nobody: job queues are no priority queues
    properties.check_empty()
    return Publication(message, request.routing_key or "", request.exchange or "")


def job_message(request: Publish) -> JobMessage:
    """The body of a request that names no exchange; raises `CommandFailed` when it is no job message."""
    try:
        return decode_job(_bytes(request.body_raw))
    except InvalidMessage as error:
        raise CommandFailed(
            f"The file is neither an object with {', '.join(_MEMBERS)} nor the body of a job message: {error.problem}"
        ) from error


def dispatched(request: Publish, job: JobMessage, to: Destination, *, origin: str | None = None) -> Publication:
    """A bare body, which is this job message, as Milvaion's dispatcher sends it to there (WIRE.md 2.3).

    With an `origin`, workers are told that no Milvaion server knows the occurrence.
    """
    return dispatch(
        to,
        job,
        OccurrenceId(str(uuid.uuid4())),
        timestamp=int(time.time()),
        body=_bytes(request.body_raw),
        more={} if origin is None else {headers.ORIGIN: origin},
    )


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise CommandFailed(f"body_raw is no UTF-8 text: there is half a character at {error.start}.") from error


def _header(name: str, typed: object) -> HeaderValue:
    """The value of `{"type": letter, "value": …}`, the letter being that of AMQP 0-9-1's field tables."""
    match typed:
        case {"type": "S", "value": str() as value}:
            return value
        case {"type": "t", "value": bool() as value}:
            return value
        case {"type": str() as letter, "value": int() as number} if letter in _INTEGERS and type(number) is int:
            return number
        case {"type": "T", "value": int() as seconds} if type(seconds) is int and 0 <= seconds <= _LAST_SECOND:
            return datetime.fromtimestamp(seconds, UTC)
        case {"type": "d" | "f", "value": int() | float() as number}:
            return float(number)
        case {"type": "x", "value": str() as value}:
            return bytearray(_bytes(value))  # `bytes` is a long string that is no text
        case {"type": "A", "value": list() as items}:
            return [_header(f"{name}[{index}]", item) for index, item in enumerate(items)]
        case {"type": "F", "value": dict() as members}:
            return {key: _header(f"{name}.{key}", value) for key, value in members.items()}
        case {"type": "V"}:
            return None
    raise CommandFailed(
        f'The header {name} is {json.dumps(typed)}; it must be an object like {{"type": "S", "value": "text"}}, with '
        "a type letter of AMQP 0-9-1 (S text, I int32, l int64, t boolean, T time, A list, F table) and a value of it."
    )
