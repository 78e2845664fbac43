"""T31: processes that conclude as fast as they can, killed in the middle of their commits; no worker, no broker."""

import tempfile
from typing import Final

from torture.play import Play
from torture.programs import in_own_process
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]


async def play(play: Play) -> None:
    """Kill, and look through the file after each time. If cancelled, it stops."""
    with tempfile.TemporaryDirectory(prefix="mtrio-torture-") as folder:
        found = await in_own_process(
            "torture.outbox_kills", folder, play.size.faults, play.seed, *play.workers.told.sabotages
        )
    violations = found.pop("violations")
    play.facts["outbox"] = found
    for invariant, about in violations:
        play.complain(invariant, about)


SCENARIO: Final = Scenario(
    id="T31",
    title="an outbox whose process is killed in the middle of its commits",
    full=Size(jobs=0, faults=2_000, limit=1_200),
    short=Size(jobs=0, faults=40),
    play=play,
    sabotages={"marks-apart": frozenset({"one"}), "told-early": frozenset({"kept"})},
    slow_bites=frozenset({"marks-apart"}),
)
