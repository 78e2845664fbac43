"""Reading data is total: any text gives a value of the type, or `InvalidJobData`, and never anything else."""

import dataclasses
import enum
import json
import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

import pytest
from attrs import asdict, define, field, fields_dict
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.model.errors import InvalidJobData
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.parameters import DataParameter


class Color(enum.Enum):
    RED = "r"
    GREEN = 2
    NEITHER = (1, 2)


@define
class Tree:
    name: str
    children: "list[Tree]" = field(factory=list)


@dataclasses.dataclass
class Address:
    street: str
    zip_code: int | None = None


class Options(TypedDict):
    gift: bool
    note: NotRequired[str]


@define
class Everything:
    text: str
    whole: int
    number: float
    flag: bool
    when: datetime
    day: date
    at: time
    span: timedelta
    id: uuid.UUID
    price: Decimal
    color: Color
    choice: Literal["a", 1, None]
    items: list[Address]
    pair: tuple[int, str]
    names: frozenset[str]
    table: dict[str, list[float]]
    options: Options
    tree: Tree | None
    either: Address | Tree | int | str


TYPES: list[object] = [
    *(attribute.type for attribute in fields_dict(Everything).values()),
    Everything,
    set[tuple[int, ...]],
    list[dict[str, object]],
    float | int | bool,
    set[object],
]

member_names = (
    st.sampled_from([*fields_dict(Everything), "Street", "zipCode", "GIFT", "name", "children", "_", ""]) | st.text()
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["r", "2026-04-02", "09:15", "1.5"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(member_names, inner, max_size=6),
    max_leaves=20,
)
READERS = [DataReader.build("SomeJob", DataParameter("data", annotation)) for annotation in TYPES]


def outcome(reader: DataReader, text: str) -> object:
    """The value, or the problems; any other exception fails the test."""
    try:
        return reader.read(text)
    except InvalidJobData as error:
        return error


@given(st.sampled_from(READERS), json_values)
def test_any_json_gives_a_value_or_a_list_of_problems(reader: DataReader, value: object) -> None:
    found = outcome(reader, json.dumps(value))

    assert not isinstance(found, InvalidJobData) or all(problem.startswith("$") for problem in found.problems)


@given(st.sampled_from(READERS), st.text() | st.from_regex(r'[\[\]{}",:0-9ein.\\u -]*', fullmatch=True))
def test_any_text_gives_a_value_or_a_list_of_problems(reader: DataReader, text: str) -> None:
    found = outcome(reader, text)

    assert not isinstance(found, InvalidJobData) or found.problems


@pytest.mark.parametrize("kind", [datetime, date, time, timedelta, uuid.UUID, Decimal])
@given(text=st.text(alphabet="0123456789-+:.TZeE٣", max_size=40))
def test_a_text_with_a_form_is_read_or_refused(kind: object, text: str) -> None:
    try:
        value = DataReader.for_type("SomeJob", kind).read(json.dumps(text))
    except InvalidJobData:
        return
    assert value is None or (isinstance(kind, type) and isinstance(value, kind))


def spelled(name: str) -> st.SearchStrategy[str]:
    """Any spelling of a name that differs from it in case and `_` only."""
    letters = [st.sampled_from([sign, sign.upper(), f"{sign}_"]) for sign in name.replace("_", "")]
    return st.tuples(*letters).map("".join)


@given(
    tree=st.recursive(
        st.builds(Tree, st.text(st.characters(exclude_categories=["Cs"]))),
        lambda inner: st.builds(Tree, st.just("x"), st.lists(inner, max_size=3)),
        max_leaves=8,
    )
)
def test_what_was_written_is_read_again(tree: Tree) -> None:
    assert DataReader.for_type("SomeJob", Tree).read(json.dumps(asdict(tree))) == tree


texts = st.text(st.characters(exclude_categories=["Cs"]))
whole_numbers = st.integers(-(2**63), 2**63 - 1)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e300"), max_value=Decimal("1e300"))


@given(
    st.builds(
        Everything,
        text=texts,
        whole=whole_numbers,
        number=st.floats(allow_nan=False, allow_infinity=False),
        when=st.datetimes(timezones=st.just(UTC)),
        day=st.dates(),
        at=st.times(),
        span=st.timedeltas(timedelta(days=-10_000_000), timedelta(days=10_000_000)),
        price=decimals,
        items=st.lists(st.builds(Address, texts, st.none() | whole_numbers), max_size=2),
        pair=st.tuples(whole_numbers, texts),
        names=st.frozensets(texts, max_size=2),
        table=st.dictionaries(texts, st.lists(st.floats(-1e6, 1e6), max_size=2), max_size=2),
        options=st.fixed_dictionaries({"gift": st.booleans()}, optional={"note": texts}),
        tree=st.none() | st.builds(Tree, texts),
        either=st.builds(Address, texts, whole_numbers) | whole_numbers,
    )
)
def test_what_a_client_writes_is_what_the_job_gets(data: Everything) -> None:
    found = DataReader.for_type("SomeJob", Everything).read(write(jsonable(data)))

    assert found == data
    assert str(getattr(found, "price", None)) == str(data.price) or abs(data.price) >= 2**63


@given(spelled("street"), spelled("zip_code"))
def test_every_spelling_of_a_name_is_the_name(street: str, zip_code: str) -> None:
    value = DataReader.for_type("SomeJob", Address).read(json.dumps({street: "a", zip_code: 5}))

    assert value == Address("a", 5)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_int_is_a_float_and_no_float_an_int(number: int) -> None:
    assert DataReader.for_type("SomeJob", float).read(str(number)) == float(number)
    with pytest.raises(InvalidJobData):
        DataReader.for_type("SomeJob", int).read(repr(float(number)))
    assert math.isfinite(float(number))
