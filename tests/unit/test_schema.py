"""What the schemas of data and results say where Python types have no counterpart in .NET, and where they end."""

import dataclasses
import enum
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NewType, NoReturn, NotRequired, Required, TypedDict, TypeVar

import pytest
from attrs import Factory, define, field, frozen, make_class
from jsonschema import Draft7Validator  # type: ignore[import-untyped] # has no types of its own

from milvaion_trio.model.json_text import read
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.outcome import JobResult
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.schema import Schema, data_schema, result_schema

T = TypeVar("T")


def document_of(schema: Schema | None) -> Any:
    """The parsed document, which is a strict one of draft 07 and no harm to the API's reader."""
    assert schema is not None
    assert schema.text.isascii()
    read(schema.text)
    document = json.loads(schema.text)
    Draft7Validator.check_schema(document)
    assert list(document) == ["$schema", "type", "title", "properties", "required"]
    return document


def data(annotation: object) -> Any:
    return document_of(data_schema(annotation))


def member(annotation: Any, **rules: Any) -> Any:
    """What is said about one member of data."""
    return data(make_class("Data", {"member": field(type=annotation, **rules)}))["properties"]["member"]


def result_member(annotation: Any) -> Any:
    return document_of(result_schema(make_class("Result", {"member": field(type=annotation)})))["properties"]["member"]


# --- which types have a schema --------------------------------------------------------------------------------------


@frozen
class Email:
    to: str


@dataclasses.dataclass
class Address:
    street: str
    zip_code: int = 0


class Options(TypedDict, total=False):
    gift_wrap: Required[bool]
    note: str


@pytest.mark.parametrize("annotation", [Email, Address, Options, Email | None, Annotated[Email, 1], Email | Address])
def test_classes_with_fields_are_described(annotation: object) -> None:
    assert data(annotation)["title"] in ("Email", "Address", "Options")


@pytest.mark.parametrize("annotation", [str, int, list[Email], dict[str, int], object, Any, None, Literal["a"]])
def test_other_data_have_no_schema(annotation: object) -> None:
    """The dashboard reads the members of an object, and nothing else."""
    assert data_schema(annotation) is None


@pytest.mark.parametrize(
    "annotation", [None, int, float | None, list[Email], dict[str, int], object, JobResult, JobResult | None, NoReturn]
)
def test_other_results_have_no_schema(annotation: object) -> None:
    assert result_schema(annotation) is None


class Mood(enum.StrEnum):
    GOOD = "good"


@pytest.mark.parametrize("annotation", [str, str | None, NewType("Id", str), Mood, Literal["a", "b"], str | JobResult])
def test_every_kind_of_text_is_a_text_as_result(annotation: object) -> None:
    assert document_of(result_schema(annotation)) == {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": "String",
        "properties": {},
        "required": [],
    }


def test_beside_a_job_result_the_other_type_speaks() -> None:
    assert document_of(result_schema(JobResult | Email | None))["title"] == "Email"


def test_a_class_that_cannot_be_resolved_has_no_schema() -> None:
    """Jobs run all the same: nobody reads their results by type."""

    @define
    class Unresolved:
        value: "Missing"  # type: ignore[name-defined] # noqa: F821 - the point

    assert result_schema(Unresolved) is None


# --- members --------------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "r"
    DARK_RED = 2
    CRIMSON = "r"  # noqa: PIE796 - another name of RED


class Crossed(enum.Enum):
    A = "B"
    B = "A"


def test_enums_are_given_by_name_and_returned_by_value() -> None:
    """The reader takes both; .NET and its dashboard know names (WIRE.md 8)."""
    assert member(Color) == {"type": "string", "enum": ["RED", "DARK_RED"]}
    assert result_member(Mood) == {"type": "string", "enum": ["good"]}
    assert result_member(Color) == {"type": "string", "enum": ["r"]}


def test_a_name_that_is_another_members_value_is_not_offered() -> None:
    """The reader would take it for that value."""
    offered = member(Crossed)["enum"]

    reader = DataReader.for_type("SomeJob", Crossed)
    assert [reader.read(json.dumps(word)) for word in offered] == [Crossed.A, Crossed.B]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Literal["a", "b", None], {"type": "string", "enum": ["a", "b"]}),
        (Literal[3, 4], {"type": "integer", "enum": [3, 4]}),
        (Literal[True], {"type": "boolean", "enum": [True]}),
        (Literal[Color.RED], {"type": "string", "enum": ["RED"]}),
        (Literal[1, "a", 2], {"type": "integer", "enum": [1, 2]}),
        (int | str, {"type": "integer"}),
        (int | float, {"type": "number"}),
        (None | int | float, {"type": "number"}),
        (Decimal, {"type": "number"}),
        (tuple[int, str], {"type": "array", "items": {}}),
        (tuple[int, bool | None, list[int]], {"type": "array", "items": {}}),
        (list, {"type": "array", "items": {"type": "object"}}),
        (list[list[int]], {"type": "array", "items": {"type": "array"}}),
        (list[datetime], {"type": "array", "items": {"type": "string"}}),
        (Mapping[str, bool], {"type": "object", "properties": {"item": {"type": "boolean"}}}),
        (dict[uuid.UUID, int], {"type": "object", "properties": {}}),
        (type(None), {"type": "null"}),
        (NewType("EmailAddress", str), {"type": "string", "format": "email"}),
        (NewType("HomepageUri", str) | None, {"type": "string", "format": "uri"}),
        (Annotated[NewType("EmailCount", int), "How many"], {"type": "integer", "description": "How many"}),
        (NewType("Security", str), {"type": "string"}),
    ],
)
def test_what_a_member_is(annotation: object, said: object) -> None:
    assert member(annotation) == said


def test_a_result_is_described_as_it_is_written() -> None:
    """Numbers for `Decimal`, names as in Python: workflow mappings look for them in the result (WIRE.md 12.1)."""

    @define
    class Total:
        amount_due: Decimal
        took: timedelta
        content: bytes
        label: Annotated[str, "Shown"] = "none"
        _hidden: int = field(default=1, init=False)

    document = document_of(result_schema(Total))

    assert document["properties"] == {
        "amount_due": {"type": "number"},
        "took": {"type": "string", "format": "time"},
        "content": {"type": "string"},
        "label": {"type": "string", "description": "Shown"},
        "_hidden": {"type": "integer"},
    }
    assert list(document["properties"]) == list(jsonable(Total(Decimal("1.5"), timedelta(1), b"a")))  # type: ignore[arg-type] # an object


def test_what_a_converter_reads_is_taken_for_a_text() -> None:
    assert member(Path, converter=Path) == {"type": "string"}
    assert member(Path | None, converter=Path) == {"type": "string"}


def test_fields_that_data_cannot_set_are_left_out() -> None:
    @define
    class Half:
        given: int
        made: int = field(default=1, init=False)

    assert list(data(Half)["properties"]) == ["given"]


@frozen
class Box(Generic[T]):
    content: T
    more: list[T] = Factory(list)


def test_the_arguments_of_a_generic_class_are_seen() -> None:
    assert data(Box[int])["properties"] == {
        "content": {"type": "integer"},
        "more": {"type": "array", "items": {"type": "integer"}},
    }


# --- required, default, description ---------------------------------------------------------------------------------


def test_required_is_what_the_reader_misses() -> None:
    """`X | None` without a default may be null, but must be there."""

    @define
    class Note:
        text: str
        author: str | None
        pages: int = 1
        tags: list[str] = Factory(list)
        sure: bool = field(default=True, metadata={"required": True})

    document = json.loads(getattr(data_schema(Note), "text", ""))

    assert document["required"] == ["text", "author", "sure"]
    assert document["properties"]["sure"] == {"type": "boolean", "required": True, "default": True}
    assert data(Options)["required"] == ["giftWrap"]
    assert data(Address)["required"] == ["street"]


@pytest.mark.parametrize(
    ("annotation", "default", "shown"),
    [
        (int, 0, 0),
        (float, 1, 1),
        (str, "", ""),
        (bool, False, False),
        (Color, Color.DARK_RED, "DARK_RED"),
        (Decimal, Decimal("1.50"), 1.5),
        (timedelta, timedelta(minutes=5), "00:05:00"),
        (datetime, datetime(2026, 4, 2, tzinfo=UTC), "2026-04-02T00:00:00Z"),
        (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (tuple[int, ...], (1, 2), [1, 2]),
        (int | str, "x", "x"),
    ],
)
def test_a_default_is_shown_as_data_would_give_it(annotation: object, default: object, shown: object) -> None:
    assert member(annotation, default=default)["default"] == shown


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int | None, None),
        (int, "5"),
        (int, True),
        (float, float("nan")),
        (int, 2**70),
        (str, "nul \0"),
        (str, "half \ud800"),
        (list[int], Factory(list)),
        (Email, Email("a")),
        (list[Email], [Email("a")]),
        (Path, Path("/tmp")),
    ],
)
def test_a_default_that_data_could_not_give_is_not_shown(annotation: Any, default: Any) -> None:
    """Or that would not come back as it is."""
    kind = make_class("Data", {"member": field(type=annotation, default=default, converter=lambda value: value)})

    assert "default" not in data(kind)["properties"]["member"]


def test_a_description_stands_in_metadata_or_in_annotated() -> None:
    assert member(Annotated[str, 5, "from the type"])["description"] == "from the type"
    assert member(Annotated[str, "from the type"], metadata={"description": "from the field"})["description"] == (
        "from the field"
    )
    assert member(Annotated[Email, "whole"] | None)["description"] == "whole"
    assert "description" not in member(Annotated[str, 5])


def test_texts_that_would_stop_a_strict_reader_are_cleaned() -> None:
    """NUL and lone surrogates (WIRE.md 13.2)."""
    kind = TypedDict("kind", {"na\0me": Annotated[str, "half \ud800"], "b": Literal["\0"]})

    text = getattr(data_schema(kind), "text", "")

    assert "\\u0000" not in text.lower()
    assert "\\ud800" not in text.lower()
    assert data(kind)["properties"]["b"]["enum"] == ["\ufffd"]


# --- where schemas end ----------------------------------------------------------------------------------------------


@define
class Node:
    value: int
    next: "Node | None" = None
    all: "list[Node]" = Factory(list)
    named: "dict[str, Node]" = Factory(dict)


class Left(TypedDict):
    right: NotRequired["Right"]


class Right(TypedDict):
    left: Left


def test_a_class_inside_itself_ends_the_schema() -> None:
    schema = data_schema(Node)

    assert data(Node)["properties"] == {
        "value": {"type": "integer"},
        "next": {"type": "object", "properties": {}},
        "all": {"type": "array", "items": {"type": "object", "properties": {}}},
        "named": {"type": "object", "properties": {"item": {"type": "object", "properties": {}}}},
    }
    assert schema is not None
    assert schema.cuts == (
        "$.next (a Node inside a Node)",
        "$.all (a list of Node inside a Node)",
        "$.named.item (a Node inside a Node)",
    )


def test_a_class_inside_itself_by_way_of_another_ends_the_schema() -> None:
    for draw in (data_schema, result_schema):
        schema = draw(Left)

        assert document_of(schema)["properties"]["right"]["properties"]["left"] == {"type": "object", "properties": {}}
        assert schema is not None
        assert schema.cuts == ("$.right.left (a Left inside a Left)",)


def test_a_class_used_twice_is_described_twice() -> None:
    @define
    class Trip:
        start: Address
        end: Address

    schema = data_schema(Trip)
    assert schema is not None
    assert schema.cuts == ()
    assert data(Trip)["properties"]["start"] == data(Trip)["properties"]["end"]


def test_a_schema_has_an_end_however_classes_nest() -> None:
    """Each level doubles the members here, and 40 levels would be more than JSON readers take."""
    kind: type = make_class("Level0", {"leaf": field(type=int)})
    for level in range(1, 41):
        kind = make_class(f"Level{level}", {"one": field(type=kind), "two": field(type=kind)})

    schema = data_schema(kind)

    assert document_of(schema)["title"] == "Level40"
    assert schema is not None
    assert any("nested deeper than 16 levels" in cut for cut in schema.cuts)
    assert any("beyond 1000 members" in cut for cut in schema.cuts)
    assert len(schema.text) < 200_000
