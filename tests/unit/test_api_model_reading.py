"""The model reads as System.Text.Json does, and PostgreSQL's columns take what they take (WIRE.md 0.1)."""

import json
from collections.abc import Callable

import pytest
from tests.support.amqp_vectors import vector
from tests.support.api_model.net_json import Unparsable, parse, plain, write
from tests.support.api_model.net_values import Members, parse_date
from tests.support.api_model.postgres import Refused, check_json_text, check_text

GUID = "019D4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"\xff"',
        b"NaN",
        b"[Infinity]",
        b"[1,]",
        b"{} {}",
        b"// no\n{}",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b"['a']",
        b'"a\tb"',
        rb'"\x41"',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        rb'{"\ud800":1}',
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_no_document(body: bytes) -> None:
    with pytest.raises(Unparsable):
        parse(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" \r\n\t null ", None),
        (rb'"\ud83d\ude00\u0000\/"', "\U0001f600\0/"),
        (b'"' + b"[" * 100 + b'"', "[" * 100),
        (b"[" * 64 + b"]" * 64, None),
        (b"[1e999, 1.50]", [float("inf"), 1.5]),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_a_document(body: bytes, value: object) -> None:
    found = plain(parse(body))

    assert value is None or found == value


def test_texts_are_escaped_as_net_escapes_them() -> None:
    escaping = vector("serializer_facts")["escaping"]
    assert isinstance(escaping, dict)

    assert write(escaping["input"]) == escaping["json_text"]
    assert json.loads(write({"a": [1, 2.5, 2.0, None, True]})) == {"a": [1, 2.5, 2, None, True]}


def reader(body: str) -> Members:
    return Members(parse(body), "test")


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ('{"A":null}', Members.guid),
        (f'{{"A":"{GUID.replace("-", "")}"}}', Members.guid),
        (f'{{"A":"{{{GUID}}}"}}', Members.guid),
        ('{"A":"3"}', Members.integer),
        ('{"A":3.0}', Members.integer),
        ('{"A":3e0}', Members.integer),
        ('{"A":true}', Members.integer),
        ('{"A":null}', Members.integer),
        ('{"A":2147483648}', Members.integer),
        ('{"A":9223372036854775808}', Members.long),
        ('{"A":1}', Members.text),
        ('{"A":{}}', Members.text),
        ('{"A":1}', Members.flag),
        ('{"A":"true"}', Members.flag),
        ('{"A":null}', Members.flag),
        ('{"A":null}', Members.date),
        ('{"A":{}}', Members.items),
        ('{"A":[]}', Members.nested),
        ('{"A":[1]}', Members.texts),
        ('{"A":{"b":1}}', Members.named_texts),
    ],
)
def test_no_value_of_another_type_is_read(body: str, read: Callable[[Members, str], object]) -> None:
    with pytest.raises(Unparsable, match=r"test\.A"):
        read(reader(body), "A")


def test_absent_members_have_the_defaults_of_net_and_names_have_no_case() -> None:
    """Of two that differ in case only the last wins."""
    members = reader(f'{{"other":[],"OCCURRENCEID":"{GUID}","a":1,"A":2}}')

    assert members.guid("OccurrenceId") == GUID.lower()
    assert members.integer("a") == 2
    assert members.guid("missing") == "00000000-0000-0000-0000-000000000000"
    assert (members.integer("missing"), members.flag("missing"), members.text("missing")) == (0, False, None)
    assert members.date("missing").text == "0001-01-01T00:00:00"
    assert Members(parse('{"a":1}'), "test", case_matters=True).integer("A") == 0


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-04-02T09:15:30.1234567+03:00", 123456),
        ("2026-04-02T09:15:30", 0),
        ("2026-04-02T09:15:30.123456789Z", 123456),
        ("2026-04-02", 0),
        ("2026-04-02T09:15Z", 0),
        ("2026-04-02T09:15:30.5Z", 500000),
    ],
)
def test_dates_that_are_read(text: str, microsecond: int) -> None:
    date = parse_date(text)

    assert date.utc.microsecond == microsecond
    assert date.is_utc == text.endswith("Z")


def test_an_offset_is_applied() -> None:
    assert parse_date("2026-04-02T09:15:30+03:00").utc == parse_date("2026-04-02T06:15:30Z").utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-04-02 09:15:30Z",
        "2026-04-02T09:15:30+0000",
        "2026-02-30T00:00:00Z",
        "2026-04-02T24:00:00Z",
        "2026-04-02T09:15:60Z",
        "2026-04-02T09:15:30.Z",
        "2026-04-02T09:15:30+15:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "2026-04-02T09:15:30z",
        "1775121301",
    ],
)
def test_dates_that_are_not_read(text: str) -> None:
    with pytest.raises(Unparsable):
        parse_date(text)


@pytest.mark.parametrize("text", ["", " ", "{", "no", "{'a':1}", r'{"a":"\u0000"}', r'"\ud800"', "1e99999", "NaN"])
def test_no_jsonb(text: str) -> None:
    with pytest.raises(Refused):
        check_json_text(text, "JobData")


@pytest.mark.parametrize("text", [None, "null", "{}", ' {"a": "\\u00e9"} ', "1e300", '"text"'])
def test_jsonb(text: str | None) -> None:
    check_json_text(text, "JobData")


def test_a_column_counts_characters() -> None:
    check_text("\U0001f600" * 5, "Name", limit=5)
    with pytest.raises(Refused, match="6 characters"):
        check_text("x" * 6, "Name", limit=5)
    with pytest.raises(Refused, match="is null"):
        check_text(None, "Name", required=True)
