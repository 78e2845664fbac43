"""The lines between a dev worker and another terminal: strict, bounded, and they say what is wrong."""

from datetime import UTC, datetime
from typing import cast

import pytest
import trio.testing

from milvaion_trio.cli.control import (
    Cancel,
    Done,
    Enqueue,
    Lines,
    Problem,
    Publish,
    Reported,
    Request,
    Scheduling,
    encode_answer,
    encode_request,
    read_answer,
    read_request,
)
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.message_file import publication
from milvaion_trio.model.json_text import JsonValue, read, write

MANY_DIGITS = '[12345678901234567.891,1.10,123456789012345678901,{"a":1,"A":2}]'
"""And names that differ in case only, which a cluster takes too."""

REQUESTS = [
    Enqueue(job="SendEmail", data={"to": ["ä", None]}, delay=1.5, wait=True),
    Publish(body_raw="\udcff{}", exchange="", routing_key="q", properties={"headers": {}}, wait=False),
    Publish(body_raw="{}"),
    Cancel(occurrence_id="x", reason="because"),
    Scheduling(act="list"),
    Scheduling(act="add", job="Poll", keywords={"every": 1.5, "data": {"to": "ä"}, "id": "p"}, count=3),
]

ANSWERS = [
    Reported('{"queue": "q", "body": {"Message":"\\u003C"}}'),
    Done(occurrence_id="x", ended="Completed", text='"sent"', note=None),
    Done(note="set aside"),
    Problem("no\nway"),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_is_read_as_it_was_sent(request_: Request) -> None:
    assert read_request(encode_request(request_).encode()) == request_


@pytest.mark.parametrize(
    "request_",
    [
        Enqueue(job="SendEmail", data=read(MANY_DIGITS, case_matters=True, keep_digits=True)),
        Scheduling(act="add", job="Poll", keywords={"data": read(MANY_DIGITS, case_matters=True, keep_digits=True)}),
    ],
)
def test_numbers_keep_their_digits(request_: Enqueue | Scheduling) -> None:
    came = read_request(encode_request(request_).encode())

    assert isinstance(came, Enqueue | Scheduling)
    data = came.data if isinstance(came, Enqueue) else came.keywords["data"]
    assert write(cast("JsonValue", data)) == MANY_DIGITS


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_read_as_it_was_sent(answer: Reported | Done | Problem) -> None:
    assert read_answer(encode_answer(answer).encode()) == answer


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"{", "A line must be one JSON object; this one is no JSON: "),
        (b"[1]", "A line must be one JSON object, not list."),
        (b"{}", "The member 'do' of the request is None; it must be a text."),
        (
            b'{"do":"dance"}',
            "A request cannot ask to 'dance'; it can ask to enqueue, publish, cancel, schedule, where.",
        ),
        (b'{"do":"enqueue"}', "The member 'job' of the request is None; it must be a text."),
        (b'{"do":"enqueue","job":"A","wait":1}', "The member 'wait' of the request is 1; it must be true or false."),
        (b'{"do":"enqueue","job":"A","delay":-1}', "The member 'delay' of the request is -1; it must be a number of"),
        (b'{"do":"enqueue","job":"A","data":"1","x":2}', "The request has a member 'x' that nobody reads."),
        (b'{"do":"enqueue","job":"A","data":"{"}', "The data of the request cannot be read. "),
        (b'{"do":"schedule","act":"add","keywords":{"data":"{"}}', "The data of the request cannot be read. "),
        (b'{"do":"schedule","act":"add","keywords":{"data":7}}', "The member 'data' of the request is 7; it must be"),
        (b"[" * 100_000, "A line must be one JSON object; this one is no JSON: "),
    ],
)
def test_a_request_that_cannot_be_read_is_explained(line: bytes, text: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        read_request(line)

    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({"headers": {"x": {"type": "I", "value": "1"}}}, "The header x is "),
        ({"headers": {"x": {"type": "I", "value": True}}}, "The header x is "),
        ({"headers": {"x": 1}}, "The header x is 1; it must be an object like"),
        (
            {"timestamp": "now"},
            "The member 'timestamp' of the message's properties is 'now'; it must be",
        ),
        ({"user_id": "me"}, "The message's properties has a member 'user_id' that nobody reads."),
    ],
)
def test_properties_that_amqp_has_not_are_explained(properties: dict[str, object], text: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        publication(Publish(body_raw="{}", exchange="", properties=properties))

    assert str(caught.value).startswith(text)


def test_every_type_of_a_header_arrives_as_its_python_type() -> None:
    headers = {
        "S": {"type": "S", "value": "text"},
        "I": {"type": "I", "value": 3},
        "t": {"type": "t", "value": True},
        "T": {"type": "T", "value": 1775121303},
        "A": {"type": "A", "value": [{"type": "F", "value": {"n": {"type": "l", "value": 1}}}]},
        "V": {"type": "V"},
    }

    made = publication(Publish(body_raw="\udcff", exchange="e", routing_key="k", properties={"headers": headers}))

    assert made.message.headers == {
        "S": "text",
        "I": 3,
        "t": True,
        "T": datetime(2026, 4, 2, 9, 15, 3, tzinfo=UTC),
        "A": [{"n": 1}],
        "V": None,
    }
    assert made.message.body == b"\xff"
    assert (made.exchange, made.routing_key) == ("e", "k")


async def test_lines_arrive_whole_however_they_are_cut() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(b'{"a"')
    await ours.send_all(b':1}\n{"b":2}\n{"c"')
    await ours.send_eof()
    lines = Lines(theirs)

    assert [await lines.receive() for _ in range(3)] == [b'{"a":1}', b'{"b":2}', None]


async def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    lines = Lines(theirs, longest=10)
    await ours.send_all(b"x" * 100)

    with pytest.raises(CommandFailed, match="A line may have 10 bytes, and this one has more"):
        await lines.receive()
