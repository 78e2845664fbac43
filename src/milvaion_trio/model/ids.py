"""Ids as they travel: text. A guid is 36 lower-case characters with dashes (WIRE.md 0.1)."""

import re
from typing import NewType

__all__ = ["InstanceId", "JobId", "OccurrenceId", "WorkerId", "parse_guid"]

OccurrenceId = NewType("OccurrenceId", str)
"""One execution of a scheduled job, the same for all its attempts."""

JobId = NewType("JobId", str)
"""The scheduled job definition that an occurrence belongs to."""

WorkerId = NewType("WorkerId", str)
"""Name of a worker group, e.g. `report-worker`."""

InstanceId = NewType("InstanceId", str)
"""One process of a worker group: the worker id, a dash and 8 hex digits."""

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_EMPTY = "00000000-0000-0000-0000-000000000000"


def parse_guid(text: object) -> str | None:
    """The lower-case form of a dashed guid, or `None` for anything else.

    The empty guid counts as no guid: messages without an id would all share it (WIRE.md 13.1, W9).
    """
    if not isinstance(text, str) or not _GUID.fullmatch(text) or text == _EMPTY:
        return None
    return text.lower()
