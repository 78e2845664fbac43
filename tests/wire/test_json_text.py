"""The strict reader, and the writer's numbers."""

import enum
import json
from decimal import Decimal

import pytest

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.json_text import JsonValue, quote, read, write


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b'{"a":1,}',
        b"[1,]",
        b"// comment\n1",
        b"'a'",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b"01",
        b"+1",
        b".5",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 5_000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"tab\there"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        b'{"a":1,"a":2}',
        b'{"a":1,"A":2}',
        b'[{"x":{"Id":1,"iD":2}}]',
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\\u12"',
        b'"\\x"',
        b'"open',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_reader_refuses_and_raises_nothing_else(text: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not JSON as Milvaion reads it"):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" \r\n\t{} ", {}),
        (b"[9223372036854775807,-9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b"[1e3,0.5,-0]", [1000.0, 0.5, 0]),
        (b"null", None),
        ('"\u00fc\U0001f600"'.encode(), "\u00fc\U0001f600"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
    ],
)
def test_reader_takes(text: bytes, value: JsonValue) -> None:
    assert read(text) == value
    assert read(text.decode()) == value


def test_nesting_of_64_levels_is_read_and_written() -> None:
    text = "[" * 64 + "]" * 64

    assert write(read(text)) == text


def test_brackets_in_texts_are_no_nesting() -> None:
    value: JsonValue = ["[" * 100, '\\"' + "{" * 100, "\\"]

    assert read(json.dumps(value)) == value


def test_lone_surrogates_are_replaced() -> None:
    assert read(rb'{"a\ud800":["\udfff","\uD83D"]}') == {"a\ufffd": ["\ufffd", "\ufffd"]}
    assert read('"\ud800"') == "\ufffd"


def test_names_may_differ_in_case_only_where_it_matters() -> None:
    assert read(b'{"a":1,"A":2}', case_matters=True) == {"a": 1, "A": 2}
    with pytest.raises(InvalidMessage, match="'a' stands twice"):
        read(b'{"a":1,"a":2}', case_matters=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (100.0, "100"),
        (-1.25, "-1.25"),
        (1e14, "100000000000000"),
        (1e15, "1E+15"),
        (123456789012345.0, "123456789012345"),
        (12345678901234567.0, "12345678901234568"),
        (123456789012345680.0, "1.2345678901234568E+17"),
        (0.0001, "0.0001"),
        (0.00001, "1E-05"),
        (1.5e-7, "1.5E-07"),
        (5e-324, "5E-324"),
        (1.7976931348623157e308, "1.7976931348623157E+308"),
        (Decimal("0.50"), "0.50"),
        (Decimal(2**63 - 1), "9223372036854775807"),
        (Decimal(-(2**64)), "-1.8446744073709551616E+19"),
        (True, "true"),
        (-(2**63), "-9223372036854775808"),
    ],
)
def test_numbers_have_the_form_of_net(number: JsonValue, text: str) -> None:
    assert write(number) == text
    assert json.loads(text) == number


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [float("-inf")], Decimal("NaN"), {"a": 2**63}, -(2**63) - 1], ids=repr
)
def test_writer_refuses_numbers_that_json_does_not_have(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(value)


def test_writer_refuses_what_no_reader_would_take() -> None:
    endless: list[JsonValue] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="contains itself"):
        write(endless)


def test_quoted_enum_is_its_text() -> None:
    class Colour(str, enum.Enum):  # noqa: UP042  # what code from before StrEnum looks like
        RED = "red"

    assert quote(Colour.RED) == '"red"'
