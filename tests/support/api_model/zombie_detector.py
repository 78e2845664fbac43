"""The zombie detector (WIRE.md 4.8): what was silent for too long becomes Unknown. Nothing is queued again."""

from attrs import define, field
from tests.support.api_model.database import Database, Occurrence, OccurrenceStatus
from tests.support.api_model.settings import ApiSettings

__all__ = ["ZombieDetector"]


@define(eq=False)
class ZombieDetector:
    """Looks at all occurrences, at its interval or when it is told to."""

    database: Database
    settings: ApiSettings
    found: list[str] = field(factory=list)
    """Ids of occurrences, one for each time that one became Unknown."""
    _next: float | None = None

    def tick(self, now: float) -> None:
        """Look when the interval is over; the first one begins with the first tick."""
        if self._next is None:
            self._next = now + self.settings.zombie_interval
        if now >= self._next:
            self._next = now + self.settings.zombie_interval
            self.sweep(now)

    def sweep(self, now: float) -> list[str]:
        """Look now; returns the occurrences that were lost."""
        lost = [occurrence for occurrence in self.database.occurrences.values() if self._is_lost(occurrence, now)]
        for occurrence in lost:
            before = OccurrenceStatus(occurrence.status).name.title()
            self.database.end(occurrence, OccurrenceStatus.UNKNOWN, f"Zombie: {before} for too long", now)
        self.found.extend(occurrence.id for occurrence in lost)
        return [occurrence.id for occurrence in lost]

    def _is_lost(self, occurrence: Occurrence, now: float) -> bool:
        patience = self.settings.zombie_timeout_minutes * 60
        if occurrence.status == OccurrenceStatus.QUEUED:
            if occurrence.zombie_timeout_minutes is not None:
                patience = occurrence.zombie_timeout_minutes * 60
            return now - occurrence.created_at > patience
        if occurrence.status == OccurrenceStatus.RUNNING:
            return occurrence.last_heartbeat is None or now - occurrence.last_heartbeat > patience
        return False
