"""The numbers of an outbox, for tests and for whoever shows them. Every outbox has the same."""

from attrs import frozen

__all__ = ["OutboxStatistics"]


@frozen(kw_only=True)
class OutboxStatistics:
    """The outbox in numbers, since the start of the process."""

    pending: int
    """Rows without a confirm."""
    pending_logs: int
    """How many of them are logs."""
    confirmed: int
    """Rows that the broker confirmed."""
    dropped_logs: int
    """Log rows that found no room."""
    superseded: int
    """Running rows that a final row made needless before they could leave."""
    retried: int
    """How often a row had to be sent again, because it was refused or its link was lost."""
