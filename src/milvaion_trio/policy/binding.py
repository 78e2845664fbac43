"""What a job's parameters mean, and how the data of a message becomes the one that is left.

Everything is looked up once, when the worker starts: per message there is one call of a compiled reader.
Reading is strict, since data that almost fits is a mistake somebody wants to hear about, with all others at once.
"""

import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, Union
from uuid import UUID

import attrs
from attrs import field, frozen
from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.cols import list_structure_factory
from cattrs.errors import AttributeValidationNote, IterableValidationNote, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn, make_mapping_structure_fn

from milvaion_trio.model.errors import InvalidJobData, InvalidMessage, SettingsError
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import read as read_json

__all__ = ["REQUIRED", "DataParameter", "DataReader", "Parameters", "inspect_parameters"]

T = TypeVar("T")
Reading: TypeAlias = Callable[[object, object], object]
"""A hook as cattrs calls it: the decoded JSON and the type, which ours know already."""

REQUIRED: Final = inspect.Parameter.empty
"""Stands for the default of a parameter that has none."""


# --- parameters -----------------------------------------------------------------------------------------------------


@frozen
class DataParameter:
    """The parameter that takes the data of the message."""

    name: str
    annotation: object = object
    """`object` where nothing is written: the decoded JSON as it is."""
    default: object = REQUIRED


@frozen
class Parameters:
    """What each parameter of a callable is given; all are passed by name."""

    context: str | None = None
    """The name of the one that takes the `JobContext`."""
    data: DataParameter | None = None
    provided: Mapping[str, object] = field(factory=dict)
    """By name, the provided types of those that are injected."""


def inspect_parameters(
    function: Callable[..., object],
    *,
    context_type: type,
    provided: Collection[object],
    takes_data: bool = True,
) -> Parameters:
    """Say what each parameter is for; raises `SettingsError` with every parameter that is for nothing.

    A function may be bound or not (`self` is skipped), a class stands for its constructor.
    With `takes_data=False` (constructors, factories) nothing may remain but parameters with a default.
    """
    name = getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise SettingsError([f"{name} has no parameters that can be read: {error}."]) from error
    named = [
        parameter
        for position, parameter in enumerate(signature.parameters.values())
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and not (position == 0 and parameter.name == "self")
    ]
    sorting = _Sorting(name, context_type, provided)
    for parameter in named:
        sorting.sort(parameter, function)
    return sorting.result(named[0].name if named else None, takes_data=takes_data)


@attrs.define
class _Sorting:
    """The parameters of one callable while they are told apart."""

    function: str
    context_type: type
    provided: Collection[object]
    contexts: list[str] = field(factory=list, init=False)
    injected: dict[str, object] = field(factory=dict, init=False)
    rest: list[DataParameter] = field(factory=list, init=False)
    unresolved: dict[str, str] = field(factory=dict, init=False)
    problems: list[str] = field(factory=list, init=False)

    def sort(self, parameter: inspect.Parameter, function: Callable[..., object]) -> None:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self.problems.append(f"{self.function}: {name} can only be passed by position; take the `/` away.")
            return
        annotation: object = object
        if parameter.annotation is not parameter.empty:
            try:
                annotation = _resolved(parameter.annotation, function)
            except Exception as error:  # an annotation is an expression: it may raise whatever it wants
                # Under TYPE_CHECKING only, a context is still known by its name.
                if str(parameter.annotation).rpartition(".")[2] == self.context_type.__name__:
                    annotation = self.context_type
                else:
                    self.unresolved[name] = f"{parameter.annotation!r} ({error})"
        plain = _without_metadata(annotation)
        if plain is self.context_type or self.context_type in _alternatives(plain):
            self.contexts.append(name)
        elif (kind := next((kind for kind in (annotation, plain) if self._is_provided(kind)), None)) is not None:
            self.injected[name] = kind
        else:
            self.rest.append(DataParameter(name, annotation, parameter.default))

    def result(self, first: str | None, *, takes_data: bool) -> Parameters:
        if not self.contexts and first == "ctx" and self.rest and self.rest[0].name == "ctx":
            self.contexts.append(self.rest.pop(0).name)
        if len(self.contexts) > 1:
            self.problems.append(f"{self.function}: {_listing(self.contexts)} all take the context; one is enough.")
        for parameter in self.rest:
            if parameter.name in self.unresolved:
                self.problems.append(
                    f"{self.function}: the annotation of {parameter.name} cannot be resolved: "
                    f"{self.unresolved[parameter.name]}. Import the type at the top of the module, not under "
                    "TYPE_CHECKING nor inside a function."
                )
        names = [parameter.name for parameter in self.rest if takes_data or parameter.default is REQUIRED]
        if takes_data and len(names) > 1:
            self.problems.append(
                f"{self.function}: {_listing(names)} are neither the context nor of a provided type, but only one "
                "parameter can take the data. Make one class of them, or provide the types of the others."
            )
        elif not takes_data and names:
            self.problems.append(f"{self.function}: nothing is provided for {_listing(names)}. Call worker.provide(…).")
        if self.problems:
            raise SettingsError(self.problems)
        data = self.rest[0] if takes_data and self.rest else None
        return Parameters(self.contexts[0] if self.contexts else None, data, self.injected)

    def _is_provided(self, annotation: object) -> bool:
        try:
            return annotation in self.provided
        except TypeError:  # unhashable, because of its metadata
            return False


def _resolved(annotation: object, function: Callable[..., object]) -> object:
    """The annotation with its texts evaluated where the function was written."""
    target = inspect.unwrap(function)
    target = getattr(target, "func", target)  # functools.partial
    scope = getattr(target, "__globals__", None) or vars(sys.modules.get(target.__module__, types))
    # get_type_hints evaluates all annotations of its argument, so it gets this one only: the others, the return type
    # among them, are none of our business.
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    resolved: object = typing.get_type_hints(holder, scope, include_extras=True)["it"]
    return resolved


def _listing(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# --- the reader of a job's data -------------------------------------------------------------------------------------


@frozen
class DataReader:
    """Turns the data of messages into the value of one job's parameter."""

    job_name: str
    _annotation: object
    _reading: Reading | None
    """`None`: the decoded JSON as it is."""
    _absent: object
    """What absent data gives, or `REQUIRED` where it is a mistake."""

    @classmethod
    def build(cls, job_name: str, parameter: DataParameter) -> "DataReader":
        """Compile the reader; raises `SettingsError` where no JSON could ever become such a value."""
        annotation = _without_metadata(parameter.annotation)
        if annotation in _ANYTHING:
            return cls(job_name, annotation, None, None if parameter.default is REQUIRED else parameter.default)
        try:
            reading = _CONVERTER.get_structure_hook(annotation)
        except Exception as error:  # fields of user classes are resolved here, which runs their code
            raise SettingsError([f"{job_name}: {parameter.name} cannot be read from JSON: {error}"]) from error
        absent = parameter.default
        if absent is REQUIRED and type(None) in _alternatives(annotation):
            absent = None
        return cls(job_name, annotation, reading, absent)

    @classmethod
    def for_type(cls, job_name: str, annotation: object) -> "DataReader":
        """The reader for a type that no parameter names."""
        return cls.build(job_name, DataParameter("data", annotation))

    def read(self, text: str | None) -> object:
        """The value; raises `InvalidJobData` with every mistake, and nothing else whatever the text is."""
        value: object = None
        if text:
            try:
                # Names of a dict may differ in case only; for fields `_record` notices it.
                value = read_json(text, case_matters=True)
            except InvalidMessage as error:
                raise InvalidJobData(self.job_name, [f"$: {error.problem}"]) from error
        if value is None:
            if self._absent is REQUIRED:
                raise InvalidJobData(self.job_name, [f"$: there is no data, expected {_words(self._annotation)}"])
            return self._absent
        if self._reading is None:
            return value
        try:
            return self._reading(value, self._annotation)
        except Exception as error:  # validators and converters of user classes raise what they want
            raise InvalidJobData(self.job_name, list(_mistakes(error, "$"))) from error


# --- what is wrong with data ----------------------------------------------------------------------------------------


class _Misfit(ValueError):
    """A value is not what its place asks for."""

    def __init__(self, found: object, expected: str) -> None:
        super().__init__(f"found {_shown(found)}, expected {expected}")


def _shown(value: object) -> str:
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return f'the text "{value[:40]}…"' if len(value) > 40 else f'the text "{value}"'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"the number {value}"


def _mistakes(error: Exception, path: str) -> abc.Iterator[str]:
    """One line per mistake, from the tree of errors in which cattrs collects them."""
    if isinstance(error, ClassValidationError):
        placed, whole = error.group_exceptions()
        for mistake, place in placed:
            if isinstance(mistake, KeyError):
                yield f"{path}.{place.name.lstrip('_')}: is missing, expected {_words(place.type)}"
            else:
                yield from _mistakes(mistake, f"{path}.{place.name.lstrip('_')}")
    elif isinstance(error, IterableValidationError):
        items, whole = error.group_exceptions()
        for mistake, item in items:
            yield from _mistakes(mistake, f"{path}[{item.index!r}]")
    else:
        words = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        yield f"{path}: {words or type(error).__name__}"
        return
    for mistake in whole:
        yield from _mistakes(mistake, path)


# --- types ----------------------------------------------------------------------------------------------------------

_ANYTHING: Final[tuple[object, ...]] = (object, typing.Any)
_LISTS: Final[dict[object, Callable[[list[object]], object]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
_OBJECTS: Final[tuple[object, ...]] = (dict, abc.Mapping, abc.MutableMapping)


def _without_metadata(annotation: object) -> object:
    """The type behind `Annotated`, `NewType` and `type` aliases, as far as they are outermost."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # typing has the class from 3.12 on
            annotation = getattr(annotation, "__value__", object)
        else:
            return annotation


def _alternatives(annotation: object) -> tuple[object, ...]:
    """The members of a union, each without metadata; of anything else, itself."""
    annotation = _without_metadata(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for member in typing.get_args(annotation) for kind in _alternatives(member))
    return (type(None) if annotation is None else annotation,)


def _is_record(annotation: object) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and (attrs.has(kind) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind))


class _DataConverter(Converter):
    """cattrs' code generation and collecting of errors, without its coercions.

    Its own dispatch asks for base classes before anything else, so that an enum of texts would be read as a text, and
    has hooks for types we want to refuse. So every type is looked up here; what is not listed is an error at start.
    """

    def __init__(self) -> None:
        super().__init__(detailed_validation=True, use_alias=True)
        self.readings: dict[object, Reading] = {}

    def get_structure_hook(self, type: object, cache_result: bool = True) -> Reading:
        annotation = _without_metadata(type)
        reading = self.readings.get(annotation)
        if reading is None:
            reading = self._compiled(annotation)
            self.readings[annotation] = reading
        return reading

    def structure(self, obj: object, cl: type[T]) -> T:
        # Generated code calls this for a type that contains itself.
        value: T = typing.cast("T", self.get_structure_hook(cl)(obj, cl))
        return value

    def _compiled(self, annotation: object) -> Reading:
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if annotation in _ANYTHING:
            return _as_it_is
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if origin is Literal:
            return _literal(arguments)
        if origin in (Union, types.UnionType):
            return _union(_alternatives(annotation), self)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return _enum(annotation)
        if origin is tuple and arguments and arguments[-1:] != (...,):
            return _fixed_tuple(() if arguments == ((),) else arguments, self)
        if origin in _LISTS:
            return _items(_LISTS[origin], arguments[0] if arguments else object, self)
        if origin in _OBJECTS:
            return _members(*(arguments or (str, object)), converter=self)
        if _is_record(annotation):
            # cattrs catches this and looks the inner one up when it is needed.
            if annotation in _unfinished.get():
                raise RecursionError(annotation)
            token = _unfinished.set(_unfinished.get() | {annotation})
            try:
                return _record(annotation, self)
            finally:
                _unfinished.reset(token)
        # cattrs takes this error, and no other, to mean that a field's own converter gets the decoded JSON.
        raise StructureHandlerNotFoundError(
            f"{_words(annotation)} has no JSON form. Use attrs classes, dataclasses, TypedDict, text, numbers, bool, "
            "list, dict, Literal, Enum, UUID, Decimal, dates and times.",
            typing.cast("type[object]", annotation),
        )


_unfinished: ContextVar[frozenset[object]] = ContextVar("milvaion_trio_unfinished_readings", default=frozenset())
"""The classes being compiled right now, by this thread."""


# --- values that are no containers ----------------------------------------------------------------------------------


_PLAIN_WORDS: Final[dict[object, str]] = {
    object: "anything",
    typing.Any: "anything",
    type(None): "null",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "a date and time like 2026-04-02T09:15:30Z",
    date: "a date like 2026-04-02",
    time: "a time of day like 09:15:30",
    timedelta: "a duration like 1.02:03:04.5 (days.hours:minutes:seconds)",
    UUID: "a UUID of 36 characters",
    Decimal: "a text with a decimal number",
}


def _as_it_is(value: object, _: object) -> object:
    return value


def _null(value: object, _: object) -> None:
    if value is not None:
        raise _Misfit(value, "null")


def _text(value: object, _: object) -> str:
    if type(value) is not str:
        raise _Misfit(value, "a text")
    return value


def _whole_number(value: object, _: object) -> int:
    if type(value) is not int:
        raise _Misfit(value, "a whole number")
    return value


def _number(value: object, _: object) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise _Misfit(value, "a number")
    return float(value)


def _boolean(value: object, _: object) -> bool:
    if type(value) is not bool:
        raise _Misfit(value, "true or false")
    return value


def _from_text(kind: type, pattern: str, parse: Callable[[str], object]) -> Reading:
    form = re.compile(pattern, re.ASCII)

    def reading(value: object, _: object) -> object:
        if type(value) is str and form.fullmatch(value):
            try:
                return parse(value)
            except (ValueError, ArithmeticError):
                pass
        raise _Misfit(value, _PLAIN_WORDS[kind])

    return reading


_TIME_SPAN = re.compile(r"(-?)(?:(\d+)\.)?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,7}))?", re.ASCII)


def _time_span(text: str) -> timedelta:
    sign, days, hours, minutes, seconds, fraction = _TIME_SPAN.fullmatch(text).groups("0")  # type: ignore[union-attr] # matched before
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        raise ValueError(text)
    microseconds = int(f"{fraction:0<7}"[:6])
    span = timedelta(int(days), int(seconds), microseconds, minutes=int(minutes), hours=int(hours))
    return -span if sign == "-" else span


_PLAIN: Final[dict[object, Reading]] = {
    type(None): _null,
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _boolean,
    datetime: _from_text(datetime, r"\d.*", lambda text: Instant.parse(text).to_datetime()),
    date: _from_text(date, r"\d{4}-\d\d-\d\d", date.fromisoformat),
    time: _from_text(time, r"\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", time.fromisoformat),
    timedelta: _from_text(timedelta, _TIME_SPAN.pattern, _time_span),
    UUID: _from_text(UUID, r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
    Decimal: _from_text(Decimal, r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,4})?", Decimal),
}


def _words(annotation: object) -> str:
    """A type, to somebody who writes JSON."""
    members = _alternatives(annotation)
    if len(members) > 1:
        return " or ".join(map(_words, members))
    kind = members[0]
    origin = typing.get_origin(kind) or kind
    if origin is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if origin in _LISTS:
        return "a list"
    if origin in _OBJECTS or _is_record(kind):
        return "an object"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    return _PLAIN_WORDS.get(kind) or str(getattr(kind, "__name__", repr(kind)))


def _literal(values: tuple[object, ...]) -> Reading:
    allowed = {(type(value), value): value for value in values if not isinstance(value, Enum)}
    for value in values:
        if isinstance(value, Enum):
            allowed[str, value.name] = allowed[type(value.value), value.value] = value
    words = "one of " + ", ".join(map(repr, values))

    def reading(value: object, _: object) -> object:
        try:
            return allowed[type(value), value]
        except (KeyError, TypeError):
            raise _Misfit(value, words) from None

    return reading


def _enum(kind: type[Enum]) -> Reading:
    by_value = {(type(member.value), member.value): member for member in kind if _is_hashable(member.value)}
    # .NET writes member names in its own spelling: InProgress is IN_PROGRESS.
    by_name = {_folded(name): member for name, member in kind.__members__.items()}
    by_name |= dict(kind.__members__)
    words = _words(kind)

    def reading(value: object, _: object) -> object:
        if isinstance(value, str | int | float):
            member = by_value.get((type(value), value))
            if member is None and isinstance(value, str):
                member = by_name.get(value) or by_name.get(_folded(value))
            if member is not None:
                return member
        raise _Misfit(value, words)

    return reading


def _is_hashable(value: object) -> bool:
    return isinstance(value, abc.Hashable)


# --- containers -----------------------------------------------------------------------------------------------------


def _union(members: tuple[object, ...], converter: _DataConverter) -> Reading:
    """The first member that fits, after those that are the value's own type: 1 is an int in `float | int`."""
    readings = [(member, converter.get_structure_hook(member)) for member in members if member is not type(None)]
    if len(readings) < len(members):
        # Most unions are `X | None`: a value is then null, or X's alone, whose words say more than the union's.
        other = readings[0][1] if len(readings) == 1 else _union(tuple(member for member, _ in readings), converter)
        return lambda value, kind: None if value is None else other(value, kind)
    own = tuple(member for member in members if member in (int, float, bool))
    words = " or ".join(map(_words, members))

    def reading(value: object, _: object) -> object:
        if type(value) in own:
            return value
        nearly: list[Exception] = []
        for member, read in readings:
            try:
                return read(value, member)
            except (ClassValidationError, IterableValidationError) as error:
                nearly.append(error)
            except Exception:
                continue  # the next member may fit; the words below name them all
        # Of the right shape with mistakes inside: those say more than the shape.
        if len(nearly) == 1:
            raise nearly[0]
        raise _Misfit(value, words)

    return reading


def _items(build: Callable[[list[object]], object], item: object, converter: _DataConverter) -> Reading:
    read = list_structure_factory(list[item], converter)  # type: ignore[valid-type] # a type made at run time

    def reading(value: object, _: object) -> object:
        if type(value) is not list:
            raise _Misfit(value, "a list")
        return build(read(value, list))

    return reading


def _fixed_tuple(kinds: tuple[object, ...], converter: _DataConverter) -> Reading:
    readings = [(kind, converter.get_structure_hook(kind)) for kind in kinds]

    def reading(value: object, _: object) -> object:
        if type(value) is not list or len(value) != len(readings):
            raise _Misfit(value, f"a list of {len(readings)}")
        items, mistakes = [], []
        for index, (item, (kind, read)) in enumerate(zip(value, readings, strict=True)):
            try:
                items.append(read(item, kind))
            except Exception as error:
                error.__notes__ = [IterableValidationNote("", index, kind)]
                mistakes.append(error)
        if mistakes:
            raise IterableValidationError("", mistakes, tuple)
        return tuple(items)

    return reading


def _members(key: object, member: object, *, converter: _DataConverter) -> Reading:
    if any(kind in (int, float, bool) for kind in _alternatives(key)):
        raise TypeError(f"names in JSON are texts, so they cannot be {_words(key)}")
    read = make_mapping_structure_fn(dict[key, member], converter)  # type: ignore[valid-type] # made at run time

    def reading(value: object, _: object) -> object:
        if type(value) is not dict:
            raise _Misfit(value, "an object")
        return read(value, dict)

    return reading


def _record(kind: object, converter: _DataConverter) -> Reading:
    """A class with fields: names are matched without regard to case and `_`, unknown ones ignored."""
    names, read = _fields(kind, converter)

    def reading(value: object, _: object) -> object:
        if type(value) is not dict:
            raise _Misfit(value, "an object")
        members: dict[str, object] = {}
        doubles: list[Exception] = []
        for spelled, member in value.items():
            name = names.get(spelled)
            if name is None:
                name = names.get(_folded(spelled))
                if name is None:
                    continue
            if name in members:
                doubles.append(ValueError(f'more than one member is {name}, the last of them "{spelled}"'))
            members[name] = member
        if not doubles:
            return read(members, kind)
        try:
            read(members, kind)
        except ClassValidationError as error:
            doubles.append(error)
        raise ClassValidationError("", doubles, dict)

    return reading


def _fields(kind: object, converter: _DataConverter) -> tuple[dict[str, str], Reading]:
    """How the fields may be spelled, and what reads them once they have their own names."""
    origin = typing.cast("type[object]", typing.get_origin(kind) or kind)
    if typing.is_typeddict(origin):
        members, read = _typed_dict(origin, converter)
    else:
        if attrs.has(origin):
            attrs.resolve_types(origin)
            members = {field.alias or field.name: field.name for field in attrs.fields(origin) if field.init}
        elif dataclasses.is_dataclass(origin):
            members = {field.name: field.name for field in dataclasses.fields(origin) if field.init}
        read = typing.cast("Reading", make_dict_structure_fn(typing.cast("type[object]", kind), converter))
    names: dict[str, str] = {}
    for name, attribute in members.items():
        for spelled in {_folded(name), _folded(attribute)}:
            if names.setdefault(spelled, name) != name:
                raise TypeError(f"the fields {names[spelled]} and {name} of {origin.__name__} are one name in JSON")
    # The usual spellings are found without folding.
    for name in members:
        camel = re.sub("_+(.)", lambda match: match[1].upper(), name.strip("_"))
        names |= {name: name, camel: name, camel[:1].upper() + camel[1:]: name}
    return names, read


def _typed_dict(kind: type[object], converter: _DataConverter) -> tuple[dict[str, str], Reading]:
    """As cattrs would do it, which misses `NotRequired` in modules with `from __future__ import annotations`."""
    required: dict[str, bool] = {}
    readings: dict[str, tuple[object, Reading]] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        required[name] = name in getattr(kind, "__required_keys__", ())
        if (marker := typing.get_origin(hint)) in (typing.Required, typing.NotRequired):
            required[name] = marker is typing.Required
            hint = typing.get_args(hint)[0]
        try:
            readings[name] = hint, converter.get_structure_hook(hint)
        except RecursionError:
            readings[name] = hint, typing.cast("Reading", converter.structure)

    def reading(members: dict[str, object], _: object) -> object:
        value: dict[str, object] = {}
        mistakes: list[Exception] = []
        for name, (hint, read) in readings.items():
            try:
                if name in members or required[name]:
                    value[name] = read(members[name], hint)
            except Exception as error:
                error.__notes__ = [AttributeValidationNote("", name, hint)]
                mistakes.append(error)
        if mistakes:
            raise ClassValidationError("", mistakes, kind)
        return value

    return {name: name for name in readings}, typing.cast("Reading", reading)


@functools.lru_cache(maxsize=1024)
def _folded(name: str) -> str:
    return name.replace("_", "").lower()


_CONVERTER: Final = _DataConverter()
