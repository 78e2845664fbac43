"""Single values of messages, read as strictly as System.Text.Json reads them.

The tables at the end say which reader a field's type asks for; nothing here knows a whole message.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId, parse_guid
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.messages import EMPTY_GUID, ExternalEvent
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["ABSENT", "READY", "VALUE_READERS", "Misfit", "Reader", "checked", "int64_or_null"]

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any, Any], Any]
"""Takes a JSON value and, as cattrs hooks do, a type that it ignores."""


class Misfit(ValueError):
    """A value that does not fit its member; the path to it grows on the way out."""

    def __init__(self, expected: str, value: object) -> None:
        self.path: str = ""
        self.expected = expected
        self.value = value

    def within(self, place: str) -> "Misfit":
        """The same, found inside `place`."""
        self.path = place + self.path
        return self


def checked(value: Any, kind: type[T], expected: str) -> T:
    """The value, if it is exactly of that type."""
    if type(value) is not kind:  # not isinstance: True is no integer here
        raise Misfit(expected, value)
    return value


def _text(value: Any, _: Any) -> str:
    # .NET's texts may always be null; a field that may not takes it as empty.
    return "" if value is None else checked(value, str, "a text")


def _flag(value: Any, _: Any) -> bool:
    return checked(value, bool, "true or false")


def _int32(value: Any, _: Any) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise Misfit("an integer of 32 bits", value)
    return value


def int64_or_null(value: Any, _: Any) -> int | None:
    """A duration; the field's type does not say that it has 64 bits."""
    return None if value is None else checked(value, int, "an integer")


def _guid(value: Any, _: Any) -> str:
    guid = parse_guid(value)
    if guid is None and value != EMPTY_GUID:
        raise Misfit("a guid of 36 characters", value)
    return guid or EMPTY_GUID


def _instant(value: Any, _: Any) -> Instant:
    text = checked(value, str, "a date")
    try:
        return Instant.parse(text)
    except ValueError:
        raise Misfit("a date like 2026-04-02T09:15:30.1234567Z", value) from None


def _texts_by_name(value: Any, _: Any) -> Mapping[str, str]:
    texts = {} if value is None else checked(value, dict, "an object")
    for name, text in texts.items():
        if type(text) is not str:
            raise Misfit("a text", text).within(f"[{name[:40]!r}]")
    return texts


def _object_or_null(value: Any, _: Any) -> Any:
    return None if value is None else checked(value, dict, "an object")


def _anything(value: Any, _: Any) -> Any:
    return value


def _enum_reader(kind: type[enum.IntEnum]) -> Reader:
    members = {int(member): member for member in kind}
    return lambda value, _: members.get(_int32(value, None), value)


VALUE_READERS: Final[dict[Any, Reader]] = {
    str: _text,
    WorkerId: _text,
    InstanceId: _text,
    OccurrenceId: _guid,
    JobId: _guid,
    bool: _flag,
    int: _int32,
    Instant: _instant,
    OccurrenceStatus | int: _enum_reader(OccurrenceStatus),
    ExternalEvent | int: _enum_reader(ExternalEvent),
    Mapping[str, str]: _texts_by_name,
    Mapping[str, JsonValue] | None: _object_or_null,
    JsonValue: _anything,
}
"""How a field of exactly this type is read."""

ABSENT: Final[dict[Any, Any]] = {
    OccurrenceId: EMPTY_GUID,
    JobId: EMPTY_GUID,
    WorkerId: "",
    InstanceId: "",
    str: "",
    str | None: None,
    int: 0,
    Instant: MINIMUM,
    OccurrenceStatus | int: OccurrenceStatus.QUEUED,
    ExternalEvent | int: ExternalEvent.STARTING,
}
""".NET's defaults, for fields that have none of their own."""

READY: Final[dict[Any, tuple[type, ...]]] = {
    str: (str,),
    str | None: (str,),
    WorkerId: (str,),
    InstanceId: (str,),
    bool: (bool,),
}
"""Values of these types need no reader: most members are texts, and a call for each would cost more than the rest."""
