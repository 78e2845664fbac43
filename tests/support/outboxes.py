"""An outbox that remembers what it was told, for tests of what a worker does with deaths and lost reports.

In memory like the one it derives from, so that deaths of processes can be made up.
"""

from collections.abc import Sequence

import pytest
import trio
from attrs import define, field

from milvaion_trio import composition
from milvaion_trio.model.errors import ReportsLost
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.ports import Report

__all__ = ["RememberingOutbox", "given_to_workers"]


@define(eq=False)
class RememberingOutbox(MemoryOutbox):
    """A memory outbox of which tests decide what it remembers."""

    died: dict[OccurrenceId, int] = field(factory=dict, init=False)
    """How many processes died while the occurrence's attempt ran, until it is concluded."""
    lost: dict[OccurrenceId, int] = field(factory=dict, init=False)
    """How many times the reports of this occurrence are lost."""
    writable: trio.Event | None = field(default=None, init=False)
    """Where set to an event, starts wait for it, as for a slow disk."""
    noted: list[tuple[str, OccurrenceId]] = field(factory=list, init=False)
    """What it was told, in order: `begun`, `started`, `returned` or `concluded`, and of which occurrence."""

    _forgotten: set[AttemptKey] = field(factory=set, init=False)

    def begun(self, attempt: AttemptKey) -> None:
        """Not waited for."""
        super().begun(attempt)
        self.noted.append(("begun", attempt.occurrence_id))

    async def started(self, attempt: AttemptKey) -> None:
        """Note it, when the disk is ready. If cancelled, it is not noted."""
        if self.writable is not None:
            await self.writable.wait()
        self.noted.append(("started", attempt.occurrence_id))

    def returned(self, attempt: AttemptKey) -> None:
        """Note it."""
        self.noted.append(("returned", attempt.occurrence_id))

    def deaths(self, attempt: AttemptKey, parked: int = 0) -> int:
        """As many as the test says."""
        return self.died.get(attempt.occurrence_id, 0)

    async def conclude(self, attempt: AttemptKey, reports: Sequence[Report]) -> None:
        """Conclude, or lose the reports with their file. If cancelled, as in a memory outbox."""
        self._lose(attempt)
        self.noted.append(("concluded", attempt.occurrence_id))
        self.died.pop(attempt.occurrence_id, None)
        self._forgotten.discard(attempt)
        await super().conclude(attempt, reports)

    def is_concluded(self, attempt: AttemptKey) -> bool:
        """Whether it was concluded, and that was not lost."""
        return attempt not in self._forgotten and super().is_concluded(attempt)

    async def settled(self, attempt: AttemptKey) -> None:
        """Wait for the confirms, or lose the reports with their file. If cancelled, nothing changes."""
        self._lose(attempt)
        await super().settled(attempt)

    def of(self, occurrence_id: OccurrenceId) -> list[str]:
        """What was noted about this occurrence, in order."""
        return [note for note, noted in self.noted if noted == occurrence_id]

    def _lose(self, attempt: AttemptKey) -> None:
        times = self.lost.pop(attempt.occurrence_id, 0)
        if times:
            self.lost[attempt.occurrence_id] = times - 1
            self._forgotten.add(attempt)
            raise ReportsLost("the outbox file became unreadable")


def given_to_workers(monkeypatch: pytest.MonkeyPatch) -> RememberingOutbox:
    """One outbox for every worker without a disk that is put together in this test."""
    outbox = RememberingOutbox()
    monkeypatch.setattr(composition, "outbox_for", lambda settings: outbox)
    return outbox
