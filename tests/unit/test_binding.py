"""How the data of a message becomes a value, and how its mistakes are told."""

import dataclasses
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import attrs
import pytest
from attrs import define, field, frozen

from milvaion_trio.model.errors import InvalidJobData, SettingsError
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.parameters import REQUIRED, DataParameter


@frozen
class Email:
    to: str
    subject: str = "Hello"
    priority: int = 3


def reader(annotation: object, default: object = REQUIRED) -> DataReader:
    return DataReader.build("SendEmailJob", DataParameter("data", annotation, default))


def problems_of(annotation: object, text: str | None) -> tuple[str, ...]:
    with pytest.raises(InvalidJobData) as caught:
        reader(annotation).read(text)
    assert caught.value.job_name == "SendEmailJob"
    return caught.value.problems


def test_names_match_without_regard_to_case_and_underscores() -> None:
    @define
    class Names:
        first_name: str
        lastName: str  # noqa: N815 - such fields exist
        _secret: int

    value = reader(Names).read('{"FirstName": "A", "LAST_NAME": "B", "secret": 1}')

    assert value == Names("A", "B", 1)


def test_two_fields_that_are_one_name_in_json_are_an_error_at_start() -> None:
    @define
    class Clash:
        first_name: str
        firstName: str  # noqa: N815 - the point

    with pytest.raises(SettingsError, match=r"first_name and firstName of Clash are one name in JSON"):
        reader(Clash)


def test_two_members_for_one_field_are_a_mistake_beside_the_others() -> None:
    assert problems_of(Email, '{"to": "a", "TO": 1, "priority": "x"}') == (
        '$: more than one member is to, the last of them "TO"',
        "$.to: found the number 1, expected a text",
        '$.priority: found the text "x", expected a whole number',
    )


def test_unknown_members_are_ignored() -> None:
    assert reader(Email).read('{"to": "a", "cc": ["b"]}') == Email("a")


@pytest.mark.parametrize("text", [None, "", "null", " null "])
def test_absent_empty_and_null_data_are_the_same(text: str | None) -> None:
    """The default, else None where the type allows it, else InvalidJobData."""
    assert reader(Email, Email("x")).read(text) == Email("x")
    assert reader(Email | None).read(text) is None
    assert reader(Email | None, Email("x")).read(text) == Email("x")
    assert reader(object).read(text) is None
    assert problems_of(Email, text) == ("$: there is no data, expected an object",)


@pytest.mark.parametrize("annotation", [object, Any, Annotated[object, 1]])
def test_without_a_type_the_data_is_the_decoded_json(annotation: object) -> None:
    assert reader(annotation).read('{"a": [1, 2.5, "x", null]}') == {"a": [1, 2.5, "x", None]}


class Color(str, enum.Enum):  # noqa: UP042 - the older form has another order of bases
    RED = "r"
    DARK_RED = "d"


class Level(enum.IntEnum):
    LOW = 1


class Ratio(enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


class Corner(enum.Enum):
    RIGHT = (1, 0)
    NOWHERE = object()


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    ALL = 0xFF


class Table(enum.Enum):
    ONE = {"a": 1, "A": 2}  # noqa: RUF012  # that of an enum's member


class Parts(enum.Flag):
    FIRST = 1
    OTHERS = 6


class Price(enum.Enum):
    LOW = Decimal("1.10")


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, '"a"', "a"),
        (int, "7", 7),
        (float, "7", 7.0),
        (float, "7.5", 7.5),
        (bool, "true", True),
        (UserId, "7", 7),
        (Annotated[int, "metadata"], "7", 7),
        (list[int], "[1]", [1]),
        (list, '[1, "x"]', [1, "x"]),
        (Sequence[int], "[1]", [1]),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (set[int], "[1, 1]", {1}),
        (frozenset[str], '["a"]', frozenset("a")),
        (dict[str, int], '{"a": 1, "A": 2}', {"a": 1, "A": 2}),
        (Mapping[str, list[int]], '{"a": [1]}', {"a": [1]}),
        (dict, '{"a": 1}', {"a": 1}),
        (int | None, "7", 7),
        (int | str, '"7"', "7"),
        (float | int, "7", 7),
        (int | float, "7.0", 7.0),
        (Literal["a", 1], "1", 1),
        (Literal[Color.RED], '"RED"', Color.RED),
        (Literal[Ratio.HALF], "0.50", Ratio.HALF),
        (Literal[Price.LOW], "1.10", Price.LOW),
        (Color, '"r"', Color.RED),
        (Color, '"DARK_RED"', Color.DARK_RED),
        (Color, '"DarkRed"', Color.DARK_RED),
        (Level, "1", Level.LOW),
        (Level, '"Low"', Level.LOW),
        (datetime, '"2026-04-02T09:15:30.1234567Z"', datetime(2026, 4, 2, 9, 15, 30, 123456, UTC)),
        (datetime, '"2026-04-02T09:15:30"', datetime(2026, 4, 2, 9, 15, 30)),
        (date, '"2026-04-02"', date(2026, 4, 2)),
        (time, '"09:15:30.1234567"', time(9, 15, 30, 123456)),
        (time, '"09:15"', time(9, 15)),
        (timedelta, '"1.02:03:04.5"', timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        (timedelta, '"-00:00:01"', timedelta(seconds=-1)),
        (uuid.UUID, '"0f8fad5b-d9cb-469f-a165-70867728950e"', uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")),
        (Decimal, '"1.10"', Decimal("1.10")),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, "5", Decimal(5)),
        (float, "1.10", 1.1),
        (Any, "1.10", 1.1),
        (dict[str, Any], '{"a": [{"b": 1.10}]}', {"a": [{"b": 1.1}]}),
        (Decimal | float, "1.10", Decimal("1.10")),
        (float | Decimal, "1.10", 1.1),
        (Ratio, "0.50", Ratio.HALF),
        (Ratio, "1", Ratio.WHOLE),
        (Corner, "[1, 0]", Corner.RIGHT),
        (Corner, '"Right"', Corner.RIGHT),
        (Access, "255", Access.ALL),
        (Table, '{"a": 1, "A": 2}', Table.ONE),
        (Decimal, "12345678901234567890123", Decimal("12345678901234567890123")),
        (float, "12345678901234567890123", 12345678901234567890123.0),
        (Rights, "3", Rights.READ | Rights.WRITE),
        (Rights, "0", Rights(0)),
        (Parts, "7", Parts.FIRST | Parts.OTHERS),
        (Rights, '"Write"', Rights.WRITE),
    ],
)
def test_json_becomes_what_the_annotation_says(annotation: object, text: str, value: object) -> None:
    found = reader(annotation).read(text)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text", "problem"),
    [
        (int, '"7"', 'found the text "7", expected a whole number'),
        (int, "7.0", "found the number 7.0, expected a whole number"),
        (int, "true", "found true, expected a whole number"),
        (float, "true", "found true, expected a number"),
        (float, '"1.5"', 'found the text "1.5", expected a number'),
        (str, "5", "found the number 5, expected a text"),
        (bool, "0", "found the number 0, expected true or false"),
        (bool, '"true"', 'found the text "true", expected true or false'),
        (list[str], '"abc"', 'found the text "abc", expected a list'),
        (list[str], "{}", "found an object, expected a list"),
        (dict[str, int], "[]", "found a list of 0, expected an object"),
        (tuple[int, str], "[1]", "found a list of 1, expected a list of 2"),
        (int | str, "1.5", "found the number 1.5, expected a whole number or a text"),
        (int | None, '"x"', 'found the text "x", expected a whole number'),
        (Literal["a", 1], "true", "found true, expected one of 'a', 1"),
        (Literal["a"], "[]", "found a list of 0, expected one of 'a'"),
        (Color, '"blue"', 'found the text "blue", expected one of RED, DARK_RED'),
        (Level, "true", "found true, expected one of LOW"),
        (Level, "2", "found the number 2, expected one of LOW"),
        (
            datetime,
            '"2026-04-02 09:15"',
            'found the text "2026-04-02 09:15", expected a date and time like 2026-04-02T09',
        ),
        (datetime, "1775121330", "found the number 1775121330, expected a date and time"),
        (date, '"2026-02-30"', "expected a date like 2026-04-02"),
        (time, '"9:15"', "expected a time of day like 09:15:30"),
        (timedelta, '"25:00:00"', "expected a duration like"),
        (timedelta, "60", "found the number 60, expected a duration"),
        (uuid.UUID, '"0f8fad5bd9cb469fa16570867728950e"', "expected a UUID of 36 characters"),
        (Decimal, '"NaN"', "expected a decimal number"),
        (
            int,
            "9223372036854775808",
            "found the number 9223372036854775808, expected a whole number of at most 64 bits",
        ),
        (Decimal, "true", "found true, expected a decimal number"),
        (Decimal, "1e-99999", "expected a decimal number"),
        (Parts, "3", "found the number 3, expected one of FIRST, OTHERS"),
        (Access, "5", "found the number 5, expected one of READ, WRITE, ALL"),
        (Literal[Ratio.HALF], "123456789012345678901", "found the number 123456789012345678901, expected one of"),
        (Rights, "8", "found the number 8, expected one of READ, WRITE"),
        (Rights, "-1", "found the number -1, expected one of READ, WRITE"),
        (Rights, "true", "found true, expected one of READ, WRITE"),
        (Email, "{", "JSON"),
        (Email, "[]", "found a list of 0, expected an object"),
    ],
)
def test_nothing_is_coerced(annotation: object, text: str, problem: str) -> None:
    """What was found and what was expected is said; a long text is not repeated."""
    [found] = problems_of(annotation, text)

    assert found.startswith("$: ")
    assert problem in found


def test_what_a_converter_gets_is_plain() -> None:
    """No subclasses of float, which other libraries do not take."""

    @define
    class Points:
        at: Path = field(converter=_kinds)

    assert reader(Points).read('{"at": [1.5, 2]}') == Points([1.5, 2])
    assert reader(Points).read('{"at": [{"x": [1.5]}]}') == Points([{"x": [1.5]}])
    for beyond in ("9223372036854775808", "-9223372036854775809"):
        [problem] = problems_of(dict[str, Any], f'{{"at": {beyond}}}')
        assert f"found the number {beyond}, expected a whole number of at most 64 bits" in problem


def _kinds(value: list[object]) -> Any:
    return [
        {name: _kinds(member) for name, member in each.items()} if isinstance(each, dict) else type(each)
        for each in value
    ]


def test_a_long_text_is_cut_in_the_problem() -> None:
    [problem] = problems_of(int, '"' + "x" * 5000 + '"')

    assert len(problem) < 120


@frozen
class Item:
    name: str
    price: float = field(validator=attrs.validators.gt(0))


@dataclasses.dataclass
class Address:
    street: str
    city: str = "Ankara"


class Options(TypedDict):
    gift: bool
    note: NotRequired[str]


@frozen
class Order:
    items: list[Item]
    address: Address
    options: Options
    tags: dict[str, int] = field(factory=dict)


def test_classes_nest_in_every_kind() -> None:
    text = (
        '{"Items": [{"Name": "a", "Price": 2}], "Address": {"Street": "b"}, '
        '"options": {"GIFT": true, "colour": 1}, "tags": {"x_y": 1}}'
    )

    assert reader(Order).read(text) == Order([Item("a", 2.0)], Address("b"), {"gift": True}, {"x_y": 1})


def test_every_mistake_is_listed_with_its_path() -> None:
    text = (
        '{"items": [{"name": 1, "price": 1}, {"price": "2"}, {"name": "a", "price": -1}, []], '
        '"address": {}, "options": {"note": 5}, "tags": {"a": "b"}}'
    )

    assert problems_of(Order, text) == (
        "$.items[0].name: found the number 1, expected a text",
        "$.items[1].name: is missing, expected a text",
        '$.items[1].price: found the text "2", expected a number',
        "$.items[2]: 'price' must be > 0: -1.0",
        "$.items[3]: found a list of 0, expected an object",
        "$.address.street: is missing, expected a text",
        "$.options.gift: is missing, expected true or false",
        "$.options.note: found the number 5, expected a text",
        "$.tags['a']: found the text \"b\", expected a whole number",
    )


def test_of_a_union_the_only_member_of_that_shape_says_what_is_wrong() -> None:
    assert problems_of(Address | str, '{"street": 1}') == ("$.street: found the number 1, expected a text",)


def test_a_fields_own_converter_gets_json_that_has_no_type_of_ours() -> None:
    @define
    class Upload:
        path: Path = field(converter=Path)

    assert reader(Upload).read('{"path": "/tmp"}') == Upload(Path("/tmp"))


@define
class Tree:
    name: str
    children: "list[Tree]" = field(factory=list)


class Node(TypedDict):
    value: int
    next: NotRequired["Node"]


def test_classes_may_contain_themselves() -> None:
    assert reader(Tree).read('{"name": "a", "children": [{"name": "b"}]}') == Tree("a", [Tree("b")])
    assert reader(Node).read('{"value": 1, "next": {"value": 2}}') == {"value": 1, "next": {"value": 2}}
    assert problems_of(Node, '{"value": 1, "next": {}}') == ("$.next.value: is missing, expected a whole number",)


@pytest.mark.parametrize(
    "annotation", [bytes, Path, complex, dict[int, str], Callable[[], int], type("Mine", (str,), {})]
)
def test_a_type_that_no_json_can_become_is_an_error_at_start(annotation: object) -> None:
    with pytest.raises(SettingsError, match=r"SendEmailJob: data cannot be read from JSON: .*"):
        reader(annotation)


def test_a_field_that_no_json_can_become_is_an_error_at_start() -> None:
    @define
    class Upload:
        content: bytes

    with pytest.raises(SettingsError, match=r"bytes has no JSON form"):
        reader(Upload)


def test_a_reader_can_be_made_for_any_type() -> None:
    assert DataReader.for_type("SendEmailJob", Email).read('{"to": "a"}') == Email("a")
