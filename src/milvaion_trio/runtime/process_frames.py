"""What a worker and its job processes say to each other, and how it is put into bytes.

Only values of ours cross, never a job's own: its data come as the text of the message, its result and its exceptions
leave as what is reported of them. So nothing that a job touches has to be picklable.
"""

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.messages import JobMessage, LogLevel
from milvaion_trio.model.outcome import Failed, Outcome
from milvaion_trio.policy.retry import RetryPolicy
from milvaion_trio.runtime.addresses import Address

__all__ = ["Done", "Frames", "Log", "Raised", "Request", "framed", "kind_name"]

_LENGTH = struct.Struct(">I")

in_job_process = False
"""Whether this interpreter is a job process; set before any module of the program is imported."""


@frozen(kw_only=True)
class Request:
    """One attempt to run."""

    number: int
    """Of this process; its answers carry it."""
    main: dict[str, object] | None
    """How to import the program's main module, where the job stands in it, in the words of `multiprocessing.spawn`."""
    address: Address
    name: str
    job: JobMessage
    attempt: AttemptKey
    run_number: int
    fencing_token: int | None
    max_retries: int
    deadline: float | None
    """On the clock of `time.monotonic()`, which all processes of a machine share."""


@frozen
class Log:
    """An entry for the job's log, while the job runs."""

    number: int
    level: LogLevel
    message: str
    data: str | None
    """As JSON."""
    category: str


@frozen(kw_only=True)
class Raised:
    """What a job raised."""

    outcome: Outcome
    """By the rules that hold for all jobs."""
    text: str
    kinds: frozenset[str]
    """The names of all its classes, those it derives from included; of all exceptions in a group."""
    because_told: bool
    """Whether it is only the job's way to obey."""

    def outcome_by(self, policy: RetryPolicy) -> Outcome:
        """The outcome, by the rules of this job too. Classes are compared by name, as they stay where they are."""
        if isinstance(self.outcome, Failed) and any(kind_name(kind) in self.kinds for kind in policy.never):
            return evolve(self.outcome, permanent=True)
        return self.outcome


@frozen
class Done:
    """The end of an attempt."""

    number: int
    ending: Outcome | Raised


def kind_name(kind: type) -> str:
    """The full name of a class, the same in the program that was started and where it was imported again."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}.{kind.__qualname__}"


class _Pickler(pickle.Pickler):
    """Lets no class of the job's cross: a text may be of a subclass, which the other side need not have."""

    def reducer_override(self, value: object) -> Any:
        return (str, (str.__str__(value),)) if isinstance(value, str) else NotImplemented


def framed(value: object) -> bytes:
    """A value as bytes, with their length in front."""
    body = io.BytesIO()
    _Pickler(body, pickle.HIGHEST_PROTOCOL).dump(value)
    return _LENGTH.pack(body.tell()) + body.getvalue()


class Frames:
    """Cuts a stream of bytes into values again."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes, take: Callable[[object], None]) -> None:
        """Add what came, and hand over every value that is complete."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                value = pickle.loads(view[start + _LENGTH.size : end])
            start = end
            take(value)
        del buffer[:start]
