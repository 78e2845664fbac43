"""What an earlier process left in the outbox file, in numbers.

Separate from the store, which imports SQLite: the backlog counts with these, in memory too.
"""

from attrs import frozen

from milvaion_trio.model.ids import OccurrenceId

__all__ = ["Tally"]


@frozen
class Tally:
    """The rows of one occurrence, or of none, that were left behind by an earlier process."""

    occurrence_id: OccurrenceId | None
    rows: int
    finals: int
    """How many of them are of a conclusion."""
    log_rows: int
    log_bytes: int
