"""What is written to the outbox file together: rows, marks of attempts, and which rows may go.

Separate from the outbox, which fills one while the one before is being written.
"""

import trio
from attrs import define, field

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.outbox.backlog import Row
from milvaion_trio.outbox.store import Mark, Store

__all__ = ["Batch"]


@define(eq=False)
class Batch:
    """One transaction."""

    rows: list[Row] = field(factory=list)
    marks: dict[AttemptKey, Mark] = field(factory=dict)
    """The last word on each attempt."""
    forgotten: list[int] = field(factory=list)
    """Numbers of rows."""
    tried: trio.Event = field(factory=trio.Event)
    """Set when it was written or could not be."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.marks) + len(self.forgotten)

    def write_to(self, store: Store) -> None:
        """Write what of it still says something; in the writer's thread, which alone has it then."""
        rows = [(row.number, row.report) for row in self.rows if not row.is_gone]
        store.write(rows, self.marks, self.forgotten)

    @classmethod
    def of(cls, earlier: "Batch", later: "Batch") -> "Batch":
        """Both as one, to be tried again. Rows that are gone are forgotten: they may be written all the same."""
        rows = (*earlier.rows, *later.rows)
        return cls(
            rows=[row for row in rows if not row.is_gone],
            marks={**earlier.marks, **later.marks},
            forgotten=[*earlier.forgotten, *later.forgotten, *(row.number for row in rows if row.is_gone)],
        )
