"""Cleaning of text that leaves the house (RELIABILITY.md 2.6, W5 and W10).

One NUL character or number out of range makes the API repeat a batch for ever, so every encoder passes through here.
"""

import math
import re
from decimal import Decimal
from typing import Final

from milvaion_trio.model.json_text import INT64_MAX, INT64_MIN, JsonValue

__all__ = ["MAX_EXCEPTION", "MAX_LOG_DEPTH", "MAX_LOG_MESSAGE", "MAX_RESULT", "clean_json", "clean_text"]

MAX_EXCEPTION: Final = 64 * 1024
"""Bytes of UTF-8, as the other sizes here."""
MAX_RESULT: Final = 256 * 1024
MAX_LOG_MESSAGE: Final = 8 * 1024

MAX_LOG_DEPTH: Final = 32
"""Levels inside one value; the message around it has four more, and readers stop at 64."""

_FORBIDDEN = re.compile("[\0\ud800-\udfff]")
_MARKER_SIZE = 40
"""More bytes than any marker has."""


def clean_text(text: str, limit: int | None = None) -> str:
    """The text without NUL and lone surrogates, in at most `limit` bytes of UTF-8 (with a marker where it was cut)."""
    if text.isascii() and "\0" not in text:
        return text if limit is None or len(text) <= limit else _cut(text, limit)
    text = _FORBIDDEN.sub("\ufffd", text)
    # No character takes more than four bytes, so most texts need no encoding to know that they fit.
    return text if limit is None or len(text) * 4 <= limit else _cut(text, limit)


def clean_json(value: JsonValue, limit: int | None = None, depth: int = MAX_LOG_DEPTH) -> JsonValue:
    """The same for every text in a JSON value, where `limit` holds for each.

    Numbers that JSON or 64 bits cannot hold become text, and what is nested deeper than `depth` is left out:
    the log entry around it is worth more.
    """
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(value, limit)
        case int():
            return value if INT64_MIN <= value <= INT64_MAX else _long_number(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return value if value.is_finite() else str(value)
    if depth == 0:
        return "[left out: nested too deeply]"
    if isinstance(value, list):
        return [clean_json(item, limit, depth - 1) for item in value]
    return {clean_text(name, limit): clean_json(item, limit, depth - 1) for name, item in value.items()}


def _cut(text: str, limit: int) -> str:
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[: max(limit - _MARKER_SIZE, 0)].decode(errors="ignore")
    marker = f" ... [{len(encoded) - len(kept.encode())} bytes cut]"
    return (kept + marker)[:limit]


def _long_number(value: int) -> str:
    # Python refuses to write out numbers of more than 4300 digits; hexadecimal is always allowed.
    return str(value) if value.bit_length() < 10_000 else hex(value)
