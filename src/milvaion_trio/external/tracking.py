"""`track`: the code between entering and leaving is a run; as a decorator, each call of the function is one.

Separate from the run, which is one of maybe many: a decorated function makes a new one for each call.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar, cast

from attrs import define, field

from milvaion_trio.external.run import TrackedRun, completed, outcome_of

__all__ = ["Tracking"]

F = TypeVar("F", bound=Callable[..., Any])


@define(eq=False)
class Tracking:
    """What `track` returns: `with` it, or decorate a function, plain or async."""

    _begin: Callable[[], TrackedRun]
    _run: TrackedRun | None = field(default=None, init=False)

    def __enter__(self) -> TrackedRun:
        """The run begins."""
        if self._run is not None:
            raise RuntimeError("This run was begun already. Call `track` again: each call is one run.")
        self._run = self._begin()
        return self._run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The run ended; what it raised goes on."""
        if self._run is not None:
            self._run.end(outcome_of(error))

    def __call__(self, function: F) -> F:
        """The same function, each call of which is a run; what it returns is the result."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__name__} has a `yield`: only plain and async functions can be tracked.")
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def tracked_async(*args: Any, **keywords: Any) -> Any:
                with Tracking(self._begin) as run:
                    value = await function(*args, **keywords)
                    run.end(completed(value))
                return value

            return cast("F", tracked_async)

        @wraps(function)
        def tracked(*args: Any, **keywords: Any) -> Any:
            with Tracking(self._begin) as run:
                value = function(*args, **keywords)
                run.end(completed(value))
            return value

        return cast("F", tracked)
