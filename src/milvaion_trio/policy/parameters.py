"""What a job's parameters mean: the context, something provided, or the data of the message.

Looked up once, when the worker starts; `binding` then turns data into what the data's parameter asks for.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Final

import attrs
from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.annotations import alternatives, without_metadata

__all__ = ["REQUIRED", "DataParameter", "Parameters", "inspect_parameters", "returned_type"]

REQUIRED: Final = inspect.Parameter.empty
"""Stands for the default of a parameter that has none."""


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


def returned_type(function: Callable[..., object]) -> object:
    """What a callable says that it returns; `object` where it says nothing, or nothing that can be resolved.

    Results are written whatever they are, so this is no reason to stop a start.
    """
    try:
        annotation = inspect.signature(function).return_annotation
        return object if annotation is inspect.Signature.empty else _resolved(annotation, function)
    except Exception:  # an annotation is an expression: it may raise whatever it wants
        return object


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
        plain = without_metadata(annotation)
        if plain is self.context_type or self.context_type in alternatives(plain):
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
