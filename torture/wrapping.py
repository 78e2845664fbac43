"""Functions of the library replaced from outside, in the process that calls this.

Separate because crash points, sabotages and recordings all do it, and because no line of the library may know of it.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["around", "replace"]


def replace(target: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(original)` in the place of `module:name` or `module:Class.name`.

    Raises `LookupError` where there is no such function, so that a renamed one is noticed at once.
    """
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    original = inspect.getattr_static(owner, name, None) if owner is not None else None
    if not callable(original):
        raise LookupError(f"there is no function {target}")
    setattr(owner, name, make(original))


def around(
    target: str, *, before: Callable[..., object] | None = None, after: Callable[..., object] | None = None
) -> None:
    """Call `before` with the arguments when the function is called, `after` with them when it has returned."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def plain(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args, **kwargs)
            result = original(*args, **kwargs)
            if after is not None:
                after(*args, **kwargs)
            return result

        @wraps(original)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                before(*args, **kwargs)
            result = await original(*args, **kwargs)
            if after is not None:
                after(*args, **kwargs)
            return result

        return waiting if inspect.iscoroutinefunction(original) else plain

    replace(target, make)
