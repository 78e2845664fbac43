"""What a schema says and what the reader takes are the same: in either direction, for classes nobody has thought of."""

import enum
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, TypedDict

from attrs import field, frozen, make_class
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator  # type: ignore[import-untyped] # has no types of its own

from milvaion_trio.model.json_text import JsonValue, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.schema import data_schema, result_schema


class Color(enum.Enum):
    RED = "r"
    DARK_RED = 2
    GREEN = "DARK_RED"


class Options(TypedDict):
    gift_wrap: bool
    note: Annotated[str, "For whom"]


EmailAddress = NewType("EmailAddress", str)


@frozen
class Kind:
    """A type, and JSON that its reader takes."""

    annotation: Any
    values: st.SearchStrategy[Any]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
numbers = st.integers(-(2**63), 2**63 - 1)
PLAIN = [
    Kind(str, texts),
    Kind(EmailAddress, st.just("a@b.example")),
    Kind(int, numbers),
    Kind(float, st.floats(allow_nan=False, allow_infinity=False) | numbers),
    Kind(bool, st.booleans()),
    Kind(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2).map(float)),
    Kind(datetime, st.datetimes(timezones=st.just(UTC)).map(jsonable)),
    Kind(date, st.dates().map(jsonable)),
    Kind(time, st.times().map(jsonable)),
    Kind(timedelta, st.timedeltas().map(jsonable)),
    Kind(uuid.UUID, st.uuids().map(str)),
    Kind(Color, st.sampled_from(["RED", "r", "GREEN"])),
    Kind(Literal["a", "b"], st.sampled_from(["a", "b"])),
    Kind(Literal[1, 2], st.sampled_from([1, 2])),
    Kind(Options, st.fixed_dictionaries({"giftWrap": st.booleans(), "note": texts})),
    Kind(Any, st.dictionaries(texts, texts, max_size=2)),
]


def listed(kind: Kind) -> st.SearchStrategy[Kind]:
    values = st.lists(kind.values, max_size=2)
    return st.sampled_from([Kind(list[kind.annotation], values), Kind(tuple[kind.annotation, ...], values)])  # type: ignore[name-defined] # made at run time


def mapped(kind: Kind) -> st.SearchStrategy[Kind]:
    values = st.dictionaries(st.just("item"), kind.values, max_size=1)
    return st.sampled_from([Kind(dict[str, kind.annotation], values), Kind(Mapping[str, kind.annotation], values)])  # type: ignore[name-defined] # made at run time


def optional(kind: Kind) -> st.SearchStrategy[Kind]:
    return st.just(Kind(kind.annotation | None if kind.annotation is not Any else Any, kind.values))


NAMES = ["name", "display_name", "_hidden", "URL", "line_2", "x__y"]


@st.composite
def classes(draw: st.DrawFn, members: st.SearchStrategy[Kind]) -> Kind:
    """A class with some members, some of which have a default that data may give or not."""
    fields, values = {}, {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
        kind = draw(members)
        rules: dict[str, Any] = {"description": draw(texts)} if draw(st.booleans()) else {}
        default: dict[str, Any] = {}
        if draw(st.booleans()):
            default = {"default": draw(st.none() | texts | numbers | st.sampled_from([Color.RED, Decimal(1), (1, 2)]))}
        fields[name] = field(type=kind.annotation, metadata=rules, kw_only=True, **default)
        values[_usual(name)] = kind.values
    return Kind(make_class("Generated", fields, frozen=True), st.fixed_dictionaries(values))


def _usual(name: str) -> str:
    return {"display_name": "displayName", "_hidden": "hidden", "URL": "uRL", "line_2": "line2", "x__y": "xY"}.get(
        name, name
    )


kinds = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: inner.flatmap(listed) | inner.flatmap(mapped) | inner.flatmap(optional) | classes(inner),
    max_leaves=6,
)


def document_of(kind: Kind) -> Any:
    schema = data_schema(kind.annotation)
    assert schema is not None
    assert schema.cuts == ()
    return json.loads(schema.text)


@given(classes(kinds))
def test_every_schema_is_one_of_draft_07(kind: Kind) -> None:
    """And nothing in it refers to anything."""
    document = document_of(kind)

    Draft7Validator.check_schema(document)
    assert "$ref" not in json.dumps(document)
    assert set(document["required"]) <= set(document["properties"])


@given(classes(kinds), st.data())
def test_what_the_reader_takes_is_what_the_schema_says(kind: Kind, draw: st.DataObject) -> None:
    """In its usual spelling, and where no `None` is in it: that something may be null leaves no trace (WIRE.md 8)."""
    data = _with_names_of_enums(draw.draw(kind.values))

    DataReader.for_type("SomeJob", kind.annotation).read(write(data))

    Draft7Validator(document_of(kind), format_checker=Draft7Validator.FORMAT_CHECKER).validate(data)


@given(classes(kinds), st.data())
def test_what_the_schema_says_is_what_the_reader_takes(kind: Kind, draw: st.DataObject) -> None:
    """Whatever somebody fills in, as long as it is all that is required."""
    document = document_of(kind)
    data = draw.draw(filled_in(document))
    left_out = draw.draw(st.sets(st.sampled_from(sorted(data)))) if data else set()
    given_data = {name: value for name, value in data.items() if name in document["required"] or name not in left_out}

    DataReader.for_type("SomeJob", kind.annotation).read(write(given_data))


@given(classes(kinds), st.data())
def test_what_is_written_is_what_the_schema_of_the_result_says(kind: Kind, draw: st.DataObject) -> None:
    result = DataReader.for_type("SomeJob", kind.annotation).read(write(draw.draw(kind.values)))
    schema = result_schema(kind.annotation)
    assert schema is not None

    Draft7Validator(json.loads(schema.text)).validate(json.loads(write(jsonable(result))))


def filled_in(schema: Any) -> st.SearchStrategy[Any]:
    """What somebody may give who knows the schema alone: the default, one of the values, anything of that type."""
    offered = [st.just(schema["default"])] if "default" in schema else []
    if "enum" in schema:
        return st.one_of(st.sampled_from(schema["enum"]), *offered)
    return st.one_of(_of_type(schema), *offered)


def _of_type(schema: Any) -> st.SearchStrategy[Any]:
    match schema["type"], schema.get("format"):
        case "object", _:
            return st.fixed_dictionaries({name: filled_in(inner) for name, inner in schema["properties"].items()})
        case "array", _:
            return st.just([])  # items are not described
        case "integer", _:
            return numbers
        case "number", _:
            return numbers | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean", _:
            return st.booleans()
        case "string", None | "email":
            return texts
        case "string", form:
            return st.just(EXAMPLES[form])
    raise AssertionError(schema)


EXAMPLES = {
    "date-time": "2026-04-02T09:15:30Z",
    "date": "2026-04-02",
    "time": "09:15:30",
    "uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
}


def _with_names_of_enums(value: JsonValue) -> Any:
    """The reader takes values of enums, too; schemas say one spelling of each."""
    if isinstance(value, dict):
        return {name: _with_names_of_enums(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_names_of_enums(item) for item in value]
    return "RED" if value == "r" else value
