"""What the wire makes of a message's fields: the names of the members, and which may be null or are arrays.

Separate because reading and writing must agree on it.
"""

import enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

__all__ = ["Casing", "camel_name", "is_nullable", "is_tuple", "pascal_name"]


class Casing(enum.Enum):
    """The two ways in which a job message is written."""

    PASCAL = "PascalCase, nulls are written"
    """Worker to worker: a retry copy."""
    CAMEL = "camelCase, nulls are left out"
    """Dispatcher to worker."""


def pascal_name(attribute: str) -> str:
    """The member that a field is: `job_id` is `JobId`."""
    return "OSVersion" if attribute == "os_version" else attribute.title().replace("_", "")


def camel_name(member: str) -> str:
    """The same member in a dispatcher's casing: `jobId`."""
    return member[0].lower() + member[1:]


def is_nullable(kind: Any) -> bool:
    """Whether a field of this type is another one or null."""
    return get_origin(kind) is UnionType and get_args(kind)[1:] == (NoneType,)


def is_tuple(kind: Any) -> bool:
    """Whether a field of this type is an array."""
    return get_origin(kind) is tuple
