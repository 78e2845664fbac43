"""Messages read from JSON: a reader per class, made once from its fields.

One cattrs converter knows how to read each type; it is asked while the readers are made, never per message.
"""

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, TypeAlias, TypeVar, get_args

import attrs
import cattrs

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.json_text import JsonValue, read
from milvaion_trio.model.messages import JobConfig, LogRecord, StatusUpdate, WorkerMetadata
from milvaion_trio.model.wire_fields import camel_name, is_nullable, is_tuple, pascal_name
from milvaion_trio.model.wire_values import ABSENT, READY, VALUE_READERS, Misfit, Reader, checked, int64_or_null

__all__ = ["decoder", "member_of", "message_reader"]

T = TypeVar("T")
_Member: TypeAlias = tuple[str, tuple[type, ...], Reader]
"""The attribute, the types of values that need no reader, and the reader of all others."""


def decoder(kind: type[T], what: str) -> Callable[[bytes], T]:
    """A function that turns bodies into such messages, or raises `InvalidMessage`; `what` they are, to people."""
    read_message = message_reader(kind, what)

    def decode(body: bytes) -> T:
        return read_message(read(body, case_matters=True))

    return decode


def message_reader(kind: type[T], what: str) -> Callable[[JsonValue], T]:
    """As `decoder`, of JSON that has been read already."""
    reader: Callable[[Any, Any], T] = _CONVERTER.get_structure_hook(kind)

    def read_message(value: JsonValue) -> T:
        try:
            return reader(value, None)
        except Misfit as misfit:
            place = misfit.path.removeprefix(".") or "the body"
            shown = repr(misfit.value)
            shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
            raise InvalidMessage(f"{what}: {place} is {shown}, but must be {misfit.expected}.") from misfit

    return read_message


def member_of(value: Mapping[str, JsonValue], folded_name: str) -> JsonValue:
    """The member of that name in any case, which is to be given in lower case; `None` for none."""
    return next((item for name, item in value.items() if name.lower() == folded_name), None)


def _nullable_reader(kind: Any) -> Reader:
    read_value = _CONVERTER.get_structure_hook(get_args(kind)[0])
    return lambda value, _: None if value is None else read_value(value, None)


def _tuple_reader(kind: Any) -> Reader:
    read_item = _CONVERTER.get_structure_hook(get_args(kind)[0])

    def read_items(value: Any, _: Any) -> Any:
        if value is None or value == []:
            return ()
        items = []
        for index, item in enumerate(checked(value, list, "an array")):
            try:
                items.append(read_item(item, None))
            except Misfit as misfit:
                raise misfit.within(f"[{index}]") from None
        return tuple(items)

    return read_items


def _class_reader(kind: Any) -> Reader:
    """A reader that looks each member up as it comes; a name in an unusual case costs a second look."""
    members = {pascal_name(field.name): _member(field.name, field.type) for field in attrs.fields(kind)}
    has_old_name = kind in (StatusUpdate, LogRecord)
    if has_old_name:
        members["CorrelationId"] = ("correlation_id", (), VALUE_READERS[OccurrenceId])
    folded: dict[str, _Member] = {}
    if kind not in (WorkerMetadata, JobConfig):  # the one place where .NET insists on the case (WIRE.md 3.6)
        members |= {camel_name(name): member for name, member in members.items()}
        folded = {name.lower(): member for name, member in members.items()}
    absent = {f.name: ABSENT[f.type] for f in attrs.fields(kind) if f.default is attrs.NOTHING and f.type in ABSENT}

    def read_object(value: Any, _: Any) -> Any:
        found: dict[str, Any] = {}
        unknown = 0
        name = ""
        try:
            for name, item in (value if type(value) is dict else checked(value, dict, "an object")).items():
                member = members.get(name) or folded.get(name.lower())
                if member is None:
                    unknown += 1
                    continue
                attribute, ready, reader = member
                found[attribute] = item if type(item) in ready else reader(item, None)
        except Misfit as misfit:
            raise misfit.within(f".{name}" if name else "") from None
        if len(found) + unknown != len(value):
            raise Misfit("an object whose names differ in more than their case", list(value))
        if has_old_name and "correlation_id" in found:
            found.setdefault("occurrence_id", found.pop("correlation_id"))
        return kind(**(found if absent.keys() <= found.keys() else absent | found))

    return read_object


def _member(attribute: str, kind: Any) -> _Member:
    if attribute == "duration_ms":
        return attribute, (), int64_or_null
    ready = READY.get(kind, ())
    if is_nullable(kind) and kind not in _EXACT_READERS:  # null is ready, and what else there is needs no second reader
        return attribute, (*ready, NoneType), _CONVERTER.get_structure_hook(get_args(kind)[0])
    return attribute, ready, _CONVERTER.get_structure_hook(kind)


def _metadata_text(value: Any, _: Any) -> Any:
    if value is None:
        return WorkerMetadata()
    try:
        return _read_metadata(read(checked(value, str, "a text")), None)
    except InvalidMessage as invalid:
        raise Misfit("JSON text", value) from invalid


def _log_records(value: Any, _: Any) -> Any:
    return _read_log_records([item for item in checked(value, list, "an array") if not _is_without_log(item)], None)


def _is_without_log(record: Any) -> bool:
    return type(record) is dict and member_of(record, "log") is None


_EXACT_READERS: dict[Any, Reader] = {
    **VALUE_READERS,
    tuple[LogRecord, ...]: _log_records,
    WorkerMetadata: _metadata_text,
}

_CONVERTER = cattrs.Converter(detailed_validation=False)
# The last rule is asked first; for builtin types cattrs has hooks of its own, which only a direct one replaces.
_CONVERTER.register_structure_hook_factory(attrs.has, _class_reader)
_CONVERTER.register_structure_hook_factory(is_nullable, _nullable_reader)
_CONVERTER.register_structure_hook_factory(is_tuple, _tuple_reader)
_CONVERTER.register_structure_hook_factory(_EXACT_READERS.__contains__, lambda kind: _EXACT_READERS[kind])
for _builtin in (str, bool, int):
    _CONVERTER.register_structure_hook(_builtin, _EXACT_READERS[_builtin])

_read_log_records = _tuple_reader(tuple[LogRecord, ...])
_read_metadata = _class_reader(WorkerMetadata)
