"""Providers: values that jobs ask for by type, made by factories and closed when they are no longer needed.

Which factory needs which is looked up when the worker starts. A job that asks for nothing never comes here.
"""

import contextlib
import functools
import inspect
import math
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from typing import Literal, TypeAlias, TypeVar

import trio
from attrs import define, field

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.parameters import Parameters, inspect_parameters

__all__ = ["ProviderFactory", "ProviderScope", "Providers"]

T = TypeVar("T")
ProviderScope: TypeAlias = Literal["job", "worker"]
Provided: TypeAlias = T | Awaitable[T] | AbstractAsyncContextManager[T] | AbstractContextManager[T]
ProviderFactory: TypeAlias = Callable[..., Provided[T]]


@define(eq=False)
class _Provider:
    """How to make the value of one type."""

    kind: object
    factory: Callable[..., object]
    scope: ProviderScope
    needs: Mapping[str, object] = field(factory=dict, init=False)
    """By parameter name, the provided types (or the context) that the factory takes."""

    @property
    def shown(self) -> str:
        return str(getattr(self.kind, "__name__", self.kind))

    async def open(self, values: Mapping[object, object], stack: AsyncExitStack) -> object:
        """Make the value and leave on the stack whatever closes it. If cancelled, there is nothing to close."""
        try:
            made = self.factory(**{name: values[kind] for name, kind in self.needs.items()})
            if inspect.iscoroutine(made):
                made = await made
            if self._is_the_value(made):
                return made
            if isinstance(made, AbstractAsyncContextManager):
                return await stack.enter_async_context(made)
            if isinstance(made, AbstractContextManager):
                return stack.enter_context(made)
        except Exception as error:
            error.add_note(f"Raised while {self.shown} was made.")
            raise
        return made

    def _is_the_value(self, made: object) -> bool:
        """A Lock is a context manager too, but who asked for a Lock wants it open; only other managers are entered."""
        kind = typing.get_origin(self.kind) or self.kind
        try:
            return isinstance(kind, type) and isinstance(made, kind)
        except TypeError:  # a Protocol that cannot be tested for
            return False


class Providers:
    """The factories of one worker, and the values that live as long as it serves."""

    def __init__(self) -> None:
        self._providers: dict[object, _Provider] = {}
        self._order: tuple[_Provider, ...] = ()
        self._context_type: type | None = None
        self._worker_values: dict[object, object] = {}
        self._plans: dict[tuple[object, ...], tuple[_Provider, ...]] = {}

    @property
    def types(self) -> frozenset[object]:
        """Everything that can be asked for."""
        return frozenset(self._providers)

    def provide(self, kind: type[T], factory: ProviderFactory[T], scope: ProviderScope = "job") -> None:
        """Let jobs ask for a `kind`; the same one again replaces the first, as tests like to do.

        The factory is a plain callable, an async function, or returns a (sync or async) context manager.
        Its parameters are provided as a job's are, the context too where the scope is `job`.
        """
        if scope not in typing.get_args(ProviderScope):
            raise SettingsError([f"The scope of {kind!r} is {scope!r}; it must be 'job' or 'worker'."])
        self._providers[kind] = _Provider(kind, factory, scope)

    def replaced(self, values: Mapping[type, object]) -> "Providers":
        """The same providers, except that these values are given out as they are, e.g. to tests that look at them."""
        other = Providers()
        other._providers = dict(self._providers)
        for kind, value in values.items():
            # Wrapped, as a mock looks like a context manager too and must not be entered.
            other._providers[kind] = _Provider(kind, functools.partial(contextlib.nullcontext, value), "worker")
        return other

    def check(self, context_type: type) -> None:
        """Find out what every factory needs; raises `SettingsError` with every mistake. Comes before any scope."""
        self._context_type, self._plans = context_type, {}
        problems = [
            f"{provider.shown} is provided by a function with `yield`; decorate it with contextlib.asynccontextmanager "
            "or contextlib.contextmanager."
            for provider in self._providers.values()
            if inspect.isasyncgenfunction(provider.factory) or inspect.isgeneratorfunction(provider.factory)
        ]
        if context_type in self._providers:
            problems.append(f"{context_type.__name__} is given to every job already; it cannot be provided.")
        for provider in self._providers.values():
            try:
                parameters = inspect_parameters(
                    provider.factory, context_type=context_type, provided=self.types, takes_data=False
                )
            except SettingsError as error:
                problems += error.problems
                continue
            provider.needs = self._needs(parameters)
            problems += self._scope_problems(provider)
        problems += self._circles()
        if problems:
            raise SettingsError(problems)
        self._order = self._in_order(self._providers)

    @contextlib.asynccontextmanager
    async def worker_scope(self) -> AsyncIterator[None]:
        """Make what lives as long as the worker, each after what it needs; closed in reverse.

        If cancelled, what was made is closed, with the cancellation visible to it.
        """
        async with AsyncExitStack() as stack:
            try:
                for provider in self._order:
                    if provider.scope == "worker":
                        self._worker_values[provider.kind] = await provider.open(self._worker_values, stack)
                yield
            finally:
                self._worker_values = {}

    @contextlib.asynccontextmanager
    async def job_scope(
        self,
        context: object,
        needed: Mapping[str, object],
        *,
        cleanup_timeout: float = 5.0,
        must_end_by: Callable[[], float] = lambda: math.inf,
    ) -> AsyncIterator[Mapping[str, object]]:
        """The values for one run, under the keys of `needed`; closed in reverse, before the job is concluded.

        An error of a factory leaves from here, like one of the job. Closers see the job's error and cannot hide it.
        If cancelled, closing goes on for at most `cleanup_timeout` seconds, and not beyond `must_end_by`, which is
        asked when it begins. `trio.TooSlowError` if only that failed.
        """
        values = {**self._worker_values, self._context_type: context}
        plan = self._plan(tuple(needed.values()))
        raised: BaseException | None = None
        # One scope around everything, shielded only while closing: a shield that began after a provider opened a scope
        # of its own would have to end before it.
        with trio.CancelScope() as closing:
            try:
                async with AsyncExitStack() as stack:
                    try:
                        for provider in plan:
                            values[provider.kind] = await provider.open(values, stack)
                        yield {key: values[kind] for key, kind in needed.items()}
                    except BaseException as error:
                        raised = error
                        raise
                    finally:
                        closing.shield = True
                        closing.deadline = min(trio.current_time() + cleanup_timeout, must_end_by())
            finally:
                closing.shield = False
        if raised is not None:
            raise raised
        if closing.cancelled_caught:
            names = ", ".join(provider.shown for provider in plan)
            raise trio.TooSlowError(f"Closing what the job was given ({names}) took longer than {cleanup_timeout:g} s.")

    def _plan(self, kinds: tuple[object, ...]) -> tuple[_Provider, ...]:
        """What must be made for a run that needs these, each after what it needs itself."""
        plan = self._plans.get(kinds)
        if plan is None:
            wanted = (provider for provider in self._in_order(kinds) if provider.scope == "job")
            plan = self._plans[kinds] = tuple(wanted)
        return plan

    def _in_order(self, kinds: Iterable[object]) -> tuple[_Provider, ...]:
        ordered: dict[object, _Provider] = {}

        def add(kind: object) -> None:
            provider = self._providers.get(kind)
            if provider is not None and kind not in ordered:
                for need in provider.needs.values():
                    add(need)
                ordered[kind] = provider

        for kind in kinds:
            add(kind)
        return tuple(ordered.values())

    def _needs(self, parameters: Parameters) -> Mapping[str, object]:
        if parameters.context is None:
            return parameters.provided
        return {**parameters.provided, parameters.context: self._context_type}

    def _scope_problems(self, provider: _Provider) -> list[str]:
        if provider.scope == "job":
            return []
        short_lived = [
            getattr(kind, "__name__", str(kind))
            for kind in provider.needs.values()
            if kind not in self._providers or self._providers[kind].scope == "job"
        ]
        return [
            f"{provider.shown} lives as long as the worker, but its factory needs {name}, which lives as long as a job."
            for name in short_lived
        ]

    def _circles(self) -> list[str]:
        problems: list[str] = []
        finished: set[object] = set()

        def follow(kind: object, path: tuple[_Provider, ...]) -> None:
            provider = self._providers.get(kind)
            if provider is None or kind in finished:
                return
            if provider in path:
                circle = (*path[path.index(provider) :], provider)
                problems.append("These providers need each other: " + " -> ".join(one.shown for one in circle) + ".")
            else:
                for need in provider.needs.values():
                    follow(need, (*path, provider))
            finished.add(kind)

        for kind in self._providers:
            follow(kind, ())
        return problems
