"""Named places at which a worker process kills itself, so that a kill -9 hits exactly there.

The names tell the life of a job in order. Installed from outside, by putting something around a function: the process
gets SIGKILL from itself at the n-th passing. `MTRIO_TORTURE` names one as `point:n`.
"""

import os
import signal
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

from attrs import frozen

from torture.wrapping import around

__all__ = ["POINTS", "Point", "install"]

EVERY: Final = frozenset({"ok", "retry", "exhausted", "cancelled", "timed-out"})
"""The outcomes of T02."""


@frozen(kw_only=True)
class Point:
    """A place in the code."""

    target: str
    """`module:name` or `module:Class.name`."""
    when: Literal["before", "after"]
    only: Callable[..., bool] | None = None
    """Which passings count, by the arguments; `None` for all."""
    passed_by: Collection[str] = EVERY
    """The outcomes that come by here."""
    is_concluded: bool = False
    """Whether the attempt is concluded on disk here, so that it must not run a second time."""
    needs_disk: bool = False
    """Whether it is there only where the outbox is on disk."""


def _is_conclusion(publications: Any) -> bool:
    ids = [publication.message.message_id or "" for publication in publications]
    return any(one.endswith((":final", ":retry", ":dead-letter")) for one in ids)


def _publishes_conclusion(_: Any, publications: Any) -> bool:
    return _is_conclusion(publications)


def _settles_conclusion(_: Any, rows: Any, *__: Any) -> bool:
    return _is_conclusion(row.report.publication for row in rows)


RUNTIME: Final = "milvaion_trio.runtime"
PROGRAM: Final = "torture.worker_program"
PUBLISHER: Final = "milvaion_trio.broker.aiopika.publisher:AioPikaPublisher"
RETRIED: Final = frozenset({"retry", "exhausted"})

POINTS: Final[dict[str, Point]] = {
    "admit-before": Point(target=f"{RUNTIME}.dispatch:Dispatcher._admit", when="before"),
    "admit-after": Point(target=f"{RUNTIME}.dispatch:Dispatcher._admit", when="after"),
    "begun": Point(target=f"{RUNTIME}.runs:Runs.begin", when="after"),
    "running-before": Point(target=f"{RUNTIME}.reporting:Reporter.started", when="before"),
    "running-queued": Point(target=f"{RUNTIME}.reporting:Reporter.started", when="after"),
    "code-called": Point(target=f"{RUNTIME}.executor:Executor.execute", when="before"),
    "code-begins": Point(target=f"{PROGRAM}:code_begins", when="before"),
    "code-goes-on": Point(target=f"{PROGRAM}:code_goes_on", when="before"),
    "code-ends": Point(target=f"{PROGRAM}:code_ends", when="before"),
    "outcome-known": Point(target=f"{RUNTIME}.executor:Executor.execute", when="after"),
    "concluded-in-mind": Point(target=f"{RUNTIME}.runs:Runs._conclude", when="after"),
    "conclude-before": Point(target=f"{RUNTIME}.runs:Runs._report", when="before"),
    "retry-copy-made": Point(
        target=f"{RUNTIME}.reporting:Reporter._retry_copy", when="after", passed_by=RETRIED
    ),
    "dead-letter-made": Point(
        target=f"{RUNTIME}.reporting:Reporter._dead_letter", when="after", passed_by={"exhausted"}
    ),
    "publish-before": Point(
        target=f"{PUBLISHER}.publish", when="before", only=_publishes_conclusion, is_concluded=True
    ),
    "frames-made": Point(target=f"{PUBLISHER}._encode", when="after", only=lambda _, p, __: _is_conclusion(p)),
    "confirmed": Point(target=f"{PUBLISHER}.publish", when="after", only=_publishes_conclusion, is_concluded=True),
    "forgotten-before": Point(
        target="milvaion_trio.outbox.backlog:Backlog.settle", when="before", only=_settles_conclusion
    ),
    "forgotten-after": Point(
        target="milvaion_trio.outbox.backlog:Backlog.settle", when="after", only=_settles_conclusion
    ),
    "ack-before": Point(target=f"{RUNTIME}.run:Run.ack", when="before", is_concluded=True),
    "ack-after": Point(target=f"{RUNTIME}.run:Run.ack", when="after", is_concluded=True),
    "forgotten-run": Point(target=f"{RUNTIME}.runs:Runs._settled", when="after", is_concluded=True),
}


def install(crash: str, note: Callable[..., None]) -> None:
    """Arm one point, given as `point:n`. Raises `LookupError` for an unknown one."""
    name, _, number = crash.partition(":")
    point = POINTS[name]
    left = int(number or 1)

    def pass_by(*args: Any, **kwargs: Any) -> None:
        nonlocal left
        if point.only is not None and not point.only(*args, **kwargs):
            return
        left -= 1
        if left == 0:
            note("crash", point=name)
            os.kill(os.getpid(), signal.SIGKILL)

    if point.when == "before":
        around(point.target, before=pass_by)
    else:
        around(point.target, after=pass_by)
