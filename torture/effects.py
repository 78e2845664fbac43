"""The effects file: what worker processes did, a line each, written so that a kill tears nothing.

Separate from the worker program, because the harness reads what it writes, while it is written.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

__all__ = ["Effect", "Effects", "append"]

APPENDING: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@frozen(kw_only=True)
class Effect:
    """One line."""

    at: float
    """Unix seconds."""
    what: str
    """`start` of a process, `ready`, `begin` and `end` of a job's code, `unconfirmed` publishes at a lost link."""
    pid: int
    worker: str
    """The name of the process, which it keeps over its restarts."""
    occurrence: str = ""
    attempt: int = 0
    run: int = 0
    """`ctx.run_number`."""
    redelivered: bool = False
    token: str = ""
    """Of this run alone."""
    how: str = ""
    """How the job's code ends, or is about to."""
    facts: Mapping[str, Any] = field(factory=dict)
    """Whatever else was written."""


_MEMBERS: Final = frozenset(attribute.name for attribute in Effect.__attrs_attrs__) - {"facts"}


def append(path: str | Path, worker: str, what: str, **facts: object) -> None:
    """Write a line with one system call, so that lines of several processes never mix and a kill leaves whole ones."""
    line = {"at": time.time(), "what": what, "pid": os.getpid(), "worker": worker, **facts}
    file = os.open(path, APPENDING, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@define(eq=False)
class Effects:
    """The file as far as it was read; `look` reads on."""

    path: Path
    lines: list[Effect] = field(factory=list)
    _offset: int = 0

    def look(self) -> list[Effect]:
        """Read what came since the last look, and return that alone."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        new = list(map(_effect, map(json.loads, whole.splitlines())))
        self.lines += new
        return new

    def of(self, what: str) -> Iterator[Effect]:
        """Those of one kind that were read so far."""
        return (line for line in self.lines if line.what == what)


def _effect(line: dict[str, Any]) -> Effect:
    known = {name: line.pop(name) for name in _MEMBERS & line.keys()}
    return Effect(**known, facts=line)
