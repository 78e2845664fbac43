"""The control protocol between a dev worker and the commands of a second terminal.

One JSON object per line, both ways. A request names what to do; the answers to one request are any number of
`{"message"…}` lines and one line that ends it: `{"done": …}` or `{"error": …}`.
Values and lines only: `dev_server` answers, `remote` asks, `sockets` knows where they meet.
"""

import json
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

import trio
from attrs import asdict, field, frozen

from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.members import Members
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.json_text import JsonValue, read, write

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
    "Scheduling",
    "Where",
    "encode_answer",
    "encode_request",
    "read_answer",
    "read_request",
]

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one line: RabbitMQ takes no longer message either (its `max_message_size` since 4.0)."""

CHUNK = 65536


# --- requests -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Enqueue:
    """Dispatch a job of the worker, as its client would."""

    job: str
    data: object = None
    delay: float | None = None
    wait: bool = False
    """Whether the answers go on until the occurrence has ended."""


@frozen(kw_only=True)
class Publish:
    """Publish a message as it is."""

    body_raw: str
    """The body's bytes as UTF-8 text; bytes that are none are lone surrogates (`surrogateescape`)."""
    exchange: str | None = None
    """`None`: the body is a job message, and everything else is made up as Milvaion's dispatcher does."""
    routing_key: str | None = None
    properties: Mapping[str, object] = field(factory=dict)
    wait: bool = False
    history: str | None = None
    """The file from which it is repeated: only the worker that keeps this one may run it. `None`: any may."""


@frozen(kw_only=True)
class Cancel:
    """Send a cancel signal."""

    occurrence_id: str
    reason: str | None = None


@frozen(kw_only=True)
class Scheduling:
    """Look at the schedules, each a `{"message"…}` line in the answer, or change one."""

    act: str
    """`list`, `next`, `add`, `pause`, `resume`, `trigger` or `remove`."""
    schedule_id: str | None = None
    job: str | None = None
    """To `add`."""
    keywords: Mapping[str, object] = field(factory=dict)
    """To `add`, as `Client.schedule` takes them."""
    count: int = 1
    """How many of its next times each tells."""


@frozen
class Where:
    """Tell in which folder the worker was started, the answer's `note`, and the file of its history, the `text`."""


Request: TypeAlias = Enqueue | Publish | Cancel | Scheduling | Where

_WORDS: Final[Mapping[type[Request], str]] = {
    Enqueue: "enqueue",
    Publish: "publish",
    Cancel: "cancel",
    Scheduling: "schedule",
    Where: "where",
}


def encode_request(request: Request) -> str:
    """The request's line; raises `ValueError` for data that no message can carry."""
    facts = asdict(request, recurse=False)
    if isinstance(request, Enqueue):
        facts["data"] = _written(request.data)
    elif isinstance(request, Scheduling) and "data" in request.keywords:
        facts["keywords"] = {**request.keywords, "data": _written(request.keywords["data"])}
    return json.dumps({"do": _WORDS[type(request)], **facts})


def read_request(line: bytes) -> Request:
    """The request of a line; raises `CommandFailed` that says what is wrong with it."""
    members = Members("request", _object(line))
    request: Request
    match members.text("do"):
        case "enqueue":
            request = Enqueue(
                job=members.text("job"),
                data=_data(members.text_or_null("data")),
                delay=members.seconds("delay"),
                wait=members.flag("wait"),
            )
        case "publish":
            request = Publish(
                body_raw=members.text("body_raw"),
                exchange=members.text_or_null("exchange"),
                routing_key=members.text_or_null("routing_key"),
                properties=members.mapping("properties"),
                wait=members.flag("wait"),
                history=members.text_or_null("history"),
            )
        case "cancel":
            request = Cancel(occurrence_id=members.text("occurrence_id"), reason=members.text_or_null("reason"))
        case "schedule":
            request = Scheduling(
                act=members.text("act"),
                schedule_id=members.text_or_null("schedule_id"),
                job=members.text_or_null("job"),
                keywords=_with_data(members.mapping("keywords")),
                count=members.whole_number("count") or 1,
            )
        case "where":
            request = Where()
        case word:
            raise CommandFailed(f"A request cannot ask to {word!r}; it can ask to {', '.join(_WORDS.values())}.")
    members.check_empty()
    return request


def _written(data: object) -> str | None:
    """The data as text: the digits of a number are the user's, and `json.dumps` would give those of a float."""
    return None if data is None else write(cast("JsonValue", data))


def _data(text: str | None) -> JsonValue:
    try:
        return None if text is None else read(text, case_matters=True, keep_digits=True)
    except InvalidMessage as error:
        raise CommandFailed(f"The data of the request cannot be read. {error.problem}") from error


def _with_data(keywords: Mapping[str, object]) -> Mapping[str, object]:
    members = Members("request", keywords)
    return {**keywords, "data": _data(members.text_or_null("data"))} if "data" in keywords else keywords


# --- answers --------------------------------------------------------------------------------------------------------


@frozen
class Reported:
    """A message that the worker published for the occurrence, or a schedule, as the line that is shown."""

    line: str


@frozen(kw_only=True)
class Done:
    """The end of the answers: it was done, or the occurrence has ended."""

    occurrence_id: str | None = None
    ended: str | None = None
    """Milvaion's name of the final status, where the request was to wait for it."""
    text: str | None = None
    """The result or the error, as one line, where the occurrence has ended."""
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
            told = {name: value for name in ("text", "note") if isinstance(value := rest.get(name), str)}
            return Done(occurrence_id=occurrence, ended=ended, **told)
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
