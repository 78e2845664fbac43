"""JSON Schema texts of job data and results, for the Milvaion dashboard (WIRE.md 8).

A schema says what our reader takes and what our writer writes; where these differ, so do data and results.
It is flat, as .NET's is: no references, the members of a class stand wherever the class is used.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, Literal

from attrs import define, field, frozen

from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue, write
from milvaion_trio.model.outcome import JobResult
from milvaion_trio.model.sanitise import clean_json
from milvaion_trio.policy.annotations import ANYTHING, LISTS, OBJECTS, alternatives, is_record
from milvaion_trio.policy.record_fields import RecordField, record_fields
from milvaion_trio.policy.schema_values import (
    PLAIN_DATA,
    PLAIN_RESULTS,
    Keywords,
    data_words,
    described,
    name_format,
    one_of,
    result_words,
    shown_default,
    shown_description,
)

__all__ = ["Schema", "data_schema", "result_schema"]

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_ORDER: Final = ("type", "format", "enum", "items", "properties", "description", "required", "default")
"""Of the keywords of a property, as .NET writes them."""
_DEEPEST: Final = 16
"""Objects in objects: more than anybody fills in, and far from the 64 levels that JSON readers take."""
_MOST: Final = 1000
"""Members in all: where classes use each other twice, each level doubles them."""


@frozen
class Schema:
    """A schema document."""

    text: str
    cuts: tuple[str, ...] = ()
    """Where it ends although the type goes on, and why: `$.next (a Node inside a Node)`."""


def data_schema(annotation: object) -> Schema | None:
    """What data of this type looks like; `None` unless it is a class with fields that can be resolved."""
    kind = described(annotation)
    return _Drawing(_DATA).document(kind) if is_record(kind) else None


def result_schema(annotation: object) -> Schema | None:
    """What a result of this type looks like; `None` unless it is a text, or a class with fields that can be resolved.

    A `JobResult` among the alternatives says nothing about the value in it, so the others speak.
    """
    members = [
        each for each in alternatives(annotation) if not (isinstance(each, type) and issubclass(each, JobResult))
    ]
    kind = described(typing.Union[tuple(members)]) if members else object  # noqa: UP007 - made at run time
    if is_record(kind):
        return _Drawing(_RESULT).document(kind)
    # .NET has no members to show either, but says that there is a text.
    return Schema(_text("String", {}, ())) if _is_text(kind) else None


def _is_text(kind: object) -> bool:
    if typing.get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in typing.get_args(kind))
    return _is_class(kind, str)


def _is_class(kind: object, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _text(title: str, properties: Keywords, required: Sequence[str]) -> str:
    document: Keywords = {
        "$schema": _DRAFT,
        "type": "object",
        "title": title,
        "properties": properties,
        "required": list(required),
    }
    # Names and descriptions are user texts: NUL or a lone surrogate would stop the API's reader (WIRE.md 13.2).
    return write(clean_json(document, depth=MAX_DEPTH))


@frozen(kw_only=True)
class _Direction:
    """What tells data, which are read, from results, which are written."""

    plain: Mapping[object, Keywords]
    unknown: Keywords
    """What is said about a type that nothing is known about."""
    words: Callable[[Sequence[object]], list[JsonValue]]
    """How the values of an enum or a `Literal` are given."""
    name: Callable[[RecordField], str]
    is_shown: Callable[[RecordField], bool]
    default: Callable[[RecordField], Keywords]


_DATA: Final = _Direction(
    plain=PLAIN_DATA,
    # It is read by a converter of its field, and these take texts more often than anything else.
    unknown={"type": "string"},
    words=data_words,
    name=lambda each: each.usual_name,
    is_shown=lambda each: each.is_read,
    default=shown_default,
)
_RESULT: Final = _Direction(
    plain=PLAIN_RESULTS,
    unknown={"type": "object", "properties": {}},
    words=result_words,
    name=lambda each: each.attribute,
    is_shown=lambda each: True,
    default=lambda each: {},  # nobody writes a result by hand
)


@define
class _Drawing:
    """One document while it is made."""

    _direction: _Direction
    _around: list[object] = field(factory=list, init=False)
    """The classes around the place that is described."""
    _members: int = field(default=0, init=False)
    _cuts: list[str] = field(factory=list, init=False)

    def document(self, kind: object) -> Schema | None:
        """The document about a class with fields."""
        try:
            properties = self._properties(kind, "$")
            required = [name for name, each in self._fields(kind) if each.is_required or _insists(each)]
        except Exception:  # annotations of user classes run user code; jobs run without a schema, too
            return None
        return Schema(_text(_name_of(kind), properties, required), tuple(self._cuts))

    def _fields(self, kind: object) -> list[tuple[str, RecordField]]:
        return [(self._direction.name(each), each) for each in record_fields(kind) if self._direction.is_shown(each)]

    def _properties(self, kind: object, path: str) -> Keywords:
        self._around.append(kind)
        properties: Keywords = {name: self._property(each, f"{path}.{name}") for name, each in self._fields(kind)}
        self._around.pop()
        return properties

    def _property(self, each: RecordField, path: str) -> Keywords:
        self._members += 1
        keywords = self._value(each.annotation, path) | shown_description(each) | self._direction.default(each)
        if _insists(each):
            keywords["required"] = True
        return {keyword: keywords[keyword] for keyword in _ORDER if keyword in keywords}

    def _value(self, annotation: object, path: str) -> Keywords:
        keywords = self._kind(described(annotation), path)
        if keywords["type"] in ("string", "object") and not keywords.keys() & {"format", "enum"}:
            keywords |= name_format(annotation)
        return keywords

    def _kind(self, kind: object, path: str) -> Keywords:
        origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
        if kind in ANYTHING:
            return _object()
        if origin is Literal:
            return one_of(self._direction.words([value for value in arguments if value is not None]))
        if _is_class(kind, Enum):
            return one_of(self._direction.words(list(typing.cast("type[Enum]", kind))))
        if origin in LISTS:
            return {"type": "array", "items": self._items([each for each in arguments if each is not ...], path)}
        if origin in OBJECTS or is_record(kind):
            if (why := self._reason_to_cut(kind, path)) is not None:
                self._cuts.append(f"{path} ({why})")
                return _object()
            return _object(self._table(arguments, path) if origin in OBJECTS else self._properties(kind, path))
        known = (self._direction.plain[base] for base in getattr(kind, "__mro__", ()) if base in self._direction.plain)
        return dict(next(known, self._direction.unknown))

    def _reason_to_cut(self, kind: object, path: str) -> str | None:
        if kind in self._around:
            return f"a {_name_of(kind)} inside a {_name_of(kind)}"
        if path.count(".") >= _DEEPEST:
            return f"nested deeper than {_DEEPEST} levels"
        return f"beyond {_MOST} members" if self._members >= _MOST else None

    def _items(self, annotations: Sequence[object], path: str) -> Keywords:
        """The items' type, if they have one; their members are not described, as in .NET."""
        kinds = [described(each) for each in annotations] or [object]
        types = {self._items_type(kind) for kind in kinds}
        again = next((kind for kind in kinds if kind in self._around), None)
        if again is not None:
            self._cuts.append(f"{path} (a list of {_name_of(again)} inside a {_name_of(again)})")
        if len(types) > 1:
            return {}
        return _object() if again is not None else {"type": types.pop()}

    def _items_type(self, kind: object) -> str:
        origin = typing.get_origin(kind) or kind
        if kind in ANYTHING or origin in OBJECTS or is_record(kind):
            return "object"
        return "array" if origin in LISTS else str(self._kind(kind, "")["type"])

    def _table(self, arguments: tuple[object, ...], path: str) -> Keywords:
        """.NET describes a dictionary by the member `item`, its indexer; some keys cannot be called that."""
        key, member = arguments or (str, object)
        if described(key) not in (str, *ANYTHING):
            return {}
        self._members += 1
        return {"item": self._value(member, f"{path}.item")}


def _object(properties: Keywords | None = None) -> Keywords:
    return {"type": "object", "properties": properties or {}}


def _insists(each: RecordField) -> bool:
    """Whether the field itself says that it must be given, as .NET's attribute does."""
    return each.metadata.get("required") is True


def _name_of(kind: object) -> str:
    return str(getattr(typing.get_origin(kind) or kind, "__name__", kind))
