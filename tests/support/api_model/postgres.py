"""What PostgreSQL takes into the columns of Milvaion's database (WIRE.md 0.1, 4.5, 13.2).

Whatever it refuses is tried again for ever by the real API, so a refusal here is the worst that a worker can cause.
"""

import re
from typing import Final

from tests.support.api_model.net_json import JsonObject, JsonValue, Real, Unparsable, parse, texts_in

__all__ = [
    "DISPLAY_NAME",
    "EXTERNAL_ID",
    "JOB_NAME",
    "WORKER_ID",
    "Refused",
    "check_json_text",
    "check_jsonb",
    "check_text",
]

WORKER_ID: Final = 100
"""Characters of the column."""
DISPLAY_NAME: Final = 200
JOB_NAME: Final = 200
EXTERNAL_ID: Final = 500

_EXPONENT: Final = re.compile(r"[eE]([+-]?\d+)$")
_STACK_DEPTH: Final = 500
"""PostgreSQL's own limit is the size of its stack and much higher; a worker has no reason to come near."""


class Refused(Exception):
    """The database refuses a value; the message says which column and why."""


def check_text(text: str | None, column: str, *, limit: int | None = None, required: bool = False) -> None:
    """Raises `Refused` for what a text column does not take."""
    if text is None:
        if required:
            raise Refused(f"{column} is null")
        return
    if "\0" in text:
        raise Refused(f"{column} has a NUL character")
    if limit is not None and len(text) > limit:
        raise Refused(f"{column} has {len(text)} characters, the column takes {limit}")


def check_json_text(text: str | None, column: str) -> None:
    """Raises `Refused` for a text that is neither null nor JSON; an empty string is no JSON."""
    if text is None:
        return
    try:
        value = parse(text, max_depth=_STACK_DEPTH)
    except Unparsable as error:
        raise Refused(f"{column} is no JSON text: {error}") from error
    check_jsonb(value, column)


def check_jsonb(value: JsonValue, column: str) -> None:
    """Raises `Refused` for a JSON value that jsonb cannot hold."""
    if any("\0" in text for text in texts_in(value)):
        raise Refused(f"{column} has \\u0000 in a text")
    if any(_overflows(number) for number in _reals_in(value)):
        raise Refused(f"{column} has a number beyond PostgreSQL's numeric")


def _overflows(number: Real) -> bool:
    exponent = _EXPONENT.search(number.text)
    return len(number.text) > 131_000 or (exponent is not None and abs(int(exponent[1])) > 16_383)


def _reals_in(value: JsonValue) -> list[Real]:
    match value:
        case Real():
            return [value]
        case list():
            return [real for item in value for real in _reals_in(item)]
        case JsonObject(pairs):
            return [real for _, item in pairs for real in _reals_in(item)]
    return []
