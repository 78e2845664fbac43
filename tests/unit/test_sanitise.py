"""What leaves the house can neither hang the API nor fill it (RELIABILITY.md 2.6, W5 and W10)."""

from decimal import Decimal

import pytest

from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.sanitise import MAX_EXCEPTION, MAX_LOG_MESSAGE, MAX_RESULT, clean_json, clean_text


def test_sizes_are_those_of_the_rules() -> None:
    assert (MAX_EXCEPTION, MAX_RESULT, MAX_LOG_MESSAGE) == (64 * 1024, 256 * 1024, 8 * 1024)


@pytest.mark.parametrize("text", ["", "plain", "Üsküdar \U0001f600", "line\nline\t\x01\x7f", "\uffff"])
def test_clean_text_stays_the_same_object(text: str) -> None:
    assert clean_text(text) is text or clean_text(text) == text
    assert clean_text(text, 100) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\0b", "a\ufffdb"),
        ("\0", "\ufffd"),
        ("\ud800", "\ufffd"),
        ("ü\udc80\udbff", "ü\ufffd\ufffd"),
    ],
)
def test_forbidden_characters_are_replaced(text: str, clean: str) -> None:
    assert clean_text(text) == clean
    assert clean_text(text, 100) == clean


def test_long_text_is_cut_and_says_by_how_much() -> None:
    assert clean_text("a" * 1000, 100) == "a" * 60 + " ... [940 bytes cut]"


@pytest.mark.parametrize("letter", ["a", "ü", "\u20ac", "\U0001f600", "\0", "\ud800"])
@pytest.mark.parametrize("limit", [0, 1, 10, 39, 40, 41, 42, 43, 44, 100, 101, 102, 103])
def test_cut_text_fits_and_is_no_half_character(letter: str, limit: int) -> None:
    assert len(clean_text(letter * 200, limit).encode()) <= limit


@pytest.mark.parametrize("letter", ["a", "ü", "\u20ac", "\U0001f600"])
def test_text_that_just_fits_is_not_cut(letter: str) -> None:
    text = letter * 25
    size = len(text.encode())

    assert clean_text(text, size) == text
    assert clean_text(text, size - 1) != text


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (0.5, 0.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.10"), Decimal("1.10")),
        (Decimal("sNaN"), "sNaN"),
        ({"a\0": ["\ud800", {"b": "x"}]}, {"a\ufffd": ["\ufffd", {"b": "x"}]}),
        ([[]], [[]]),
    ],
    ids=repr,
)
def test_values_are_cleaned_inside(value: JsonValue, clean: JsonValue) -> None:
    assert clean_json(value) == clean
    assert type(clean_json(value)) is type(clean)


def test_giant_number_becomes_text() -> None:
    """Python refuses to write more than 4300 decimal digits."""
    assert clean_json(2**100_000) == hex(2**100_000)


def test_limit_holds_for_each_text() -> None:
    assert clean_json({"a": "x" * 50, "b": "y" * 200}, 100) == {"a": "x" * 50, "b": "y" * 60 + " ... [140 bytes cut]"}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    assert clean_json([[["x"]], 1], depth=2) == [["[left out: nested too deeply]"], 1]
