"""Keys made from data: what is found under which spelling, and what is said where nothing is."""

import dataclasses
from decimal import Decimal
from typing import TypedDict

import pytest
from attrs import define

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.json_text import JsonValue, write
from milvaion_trio.policy.key_template import LONGEST_KEY, KeyTemplate, KeyUnknown, as_key

OCCURRENCE = OccurrenceId("o-1")


@pytest.mark.parametrize(
    ("template", "data", "key"),
    [
        ("nightly", None, "nightly"),
        ("a-{account}", '{"account": "x"}', "a-x"),
        ("a-{account_no}", '{"AccountNo": 7}', "a-7"),
        ("{AccountNo}/{flag}", '{"account_no": 1.5, "Flag": true}', "1.5/true"),
        ("{{{a}}}", '{"A": "b"}', "{b}"),
        ("{occurrence_id}", "broken", "o-1"),
        ("a-{account}", '{"account": "x", "other": 123456789012345678901}', "a-x"),
        ("{n}", '{"n": 12345678901234567.891}', "12345678901234567.891"),
    ],
)
def test_fields_are_found_in_any_spelling(template: str, data: str | None, key: str) -> None:
    assert KeyTemplate.parse(template).fill_from_text("job", data, OCCURRENCE) == key


@pytest.mark.parametrize("value", [Decimal("1.10"), 5.0, 1e300, 7, True, "1.10", Decimal("123456789012345678901")])
def test_a_client_makes_the_key_that_a_worker_makes_of_its_message(value: JsonValue) -> None:
    template = KeyTemplate.parse("a-{n}")

    assert template.fill("job", {"n": value}, OCCURRENCE) == template.fill_from_text(
        "job", write({"n": value}), OCCURRENCE
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, r"the data has no a \(it has no fields\)"),
        ('{"b": 1}', r"the data has no a \(it has b\)"),
        ('{"a": null}', "the data has no a"),
        ('{"a": {}}', "a is an object in the data"),
        ('{"a": []}', "a is a list in the data"),
        ("[1]", "the data has no a"),
        ("{", "cannot be made"),
        ('{"a": " "}', "is empty with this data"),
    ],
)
def test_what_is_missing_is_said(data: str | None, why: str) -> None:
    with pytest.raises(KeyUnknown, match=why):
        KeyTemplate.parse("{a}").fill_from_text("job", data, OCCURRENCE)


def test_a_long_key_stays_the_same_and_short() -> None:
    one, other = as_key("x" * 5000), as_key("x" * 5001)

    assert len(one) == len(other) == LONGEST_KEY
    assert one != other
    assert as_key("x" * 5000) == one
    assert as_key("x" * LONGEST_KEY) == "x" * LONGEST_KEY


@define
class Attrs:
    account_no: str
    _hidden: int = 0


@dataclasses.dataclass
class Data:
    account_no: str


class Typed(TypedDict):
    account_no: str


@pytest.mark.parametrize("kind", [Attrs, Data, Typed, Attrs | None, Attrs | Data])
def test_a_field_that_a_class_has_not_is_found(kind: object) -> None:
    template = KeyTemplate.parse("{accountNo}-{ACCOUNT_NO}-{other}-{occurrence_id}")

    assert template.missing_in(kind) == ["other"]


@pytest.mark.parametrize("kind", [object, dict, dict[str, object], Attrs | dict[str, object], list[int], None])
def test_a_type_without_fields_is_not_judged(kind: object) -> None:
    assert KeyTemplate.parse("{other}").missing_in(kind) == []
