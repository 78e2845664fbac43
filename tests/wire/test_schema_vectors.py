"""Schemas of Python types are those of their .NET counterparts (WIRE.md 8, `schema_cases.json`)."""

import enum
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import pytest
from attrs import field, frozen, make_class

from milvaion_trio.policy.schema import data_schema, result_schema

VECTOR = json.loads((Path(__file__).parent / "vectors" / "schema_cases.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in VECTOR["cases"]}


class Priority(enum.Enum):
    Low = 1
    High = 2


@frozen
class Address:
    street: str
    no: int | None


@frozen
class Uri:
    """A class of that name, for .NET's is one."""


COUNTERPARTS: list[tuple[str, object]] = [
    ("string", str),
    ("integer", int),
    ("number", float),
    ("boolean", bool),
    ("datetime", datetime),
    ("date", date),
    ("time", time),
    ("time", timedelta),
    ("guid", uuid.UUID),
    ("enum", Priority),
    ("nullable", int | None),
    ("list", list[str]),
    ("list", Sequence[str]),
    ("list", Iterable[str]),
    ("list", tuple[str, ...]),
    ("list", set[str]),
    ("list", frozenset[str]),
    ("list", tuple[str, str]),
    ("list_of_objects", list[Address]),
    ("dict", dict[str, str]),
    ("dict_object", dict[str, object]),
    ("dict_object", dict),
    ("nested", Address),
    ("nested", Address | None),
    ("other_collections", object),
    ("other_collections", Any),
    ("uri", Uri),
    ("description", Annotated[str, "Email recipient"]),
    ("description", Annotated[str, "Email recipient"] | None),
    ("dynamic_enum", Literal["Main", "Archive"]),
]

NOT_IN_PYTHON = {
    "char": "Python has texts only",
    "byte_array": "data cannot be bytes: the reader refuses the type at start",
}
"""Cases without a counterpart, and why."""


def property_of(annotation: Any, **rules: Any) -> object:
    """What the schema of a class with one such member says about it."""
    kind = make_class("Data", {"member": field(type=annotation, **rules)})
    schema = data_schema(kind)
    assert schema is not None
    return json.loads(schema.text)["properties"]["member"]


@pytest.mark.parametrize(("name", "annotation"), COUNTERPARTS)
def test_a_member_is_described_as_in_net(name: str, annotation: object) -> None:
    """Keywords, values and their order."""
    assert json.dumps(property_of(annotation)) == json.dumps(CASES[name]["property_schema"])


def test_what_attributes_say_in_net_is_said_by_metadata_and_defaults() -> None:
    assert property_of(str, metadata={"required": True}) == CASES["required"]["property_schema"]
    assert property_of(str, metadata={"description": "Email recipient"}) == CASES["description"]["property_schema"]
    assert property_of(int, default=3) == CASES["default"]["property_schema"]


@frozen
class Named:
    retry_count: int
    URL: str
    to: str = field(alias="to_address")


def test_members_are_named_as_in_net() -> None:
    """A name that somebody gave stands as it is, any other one begins in lower case (case `json_name`)."""
    schema = data_schema(Named)
    assert schema is not None

    assert list(json.loads(schema.text)["properties"]) == ["retryCount", "uRL", "to_address"]


EmailText = NewType("EmailText", str)


@frozen
class Everything:
    choice: Annotated[Literal["a", "b"], "A choice"] = field(default="b", metadata={"required": True})
    items: Annotated[list[int], "Numbers"] = field(default=[1], metadata={"required": True})
    home: Annotated[Address | None, "An address"] = field(default=None, metadata={"required": True})
    mail: Annotated[EmailText, "A mail"] = EmailText("a@b")


def test_keywords_stand_in_their_order() -> None:
    """Case `member_order`, as far as one member can have them together."""
    order = ["type", "format", "enum", "items", "properties", "description", "required", "default"]
    schema = data_schema(Everything)
    assert schema is not None

    members = json.loads(schema.text)["properties"].values()
    assert {keyword for member in members for keyword in member} == set(order)
    assert all(list(member) == sorted(member, key=order.index) for member in members)


@frozen
class ReportJobData:
    report_type: Annotated[str, "Kind of report"] = field(metadata={"required": True})
    recipients: list[str]
    note: str | None = None
    year: int = 2026


def test_a_whole_document_is_net_s_to_the_byte() -> None:
    schema = data_schema(ReportJobData)
    assert schema is not None

    assert schema.text == json.dumps(CASES["full"]["schema"], separators=(",", ":"))


def test_a_text_as_result_has_a_document_without_members() -> None:
    schema = result_schema(str)
    assert schema is not None

    assert schema.text == json.dumps(CASES["string_result"]["schema"], separators=(",", ":"))


def test_every_case_is_looked_at() -> None:
    elsewhere = {"required", "default", "json_name", "member_order", "full", "string_result"}

    assert {name for name, _ in COUNTERPARTS} | elsewhere | set(NOT_IN_PYTHON) == set(CASES)
