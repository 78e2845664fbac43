"""Where another interpreter finds a job's code: its module, and its name in there.

Code does not travel to a process, only its name does. What has none, or stands elsewhere than it says, cannot run so.
"""

import functools
import importlib
import sys

from attrs import frozen

__all__ = ["Address", "address_of", "address_problem", "found_at"]


@frozen
class Address:
    """Where a function or a class is defined."""

    module: str
    name: str
    """With dots, for what stands inside a class."""


def address_of(target: object) -> Address:
    """Where this function or class says that it is defined; see `address_problem` first."""
    return Address(str(getattr(target, "__module__", "")), str(getattr(target, "__qualname__", "")))


def found_at(address: Address) -> object:
    """What is defined there: the function or class itself, also where a job definition took its name.

    Imports the module; raises what that raises, and `AttributeError` where nothing of the name is.
    """
    value: object = functools.reduce(getattr, address.name.split("."), importlib.import_module(address.module))
    return getattr(value, "target", value)  # of a JobDefinition, which no module here may know


def address_problem(target: object) -> str | None:
    """Why another interpreter would not find this, as the end of a sentence; `None` if it would."""
    address = address_of(target)
    if not address.name or not address.module:
        return "it has no name of its own; write a `def` at the top of a module."
    if "<locals>" in address.name or "<lambda>" in address.name:
        what = "a lambda" if address.name.endswith("<lambda>") else "defined inside a function"
        return f"it is {what}; write a `def` at the top of a module."
    main = sys.modules["__main__"]
    if address.module == "__main__" and not hasattr(main, "__file__") and getattr(main, "__spec__", None) is None:
        return "it stands in a program without a file; write it into a module."
    try:
        found = found_at(address)
    except (ImportError, AttributeError):
        found = None
    if found is not target:
        return f"{address.module}.{address.name} is something else; give each job's function a name of its own."
    return None
