"""Header values as text and back, for the file: the same value of the same type, whatever AMQP allows.

Separate from the rows, because a retry copy keeps the headers of foreign publishers, and JSON knows few of their types.
No pickle: the file may be anybody's (RELIABILITY.md 5.1).
"""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from milvaion_trio.model.envelope import HeaderValue

__all__ = ["plain", "restored"]

BYTES, BINARY, FLOAT, DECIMAL, TIME, TABLE = "bytes", "binary", "float", "decimal", "time", "table"


def plain(value: HeaderValue) -> object:
    """What JSON can hold; types of its own are objects with one member, named for the type."""
    match value:
        case None | bool() | int() | str():
            return value
        case bytes():
            return {BYTES: value.hex()}
        case bytearray():
            return {BINARY: value.hex()}
        case float():
            return {FLOAT: value.hex()}
        case Decimal():
            return {DECIMAL: str(value)}
        case datetime():
            return {TIME: value.isoformat()}
        case Mapping():
            return {TABLE: {str(name): plain(each) for name, each in value.items()}}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return str(value)  # as it would be published


def restored(value: object) -> HeaderValue:
    """The value that `plain` made this of; raises `ValueError` or `ArithmeticError` for anything else."""
    match value:
        case None | bool() | int() | str():
            return value
        case list():
            return [restored(each) for each in value]
        case {"bytes": str(text), **rest} if not rest:
            return bytes.fromhex(text)
        case {"binary": str(text), **rest} if not rest:
            return bytearray.fromhex(text)
        case {"float": str(text), **rest} if not rest:
            return float.fromhex(text)
        case {"decimal": str(text), **rest} if not rest:
            return Decimal(text)
        case {"time": str(text), **rest} if not rest:
            return datetime.fromisoformat(text)
        case {"table": dict(table), **rest} if not rest:
            return {name: restored(each) for name, each in table.items()}
        case _:
            raise ValueError(f"{json.dumps(value)[:200]} is no header value")
