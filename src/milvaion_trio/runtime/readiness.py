"""Readiness: what keeps the worker from taking jobs now, part by part.

Separate because many parts tell and many ask: links, alarms, the outbox and the intakes name their problems here, and
whoever must not go on meanwhile waits here. What is down is not necessarily wrong: jobs that run go on.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.model.events import ReadinessChanged
from milvaion_trio.model.readiness import WorkerReadiness
from milvaion_trio.runtime.observers import Observers

__all__ = ["BLOCKED", "JOB_LIMIT", "OUTBOX", "WORKER", "Readiness"]

WORKER = "worker"
"""It starts or leaves."""
BLOCKED = "publishing blocked"
"""The broker does not read what is published."""
OUTBOX = "outbox"
"""Reports cannot be written where they should be, so no work is taken on."""
JOB_LIMIT = "job limit"
"""The process has begun all the jobs that it may run."""


@define(eq=False)
class Readiness:
    """The problems of the moment by the part that has them; the worker is ready while there are none."""

    _observers: Observers
    _problems: dict[str, str] = field(factory=lambda: {WORKER: "it is starting"}, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)
    _leaving: dict[trio.CancelScope, str] = field(factory=dict, init=False)
    """Blocks that end when a part gets a problem."""

    @property
    def is_ready(self) -> bool:
        """Whether no part has a problem."""
        return not self._problems

    @property
    def now(self) -> WorkerReadiness:
        """All of it, as a value that does not change any more. From any thread."""
        return WorkerReadiness(dict(self._problems))

    def has(self, part: str) -> bool:
        """Whether the part has a problem."""
        return part in self._problems

    def report(self, part: str, problem: str) -> None:
        """Say what is wrong with a part, or with "" that nothing is any more. Observers hear it if that changes all."""
        was_ready = self.is_ready
        if problem:
            self._problems[part] = problem
            for scope in [scope for scope, needed in self._leaving.items() if needed == part]:
                scope.cancel(f"{part}: {problem}")
        elif self._problems.pop(part, None) is not None:
            self._changed.set()
            self._changed = trio.Event()
        if self.is_ready is not was_ready:
            self._observers.tell(ReadinessChanged(self.is_ready, dict(self._problems)))

    def reporter(self, part: str) -> Callable[[str], None]:
        """A function that reports about this part."""
        return partial(self.report, part)

    async def wait_without(self, part: str) -> None:
        """Return when the part has no problem. If cancelled, nothing changes."""
        await trio.lowlevel.checkpoint()
        while part in self._problems:
            await self._changed.wait()

    @contextlib.contextmanager
    def only_without(self, part: str) -> Iterator[None]:
        """Leave the block, by cancelling it, once the part has a problem."""
        with trio.CancelScope() as scope:
            self._leaving[scope] = part
            try:
                if part in self._problems:
                    scope.cancel(f"{part}: {self._problems[part]}")
                yield
            finally:
                del self._leaving[scope]
