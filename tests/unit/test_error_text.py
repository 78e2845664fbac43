"""Any exception has a text in Milvaion's form (WIRE.md 3.1), of bounded length, and making it raises nothing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from milvaion_trio.model.error_text import ErrorParts, error_parts, error_text, error_type

HERE = str(Path(__file__).parent)


class Odd(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Sly(str):
    """A text with its own mind."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise RuntimeError("no format for you")


class Unreadable(Exception):
    """Not even its chain can be read."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]  # as job code may write it
        raise RuntimeError("no cause for you")


def raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fail() -> None:
    raise ValueError("bad value")


def types_in(text: str) -> list[str]:
    return [line.removeprefix("Type: ") for line in text.splitlines() if line.startswith("Type: ")]


def test_an_exception_has_three_parts_each_ended_by_a_newline() -> None:
    text = error_text(ValueError("bad value"))

    assert text == "Type: ValueError\nMessage: bad value\nStackTrace: \n"


def test_the_stack_trace_names_file_line_and_function() -> None:
    text = error_text(raised(fail))

    assert text.startswith('Type: ValueError\nMessage: bad value\nStackTrace:   File "')
    assert ", in fail\n" in text
    assert "raise ValueError" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_type_is_the_full_name_unless_it_is_a_builtin() -> None:
    assert types_in(error_text(Odd())) == [f"{__name__}.Odd"]
    assert types_in(error_text(KeyError("x"))) == ["KeyError"]


def test_the_short_type_has_no_module() -> None:
    assert error_type(Odd()) == "Odd"


def test_a_cause_follows_after_a_blank_line_and_a_heading() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")

    assert error_text(error) == (
        "Type: ValueError\nMessage: outer\nStackTrace: \n"
        "\nInner Exception:\n"
        "Type: KeyError\nMessage: 'inner'\nStackTrace: \n"
    )


def test_causes_are_told_recursively() -> None:
    innermost, middle, outer = OSError("3"), KeyError("2"), ValueError("1")
    outer.__cause__, middle.__cause__ = middle, innermost

    assert types_in(error_text(outer)) == ["ValueError", "KeyError", "OSError"]


def test_a_context_is_told_unless_it_was_suppressed() -> None:
    told, suppressed = ValueError(), ValueError()
    told.__context__ = suppressed.__context__ = KeyError()
    suppressed.__suppress_context__ = True

    assert types_in(error_text(told)) == ["ValueError", "KeyError"]
    assert types_in(error_text(suppressed)) == ["ValueError"]


def test_a_cause_goes_before_a_context() -> None:
    error = ValueError()
    error.__context__ = KeyError()
    error.__cause__ = OSError()

    assert types_in(error_text(error)) == ["ValueError", "OSError"]


def test_a_cycle_ends() -> None:
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first

    assert types_in(error_text(first)) == ["ValueError", "KeyError"]


def test_a_group_is_told_with_its_leaves_in_order_and_without_groups_in_between() -> None:
    group = ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [KeyError(), OSError()]), TypeError()])

    assert types_in(error_text(group)) == ["ExceptionGroup", "ValueError", "KeyError", "OSError", "TypeError"]


def test_the_cause_of_a_leaf_follows_the_leaf() -> None:
    leaf = ValueError()
    leaf.__cause__ = OSError()

    assert types_in(error_text(ExceptionGroup("g", [leaf, KeyError()]))) == [
        "ExceptionGroup",
        "ValueError",
        "OSError",
        "KeyError",
    ]


def test_a_group_that_is_a_cause_is_told_by_its_leaves() -> None:
    error = ValueError()
    error.__cause__ = ExceptionGroup("g", [KeyError()])

    assert types_in(error_text(error)) == ["ValueError", "KeyError"]


@pytest.mark.parametrize("count", [20, 21, 50_000])
def test_at_most_20_leaves_are_told_and_it_is_said_when_there_were_more(count: int) -> None:
    text = error_text(ExceptionGroup("g", [ValueError(number) for number in range(count)]))

    assert types_in(text) == ["ExceptionGroup"] + ["ValueError"] * 20
    assert "Message: 19\n" in text
    assert text.endswith("(only the first 20 are shown)\n") == (count > 20)


def test_groups_are_opened_to_a_depth_of_8() -> None:
    error: Exception = ValueError("core")
    for depth in range(9, 0, -1):
        error = ExceptionGroup(f"level {depth}", [error])

    text = error_text(error)

    assert types_in(text) == ["ExceptionGroup", "ExceptionGroup"]
    assert "level 9" in text


def test_a_leaf_under_8_groups_is_told() -> None:
    error: Exception = ValueError("core")
    for depth in range(8, 0, -1):
        error = ExceptionGroup(f"level {depth}", [error])

    assert types_in(error_text(error)) == ["ExceptionGroup", "ValueError"]


def test_a_very_long_chain_is_cut() -> None:
    error = last = ValueError(0)
    for number in range(1, 5000):
        last.__cause__ = ValueError(number)
        last = last.__cause__

    text = error_text(error)

    assert len(types_in(text)) == 21
    assert text.endswith("(only the first 20 are shown)\n")


def test_a_runaway_recursion_has_a_short_trace() -> None:
    def odd(depth: int) -> None:
        even(depth + 1)

    def even(depth: int) -> None:
        odd(depth + 1)

    text = error_text(raised(lambda: odd(0)))

    assert types_in(text) == ["RecursionError"]
    assert text.count("  File ") == 100


def test_an_exception_without_a_text_says_why() -> None:
    assert "Message: (its __str__ raised RuntimeError)\n" in error_text(Odd())


def test_a_text_with_a_mind_of_its_own_does_no_harm() -> None:
    class Wily(Exception):
        def __str__(self) -> str:
            return Sly("fine")

    assert types_in(error_text(Wily()))[0].endswith("Wily")


def test_an_exception_that_cannot_be_read_at_all_still_has_a_text() -> None:
    assert error_text(Unreadable()) == "Type: Unreadable\nMessage: (could not be read: RuntimeError)\nStackTrace: \n"


def test_notes_follow_the_message() -> None:
    error = ValueError("bad")
    error.add_note("while reading row 7")

    assert "Message: bad\nwhile reading row 7\nStackTrace" in error_text(error)


def test_notes_that_are_no_texts_are_left_out() -> None:
    broken, mixed = ValueError("bad"), ValueError("bad")
    broken.__notes__ = 7  # type: ignore[assignment]  # as job code may write it
    mixed.__notes__ = [7, "seven"]  # type: ignore[list-item]  # as job code may write it

    assert "Message: bad\nStackTrace" in error_text(broken)
    assert "Message: bad\nseven\nStackTrace" in error_text(mixed)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseExceptionGroup("g", [SystemExit()])]
)
def test_exceptions_that_are_no_errors_have_a_text_too(error: BaseException) -> None:
    assert error_text(error).startswith(f"Type: {error_type(error)}\n")


def test_outermost_frames_in_the_given_folder_are_left_out() -> None:
    error = raised(lambda: int("seven"))
    deeper = raised(lambda: Path("\0").stat())

    assert "StackTrace: \n" in error_text(error, skip_frames_in=HERE)
    assert HERE not in error_text(deeper, skip_frames_in=HERE)
    assert "pathlib" in error_text(deeper, skip_frames_in=HERE)


def test_frames_in_the_given_folder_are_kept_below_others() -> None:
    error = raised(lambda: json.loads("1", parse_int=lambda _: fail()))

    text = error_text(error, skip_frames_in=HERE)

    assert text.index("json") < text.index("in fail")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Type: A\nMessage: m\nStackTrace: \n", ErrorParts("m", None, None)),
        ("Type: A\nMessage: m\nn\nStackTrace:   File x\n", ErrorParts("m\nn", "  File x", None)),
        (
            "Type: A\nMessage: m\nStackTrace: s\n\nInner Exception:\nType: B\nMessage: n\nStackTrace: \n",
            ErrorParts("m", "s", "Type: B\nMessage: n\nStackTrace: \n"),
        ),
        ("the mailbox is full", ErrorParts("the mailbox is full", None, None)),
        ("", ErrorParts("", None, None)),
        ("a Message: b", ErrorParts("a Message: b", None, None)),
    ],
)
def test_an_error_text_comes_apart_again(text: str, expected: ErrorParts) -> None:
    assert error_parts(text) == expected


def test_the_parts_of_a_real_error_are_those_it_was_made_of() -> None:
    def outer() -> None:
        try:
            fail()
        except ValueError as error:
            raise KeyError("wrapped") from error

    parts = error_parts(error_text(raised(outer)))

    assert parts.message == "'wrapped'"
    assert parts.stack_trace is not None
    assert "in outer" in parts.stack_trace
    assert parts.inner is not None
    assert parts.inner.startswith("Type: ValueError\nMessage: bad value\n")


def test_no_recursion_is_needed_for_what_is_deeply_nested() -> None:
    error: Exception = ValueError("core")
    for _ in range(sys.getrecursionlimit() * 2):
        wrapper = ValueError("wrapper")
        wrapper.__cause__ = ExceptionGroup("g", [error])
        error = wrapper

    assert types_in(error_text(error)) == ["ValueError"] * 9 + ["ExceptionGroup"]
