"""What a job returned or raised, as an outcome: the rules that hold wherever its code runs.

Separate from the executor, because a job in a process is judged there: what it returns or raises need not be able to
leave that process, its outcome is.
"""

import os
from collections.abc import Callable

from milvaion_trio.model.error_text import error_text, error_type
from milvaion_trio.model.errors import InvalidJobData, PermanentFailure, RetryLater, Snooze
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.outcome import Completed, Failed, JobResult, Outcome, RetryRequested, Snoozed
from milvaion_trio.model.sanitise import clean_json
from milvaion_trio.policy.retry import RetryPolicy

__all__ = ["OUR_FRAMES", "failed", "returned"]

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
OUR_FRAMES = (
    os.path.join(_PACKAGE, "runtime"),
    os.path.join(_PACKAGE, "policy"),
    os.path.join(_PACKAGE, "coroutines.py"),
)
"""Frames of ours stand at the head of every stack and tell a job's author nothing."""


def returned(value: object, warn: Callable[[str], None]) -> Outcome:
    """The outcome of a job that returned this; `warn` is told what of it cannot be reported as it is."""
    while isinstance(value, JobResult):
        if not value.succeeded:
            message = value.message or "the job returned JobResult.failure() without a message"
            return Failed(message if isinstance(message, str) else _safe_repr(message), "JobResult")
        value = value.value
    if value is None:
        return Completed(None)
    if isinstance(value, str):
        return Completed(value)
    try:
        return Completed(_json_text(jsonable(value)))
    except Exception as error:  # a property of the returned object may raise anything
        # The work is done, so failing it now would only repeat it. Say what happened and what was sent instead.
        kind = type(value).__name__
        warn(
            f"The job returned a {kind}, which has no JSON form ({error}); its repr was reported instead. "
            "Return None, text, numbers, lists, dicts, attrs classes, dataclasses or JobResult."
        )
        return Completed(_safe_repr(value))


def failed(raised: BaseException, policy: RetryPolicy) -> Outcome:
    """The outcome of a job that raised this without having been told to stop."""
    # A nursery in the job wraps what its children raise; a request inside a group is still a request.
    inner = tuple(leaves(raised))
    only = inner[0] if len(inner) == 1 else raised
    if isinstance(only, Snooze):
        return Snoozed(only.delay)
    for leaf in inner:
        _add_hint(leaf)
    text = error_text(raised if len(inner) > 1 else only, skip_frames_in=OUR_FRAMES)
    if isinstance(only, RetryLater):
        return RetryRequested(only.delay, text, error_type(only))
    permanent = any(isinstance(leaf, PermanentFailure | InvalidJobData) or policy.forbids(leaf) for leaf in inner)
    return Failed(text, error_type(only), permanent=permanent)


_HINTS = {
    "no running event loop": 'This is asyncio code in a job that runs on Trio: declare the job with run="asyncio".',
    "Task got bad yield": 'This is Trio code in a job that runs on asyncio: leave run="asyncio" out.',
    "must be called from async context": 'This is Trio code in a job that does not run on Trio: leave run="…" out.',
}
"""What to do about mistakes whose messages, by Python and Trio, do not say it; by their first words."""


def _add_hint(raised: BaseException) -> None:
    if isinstance(raised, RuntimeError | TypeError) and not getattr(raised, "__notes__", None):
        for first_words, hint in _HINTS.items():
            if str(raised).startswith(first_words):
                raised.add_note(hint)


def _json_text(value: JsonValue) -> str:
    text = write(value)
    # A workflow copies parts of a result into the data of its next job, and no jsonb column takes this escape: a
    # worker that dead-letters that job would hang the API (WIRE.md 4.5, 12.1).
    return write(clean_json(value, depth=MAX_DEPTH)) if "\\u0000" in text else text


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
