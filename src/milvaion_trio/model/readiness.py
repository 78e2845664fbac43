"""Whether a worker takes jobs now, as a value for whoever asks: a probe, a page, a test.

Separate from the events, which tell when it changes.
"""

from collections.abc import Mapping

from attrs import field, frozen

__all__ = ["WorkerReadiness"]


@frozen
class WorkerReadiness:
    """A worker as it was when asked."""

    problems: Mapping[str, str] = field(factory=dict)
    """What keeps it from taking jobs, by the part that is in trouble, e.g. `consuming`: why there is no connection."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes jobs from every queue and can report about them."""
        return not self.problems
