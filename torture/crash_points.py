"""Named places at which a worker process kills itself, so that a kill -9 hits exactly there.

The names tell the life of a job in order. Installed from outside, by putting something around a function: the process
gets SIGKILL from itself at the n-th passing. `MTRIO_TORTURE` names one as `point:n`.
"""

import enum
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from attrs import define, field, frozen

from milvaion_trio.outbox import store
from torture.wrapping import around

__all__ = ["EVERY", "POINTS", "Point", "Stage", "install"]

EVERY: Final = ("ok", "retried", "exhausted", "cancelled", "timed-out")
"""The outcomes of T02."""


class Stage(enum.Enum):
    """How far an attempt has come at a point, and so what a kill there may cost."""

    BEFORE_CODE = "its code has not begun"
    IN_CODE = "its code began, its end is not written: it runs again"
    CONCLUDED = "its end is written: it does not run again where the disk is still there"


@frozen(kw_only=True)
class Point:
    """A place in the code."""

    target: str
    """`module:name` or `module:Class.name`."""
    when: Literal["before", "after"]
    stage: Stage
    only: Callable[..., bool] | None = None
    """Which passings count, by the arguments; `None` for all."""
    passed_by: Sequence[str] = EVERY
    """The outcomes that come by here."""
    exhausted_at: int = 2
    """Which passing is the one on the way to `exhausted`, which takes two attempts."""
    alone: bool = False
    """Whether any worker of the virtual host may come by here in the place of the one that is to die."""


def _is_conclusion(publications: Any) -> bool:
    ids = [publication.message.message_id or "" for publication in publications]
    return any(one.endswith((":final", ":retry", ":dead-letter")) for one in ids)


def _publishes_conclusion(_: Any, publications: Any, *__: Any) -> bool:
    return _is_conclusion(publications)


def _settles_conclusion(_: Any, rows: Any, *__: Any) -> bool:
    return _is_conclusion(row.report.publication for row in rows)


def _writes_conclusion(_: Any, __: Any, marks: Any, *___: Any) -> bool:
    return store.CONCLUDED in marks.values()


@define(eq=False)
class _ForgetsConclusion:
    """The transaction that removes the rows of a conclusion; those of Running may be removed before."""

    is_written: bool = field(default=False, init=False)

    def __call__(self, _: Any, rows: Any, marks: Any, forgotten: Any) -> bool:
        is_after = self.is_written and bool(forgotten)
        self.is_written = self.is_written or store.CONCLUDED in marks.values()
        return is_after


RUNTIME: Final = "milvaion_trio.runtime"
PROGRAM: Final = "torture.worker_program"
PUBLISHER: Final = "milvaion_trio.broker.rabbitmq.publisher:RabbitMQPublisher"
OUTBOX: Final = "milvaion_trio.outbox"
RETRIED: Final = ("retried", "exhausted")

POINTS: Final[dict[str, Point]] = {
    "admit-before": Point(target=f"{RUNTIME}.dispatch:Dispatcher._admit", when="before", stage=Stage.BEFORE_CODE),
    "admit-after": Point(target=f"{RUNTIME}.dispatch:Dispatcher._admit", when="after", stage=Stage.BEFORE_CODE),
    "begun": Point(target=f"{RUNTIME}.runs:Runs.begin", when="after", stage=Stage.BEFORE_CODE),
    "running-before": Point(target=f"{RUNTIME}.reporting:Reporter.started", when="before", stage=Stage.BEFORE_CODE),
    "running-queued": Point(target=f"{RUNTIME}.reporting:Reporter.started", when="after", stage=Stage.BEFORE_CODE),
    "start-before": Point(target=f"{OUTBOX}.disk:DiskOutbox.started", when="before", stage=Stage.BEFORE_CODE),
    "start-written": Point(target=f"{OUTBOX}.disk:DiskOutbox.started", when="after", stage=Stage.BEFORE_CODE),
    "code-called": Point(target=f"{RUNTIME}.executor:Executor.execute", when="before", stage=Stage.BEFORE_CODE),
    "code-begins": Point(target=f"{PROGRAM}:code_begins", when="before", stage=Stage.IN_CODE),
    "code-goes-on": Point(target=f"{PROGRAM}:code_goes_on", when="before", stage=Stage.IN_CODE),
    "code-ends": Point(target=f"{PROGRAM}:code_ends", when="before", stage=Stage.IN_CODE),
    "outcome-known": Point(target=f"{RUNTIME}.executor:Executor.execute", when="after", stage=Stage.IN_CODE),
    "decided": Point(target=f"{RUNTIME}.runs:Runs._conclude", when="after", stage=Stage.IN_CODE),
    "conclude-before": Point(target=f"{RUNTIME}.runs:Runs._report", when="before", stage=Stage.IN_CODE),
    "retry-copy-made": Point(
        target=f"{RUNTIME}.reporting:Reporter._retry_copy",
        when="after",
        stage=Stage.IN_CODE,
        passed_by=RETRIED,
        exhausted_at=1,
    ),
    "dead-letter-made": Point(
        target=f"{RUNTIME}.reporting:Reporter._dead_letter",
        when="after",
        stage=Stage.IN_CODE,
        passed_by=("exhausted",),
        exhausted_at=1,
    ),
    "write-before": Point(
        target=f"{OUTBOX}.store:Store.write", when="before", only=_writes_conclusion, stage=Stage.IN_CODE
    ),
    "half-written": Point(
        target=f"{OUTBOX}.store:_mark",
        when="after",
        only=lambda _, mark, __: mark == store.CONCLUDED,
        stage=Stage.IN_CODE,
    ),
    "written": Point(
        target=f"{OUTBOX}.store:Store.write", when="after", only=_writes_conclusion, stage=Stage.CONCLUDED
    ),
    "publish-before": Point(
        target=f"{PUBLISHER}.publish", when="before", only=_publishes_conclusion, stage=Stage.CONCLUDED
    ),
    "frames-made": Point(
        target=f"{PUBLISHER}._encode", when="after", only=_publishes_conclusion, stage=Stage.CONCLUDED
    ),
    "confirmed": Point(target=f"{PUBLISHER}.publish", when="after", only=_publishes_conclusion, stage=Stage.CONCLUDED),
    "settled-before": Point(
        target=f"{OUTBOX}.backlog:Backlog.settle", when="before", only=_settles_conclusion, stage=Stage.CONCLUDED
    ),
    "settled-after": Point(
        target=f"{OUTBOX}.backlog:Backlog.settle", when="after", only=_settles_conclusion, stage=Stage.CONCLUDED
    ),
    "ack-before": Point(target=f"{RUNTIME}.run:Run.ack", when="before", stage=Stage.CONCLUDED),
    "ack-after": Point(target=f"{RUNTIME}.run:Run.ack", when="after", stage=Stage.CONCLUDED),
    "run-forgotten": Point(target=f"{RUNTIME}.runs:Runs._settled", when="after", stage=Stage.CONCLUDED),
    "rows-removed-before": Point(
        target=f"{OUTBOX}.store:Store.write",
        when="before",
        only=_ForgetsConclusion(),
        stage=Stage.CONCLUDED,
        exhausted_at=1,
    ),
    "rows-removed": Point(
        target=f"{OUTBOX}.store:Store.write",
        when="after",
        only=_ForgetsConclusion(),
        stage=Stage.CONCLUDED,
        exhausted_at=1,
    ),
    "hop-before": Point(
        target=f"{RUNTIME}.hops:Hops._send_on",
        when="before",
        stage=Stage.CONCLUDED,
        passed_by=RETRIED,
        exhausted_at=1,
        alone=True,
    ),
    "hop-after": Point(
        target=f"{RUNTIME}.hops:Hops._publish",
        when="after",
        only=lambda _, onward, *__: bool(onward),
        stage=Stage.CONCLUDED,
        passed_by=RETRIED,
        exhausted_at=1,
        alone=True,
    ),
}
"""In the order in which an attempt passes them."""


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
