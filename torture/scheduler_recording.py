"""What a process that may lead writes down: when it leads, and what it does as a leader, each with its token.

Separate from the other recordings, because it is installed only where schedules are played.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.wrapping import around, replace

__all__ = ["DIES", "install"]

PACKAGE = "milvaion_trio.scheduler"
DIES = "dies"
"""The name of that file, in the folder of the process."""


def install(note: Callable[..., None], dies: Path) -> None:
    """Write lines `leads`, `follows`, `dispatches` and `writes`, before each is done, and `refused` after a write.

    When the file `dies` is there, the process kills itself before it writes what was dispatched and confirmed.
    """

    def dispatches(_: Any, term: Any, agenda: Any, publisher: Any, of_one_queue: Any) -> None:
        if term.holds:
            note("dispatches", number=term.token, messages=len(of_one_queue))

    def confirmed(*_: Any) -> None:
        has_dispatched.append(True)

    def die_if_told() -> None:
        if dies.exists():
            dies.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    has_dispatched: list[bool] = []
    around(f"{PACKAGE}.agenda:Agenda.done", after=confirmed)
    around(f"{PACKAGE}.scheduler:Scheduler._lead", before=lambda _, term, agenda: note("leads", number=term.token))
    around(f"{PACKAGE}.leading:Leading.resign", before=lambda _, term, agenda: note("follows", number=term.token))
    around(f"{PACKAGE}.dispatching:Dispatching._carry_out", before=dispatches)

    def make(advance: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(keeper: Any, token: Any, progress: Any, taken: Any) -> Any:
            if has_dispatched:
                die_if_told()
            has_dispatched.clear()
            note("writes", number=token, schedules=len(progress))
            is_taken = await advance(keeper, token, progress, taken)
            if not is_taken:
                note("refused", number=token, schedules=len(progress))
            return is_taken

        return noted

    replace("milvaion_trio.coordination.redis.adapter:RedisCoordination.advance", make)
