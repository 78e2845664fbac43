"""Errors as one line, and examples of data that a command line can be copied with."""

from dataclasses import dataclass
from typing import Literal, TypedDict

import pytest
from attrs import field, frozen

from milvaion_trio import Worker
from milvaion_trio.cli.data_example import UNKNOWN, data_option
from milvaion_trio.cli.outcome_line import outcome_line
from milvaion_trio.model.error_text import error_text


def test_an_error_in_a_library_is_placed_in_the_users_own_code() -> None:
    def ship() -> None:
        int("seven")

    with pytest.raises(ValueError, match="seven") as caught:
        ship()

    line = outcome_line(error_text(caught.value))

    assert line.startswith("ValueError: invalid literal for int() with base 10: 'seven' (test_told_lines.py, line ")
    assert line.endswith(", in ship)")


def test_a_group_names_everything_in_it() -> None:
    group = ExceptionGroup("two", [KeyError("a"), ExceptionGroup("more", [ValueError("b"), OSError("c")])])

    assert (
        outcome_line(error_text(group))
        == "ExceptionGroup: two (2 sub-exceptions): KeyError: 'a'; ValueError: b; OSError: c"
    )


def test_a_line_that_is_cut_says_so() -> None:
    assert outcome_line("x" * 300) == "x" * 200 + " … (enqueue --wait shows all of it)"


@frozen
class Order:
    to: str
    kind: Literal["gift", "own"]
    lines: list[int]
    note: str = ""


@dataclass
class Parcel:
    weight: float
    fragile: bool = False


class Stamp(TypedDict):
    value: int


@frozen
class Picky:
    code: str = field()

    @code.validator
    def _check(self, _: object, code: str) -> None:
        if len(code) != 17:
            raise ValueError("a code has 17 characters")


@pytest.mark.parametrize(
    ("annotation", "option"),
    [
        (Order, """--data '{"to":"text","kind":"gift","lines":[]}'"""),
        (Parcel, """--data '{"weight":1.5}'"""),
        (Stamp, """--data '{"value":1}'"""),
        (str, """--data '"text"'"""),
        (int, "--data 1"),
        (tuple[int, str], """--data '[1,"text"]'"""),
        (int | None, ""),
        (object, ""),
        (Picky, UNKNOWN),
    ],
)
def test_a_job_gets_the_least_that_it_takes(annotation: object, option: str) -> None:
    async def ship(data: object) -> None: ...

    ship.__annotations__["data"] = annotation
    worker = Worker("w")
    worker.job("Ship")(ship)
    worker.prepare()

    assert data_option(worker.registry.jobs[0]).replace("\\u0022", '"') == option
