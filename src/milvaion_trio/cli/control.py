"""The control protocol between a dev worker and the commands of a second terminal.

One JSON object per line, both ways. A request names what to do; the answers to one request are any number of
`{"message"…}` lines and one line that ends it: `{"done": …}` or `{"error": …}`.
Values and lines only: `dev_server` answers, `remote` asks, `sockets` knows where they meet.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import trio
from attrs import NOTHING, Attribute, asdict, field, fields, frozen

from milvaion_trio.cli.failures import CommandFailed

__all__ = [
    "LONGEST_LINE",
    "Answer",
    "Cancel",
    "Done",
    "Enqueue",
    "Lines",
    "Problem",
    "Publish",
    "Reported",
    "Request",
    "encode_answer",
    "encode_request",
    "read_answer",
    "read_request",
]

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one line: RabbitMQ takes no longer message either (its `max_message_size` since 4.0)."""

CHUNK = 65536


# --- requests -------------------------------------------------------------------------------------------------------


def _must_be(words: str, *kinds: type) -> Callable[[object, Attribute[object], object], None]:
    def check(_: object, attribute: Attribute[object], value: object) -> None:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise CommandFailed(f"The member {attribute.name!r} of a request is {value!r}; it must be {words}.")

    return check


_a_text = _must_be("a text", str)
_a_text_or_null = _must_be("a text or null", str, type(None))
_a_flag = _must_be("true or false", bool)


def _a_delay(_: object, attribute: Attribute[object], value: object) -> None:
    if value is not None and not (type(value) in (int, float) and 0 <= value < math.inf):
        raise CommandFailed(f"The delay is {value!r}; it must be a number of seconds, 0 or more.")


@frozen(kw_only=True)
class Enqueue:
    """Dispatch a job of the worker, as its client would."""

    job: str = field(validator=_a_text)
    data: object = None
    delay: float | None = field(default=None, validator=_a_delay)
    wait: bool = field(default=False, validator=_a_flag)
    """Whether the answers go on until the occurrence has ended."""


@frozen(kw_only=True)
class Publish:
    """Publish a message as it is."""

    body_raw: str = field(validator=_a_text)
    """The body's bytes as UTF-8 text; bytes that are none are lone surrogates (`surrogateescape`)."""
    exchange: str | None = field(default=None, validator=_a_text_or_null)
    """`None`: the body is a job message, and everything else is made up as Milvaion's dispatcher does."""
    routing_key: str = field(default="", validator=_a_text)
    properties: Mapping[str, object] = field(factory=dict, validator=_must_be("an object", dict))
    wait: bool = field(default=False, validator=_a_flag)


@frozen(kw_only=True)
class Cancel:
    """Send a cancel signal."""

    occurrence_id: str = field(validator=_a_text)
    reason: str | None = field(default=None, validator=_a_text_or_null)


Request: TypeAlias = Enqueue | Publish | Cancel

_REQUESTS: Mapping[str, type[Request]] = {"enqueue": Enqueue, "publish": Publish, "cancel": Cancel}


def encode_request(request: Request) -> str:
    """The request's line."""
    word = next(word for word, kind in _REQUESTS.items() if isinstance(request, kind))
    return json.dumps({"do": word, **asdict(request, recurse=False)})


def read_request(line: bytes) -> Request:
    """The request of a line; raises `CommandFailed` that says what is wrong with it."""
    members = _object(line)
    word = members.pop("do", None)
    kind = _REQUESTS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise CommandFailed(f'The member "do" of a request is {word!r}; it must be one of {", ".join(_REQUESTS)}.')
    known = fields(kind)
    if unknown := set(members) - {attribute.name for attribute in known}:
        raise CommandFailed(f"A request to {word} has no member {min(unknown)!r}.")
    if missing := [member.name for member in known if member.default is NOTHING and member.name not in members]:
        raise CommandFailed(f"A request to {word} needs the member {missing[0]!r}.")
    return kind(**members)


# --- answers --------------------------------------------------------------------------------------------------------


@frozen
class Reported:
    """A message that the worker published for the occurrence, as the line that is shown."""

    line: str


@frozen(kw_only=True)
class Done:
    """The end of the answers: it was done, or the occurrence has ended."""

    occurrence_id: str | None = None
    ended: str | None = None
    """Milvaion's name of the final status, where the request was to wait for it."""
    note: str | None = None
    """What to know about it."""


@frozen
class Problem:
    """The end of the answers: it was not done, or not finished."""

    text: str


Answer: TypeAlias = Reported | Done | Problem


def encode_answer(answer: Answer) -> str:
    """The answer's line."""
    match answer:
        case Reported(line):
            # Not parsed and written again: the body stands in it as it travelled, byte for byte.
            return f'{{"message":{line}}}'
        case Done():
            return json.dumps({"done": asdict(answer)})
        case Problem(text):
            return json.dumps({"error": text})


def read_answer(line: bytes) -> Answer:
    """The answer of a line; raises `CommandFailed` for anything else."""
    if line.startswith(b'{"message":'):
        return Reported(line.decode("utf-8", "surrogateescape").strip().removeprefix('{"message":')[:-1])
    match _object(line):
        case {"error": str(text)}:
            return Problem(text)
        case {"done": {"occurrence_id": str() | None as occurrence, "ended": str() | None as ended, **rest}}:
            note = rest.get("note")
            return Done(occurrence_id=occurrence, ended=ended, note=note if isinstance(note, str) else None)
    raise CommandFailed("The dev worker answered with something this version does not know. Are both of one version?")


def _object(line: bytes) -> dict[str, object]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"A line must be one JSON object; this one is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CommandFailed(f"A line must be one JSON object, not {type(value).__name__}.")
    return value


# --- lines ----------------------------------------------------------------------------------------------------------


class Lines:
    """A stream read and written by lines, none longer than `longest`."""

    def __init__(self, stream: trio.abc.Stream, longest: int = LONGEST_LINE) -> None:
        self._stream = stream
        self._longest = longest
        self._received = bytearray()

    async def send(self, line: str) -> None:
        """Send a line. If cancelled, part of it may have been sent, so nothing more can be."""
        await self._stream.send_all(line.encode("utf-8", "surrogateescape") + b"\n")

    async def receive(self) -> bytes | None:
        """The next line, or `None` when the other side has ended the stream.

        Raises `CommandFailed` for a line that is too long. If cancelled, what has arrived is kept.
        """
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > self._longest:
                raise CommandFailed(f"A line may have {self._longest} bytes, and this one has more. Nothing was done.")
            chunk = await self._stream.receive_some(CHUNK)
            if not chunk:
                return None
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line
