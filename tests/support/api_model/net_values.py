"""Members of an object as the .NET classes of Milvaion read them (WIRE.md 0.1): no value of another type is taken."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from attrs import frozen
from tests.support.api_model.net_json import JsonObject, JsonValue, Unparsable, fold

__all__ = ["EMPTY_GUID", "YEAR_ONE", "Members", "NetDate", "is_guid", "parse_date"]

T = TypeVar("T")

EMPTY_GUID: Final = "00000000-0000-0000-0000-000000000000"
"""What an absent guid is read as."""

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_DATE: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,16}))?)?(Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)


@frozen
class NetDate:
    """A date of a message."""

    text: str
    """As it was written."""
    utc: datetime
    """In microseconds; a date without suffix is taken as the API server's local time, which here is UTC."""

    @property
    def is_utc(self) -> bool:
        """Whether it is written as our worker must write dates: with `Z`."""
        return self.text.endswith("Z")

    @property
    def unix(self) -> float:
        """Seconds since 1970."""
        return self.utc.timestamp()


YEAR_ONE: Final = NetDate("0001-01-01T00:00:00", datetime(1, 1, 1, tzinfo=UTC))
"""What an absent date is read as."""


def is_guid(text: object) -> bool:
    """Whether it is the only form of a guid that is read: 36 characters with dashes."""
    return isinstance(text, str) and _GUID.fullmatch(text) is not None


def parse_date(text: str) -> NetDate:
    """Read a date. Raises `Unparsable`."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise Unparsable(f"no date: {text[:40]!r}")
    day, minute, second, fraction, suffix = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}").replace(tzinfo=UTC)
        moment += timedelta(microseconds=int((fraction or "").ljust(6, "0")[:6]))
        if suffix and suffix != "Z":
            hours, minutes = int(suffix[1:3]), int(suffix[4:])
            offset = timedelta(hours=hours, minutes=minutes)
            if minutes > 59 or offset > timedelta(hours=14):
                raise ValueError(f"offset {suffix}")
            moment -= offset if suffix[0] == "+" else -offset
    except (ValueError, OverflowError) as error:
        raise Unparsable(f"no date: {text!r} ({error})") from error
    return NetDate(text, moment)


class Members:
    """The members of one object. Every method raises `Unparsable` for a value of another type."""

    def __init__(self, value: JsonValue, where: str, *, case_matters: bool = False) -> None:
        if not isinstance(value, JsonObject):
            raise Unparsable(f"{where} is no object")
        self._where = where
        self._case_matters = case_matters
        self._members = value.by_name() if case_matters else value.by_folded_name()

    def raw(self, name: str) -> JsonValue:
        """The value as it stands; absent is null."""
        return self._members.get(name if self._case_matters else fold(name))

    def guid(self, name: str) -> str:
        """A guid in lower case; absent is the empty one, null is an error."""
        value = self._value(name, EMPTY_GUID)
        if not is_guid(value):
            raise self._wrong(name, value, "a guid with dashes")
        return str(value).lower()

    def text(self, name: str) -> str | None:
        """A text or null."""
        value = self._value(name, None)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def integer(self, name: str, *, bits: int = 32) -> int:
        """An integer; absent is 0, null is an error."""
        value = self._value(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise self._wrong(name, value, f"an integer of {bits} bits")
        return value

    def flag(self, name: str, *, absent: bool = False) -> bool:
        """True or false; null is an error."""
        value = self._value(name, absent)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def date(self, name: str) -> NetDate:
        """A date; absent is the year 1, null is an error."""
        value = self._value(name, YEAR_ONE.text)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a date")
        return parse_date(value)

    def nullable(self, read: Callable[[str], T], name: str) -> T | None:
        """What `read` reads, or null."""
        return None if self.raw(name) is None else read(name)

    def long(self, name: str) -> int:
        """An integer of 64 bits."""
        return self.integer(name, bits=64)

    def items(self, name: str) -> list[JsonValue] | None:
        """An array or null."""
        value = self._value(name, None)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, value, "an array")
        return value

    def texts(self, name: str) -> list[str | None]:
        """An array of texts; null is as good as empty."""
        values = self.items(name) or []
        if any(value is not None and not isinstance(value, str) for value in values):
            raise self._wrong(name, values, "an array of texts")
        return [value for value in values if value is None or isinstance(value, str)]

    def nested(self, name: str) -> JsonObject | None:
        """An object or null."""
        value = self._value(name, None)
        if value is not None and not isinstance(value, JsonObject):
            raise self._wrong(name, value, "an object")
        return value

    def named_texts(self, name: str) -> dict[str, str]:
        """A dictionary of texts, its keys as they are; null is as good as empty, and so is a null in it."""
        found = self.nested(name)
        named: dict[str, str] = {}
        for key, value in () if found is None else found.pairs:
            if value is not None and not isinstance(value, str):
                raise self._wrong(f"{name}[{key}]", value, "a text")
            named[key] = value or ""
        return named

    def _value(self, name: str, absent: JsonValue) -> JsonValue:
        return self._members.get(name if self._case_matters else fold(name), absent)

    def _wrong(self, name: str, value: object, wanted: str) -> Unparsable:
        return Unparsable(f"{self._where}.{name} is {str(value)[:40]!r}, not {wanted}")
