"""Rows of a history as documents of plain values, and back: what every store writes, each in its own form.

Separate from the stores, so that they keep the same and none of them knows a field. A date is kept as its text, which
loses nothing, and stands beside the document as a number where a store puts rows in order. Mappings whose names anybody
chose are kept as JSON text: databases have rules for names. Fields at their default are left out, and a field that a
document does not have has its default: so an older version's document can be read.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from milvaion_trio.model.history import (
    FailedOccurrence,
    InstanceRecord,
    LogLine,
    OccurrenceRecord,
    StatusChange,
    WorkerRecord,
)
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["Document", "document_of", "job_key", "value_of"]

Document: TypeAlias = dict[str, Any]
"""Texts, integers of 64 bits, floats, booleans, and lists and documents of them."""

T = TypeVar("T")


def document_of(value: object) -> Document:
    """The document of a row."""
    document: Document = _WRITERS[type(value)](value)
    return document


def value_of(kind: type[T], document: Mapping[str, Any]) -> T:
    """The row that was written as this document."""
    value: T = _READERS[kind](document, kind)
    return value


def job_key(name: str | None) -> str | None:
    """A job's name as it is searched for: in any case."""
    return None if name is None else name.lower()


def _status(value: int, _: object = None) -> OccurrenceStatus | int:
    return _STATUSES.get(value, value)


def _mapping_text(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def _mapping(text: str | None, _: object = None) -> Any:
    return None if text is None else json.loads(text)


_STATUSES: Final = {int(status): status for status in OccurrenceStatus}
_AS_TEXT: Final = override(unstruct_hook=_mapping_text, struct_hook=_mapping)
_AS_BASE64: Final = override(
    unstruct_hook=lambda value: base64.b64encode(value).decode(), struct_hook=lambda text, _: base64.b64decode(text)
)
_OVERRIDES: Final[Mapping[type, Mapping[str, Any]]] = {
    OccurrenceRecord: {},
    LogLine: {"data": _AS_TEXT},
    FailedOccurrence: {"message": _AS_BASE64},
    WorkerRecord: {"routing_patterns": _AS_TEXT},
    InstanceRecord: {},
}

_CONVERTER: Final = cattrs.Converter()
_CONVERTER.register_unstructure_hook(Instant, lambda moment: moment.text)
_CONVERTER.register_structure_hook(Instant, lambda text, _: Instant.parse(text))
_CONVERTER.register_unstructure_hook(OccurrenceStatus | int, int)
_CONVERTER.register_structure_hook(OccurrenceStatus | int, _status)
_CONVERTER.register_unstructure_hook(StatusChange, make_dict_unstructure_fn(StatusChange, _CONVERTER))
_CONVERTER.register_structure_hook(
    StatusChange, make_dict_structure_fn(StatusChange, _CONVERTER, _cattrs_detailed_validation=False)
)
_WRITERS: Final[dict[type, Callable[[Any], Document]]] = {}
_READERS: Final[dict[type, Callable[[Mapping[str, Any], Any], Any]]] = {}
for _kind, _overrides in _OVERRIDES.items():
    _WRITERS[_kind] = make_dict_unstructure_fn(_kind, _CONVERTER, _cattrs_omit_if_default=True, **_overrides)
    _READERS[_kind] = make_dict_structure_fn(_kind, _CONVERTER, _cattrs_detailed_validation=False, **_overrides)
