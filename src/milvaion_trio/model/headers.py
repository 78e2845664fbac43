"""Total readers for what a dispatch or retry message says in its headers (WIRE.md 2.3).

Anybody may have written a header, with any AMQP field type: no reader here raises.
"""

from collections.abc import Mapping

from attrs import frozen

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.ids import OccurrenceId, parse_guid

__all__ = [
    "CORRELATION_ID",
    "DELAY_LEFT",
    "DELAY_TARGET",
    "DISPATCH_STAMP",
    "EARLIER_DEATHS",
    "EARLIER_RUNS",
    "EXCLUSIVE",
    "FOUND_IN",
    "GUARDED",
    "MAX_RETRIES",
    "OCCURRENCE_ID",
    "OF_PARKED",
    "ORIGIN",
    "PARKED",
    "PROBLEM",
    "RETRY_COUNT",
    "RETRY_COUNT_LIMIT",
    "SCHEDULE",
    "SNOOZES",
    "SNOOZE_LIMIT",
    "TICK",
    "UNIQUE",
    "UNIQUE_FOR",
    "AttemptKey",
    "attempt_key",
    "count",
    "has_local_origin",
    "occurrence_id",
    "passed_on",
    "retry_count",
    "text",
]

OCCURRENCE_ID = "OccurrenceId"
CORRELATION_ID = "CorrelationId"
RETRY_COUNT = "x-retry-count"
MAX_RETRIES = "MaxRetries"
DISPATCH_STAMP = "x-mtrio-dispatch"
SNOOZES = "x-mtrio-snoozes"
ORIGIN = "x-mtrio-origin"
DELAY_LEFT = "x-mtrio-left"
"""Seconds a message has still to wait after the hop where it is seen (int32)."""
DELAY_TARGET = "x-mtrio-target"
"""The queue it is for."""
SCHEDULE = "x-mtrio-schedule"
"""The id of the schedule of ours that a tick is of."""
TICK = "x-mtrio-tick"
"""Its time, as text: milliseconds since 1970."""
UNIQUE = "x-mtrio-unique"
"""The key that its occurrence has claimed, given up when it ends."""
EXCLUSIVE = "x-mtrio-exclusive"
"""The key of which only one run may go on at a time, where its client named one."""
UNIQUE_FOR = "x-mtrio-unique-for"
"""Seconds for which a unique key is claimed at a time (int32), where its client named them."""
GUARDED = frozenset((EXCLUSIVE, TICK, UNIQUE))
"""A message with one of them is run with what workers share: a lease, a claim, the book of schedules."""
PROBLEM = "x-mtrio-problem"
"""In quarantine: why nobody can use the message, for a person."""
FOUND_IN = "x-mtrio-queue"
"""In quarantine: the queue it came by."""
PARKED = "x-mtrio-parked"
"""How many of its snoozes were none of the job's: it was sent away, unrun, as its key was taken (int32)."""
EARLIER_RUNS = "x-mtrio-runs"
"""How often the same attempt was started before it was sent away, as far as known (int32)."""
EARLIER_DEATHS = "x-mtrio-deaths"
"""How many processes died of it before it was sent away, as far as those who sent it away know (int32)."""
OF_PARKED = (PARKED, EARLIER_RUNS, EARLIER_DEATHS)

RETRY_COUNT_LIMIT = 1000
"""Retry counts are clamped to 0..1000: a forged header must neither loop for ever nor overflow (DESIGN.md 5)."""

SNOOZE_LIMIT = 2**31 - 1
"""What an int32 header holds: a job that looks for something every minute may snooze for 4,000 years."""


_BROKERS_OWN = frozenset(("x-death", "CC", "BCC"))


@frozen(cache_hash=True)
class AttemptKey:
    """What makes two deliveries the same attempt (DESIGN.md 5, identity of an attempt).

    A workflow dispatches the same occurrence id again, hence the stamp; a snooze keeps the retry count.
    """

    occurrence_id: OccurrenceId
    dispatch_stamp: str | None
    """`None`: a retry copy made by a .NET worker, which drops the stamp."""
    retry_count: int
    snoozes: int


def occurrence_id(message: Message) -> OccurrenceId | None:
    """Header `OccurrenceId`, else header `CorrelationId`, else the property: the first that is a guid."""
    headers = message.headers
    found = (
        parse_guid(text(headers.get(OCCURRENCE_ID)))
        or parse_guid(text(headers.get(CORRELATION_ID)))
        or parse_guid(message.correlation_id)
    )
    return None if found is None else OccurrenceId(found)


def retry_count(headers: Mapping[str, HeaderValue]) -> int:
    """How many retries came before; 0 when absent or unreadable. Four or more bytes are a little-endian int32."""
    value = headers.get(RETRY_COUNT)
    if value is None:  # of every first attempt
        return 0
    if isinstance(value, bytes | bytearray):
        value = int.from_bytes(value[:4], "little", signed=True) if len(value) >= 4 else 0
    return _count(value, RETRY_COUNT_LIMIT)


def attempt_key(message: Message, occurrence: OccurrenceId) -> AttemptKey:
    """The identity of the attempt that this message asks for."""
    headers = message.headers
    stamp = text(headers.get(DISPATCH_STAMP))
    if not stamp and message.timestamp is not None:
        stamp = str(message.timestamp)
    return AttemptKey(occurrence, stamp or None, retry_count(headers), _count(headers.get(SNOOZES), SNOOZE_LIMIT))


def count(headers: Mapping[str, HeaderValue], name: str) -> int:
    """A number that counts something; 0 when absent or unreadable."""
    return _count(headers.get(name), SNOOZE_LIMIT)


def has_local_origin(headers: Mapping[str, HeaderValue]) -> bool:
    """Whether our own client dispatched it, so that a Milvaion API does not know the occurrence."""
    return bool(text(headers.get(ORIGIN)))


def text(value: HeaderValue) -> str | None:
    """A header as text: long strings arrive as `bytes` from some clients; other types are no text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return None


def passed_on(headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """The headers as a copy of the message may have them: without those that the broker itself acts on.

    Its death records, carried over, can make it drop the message. By CC and BCC it sends the message to more queues:
    a copy would go there again with each retry, and one that names a queue of ours would multiply without end.
    """
    return {
        name: value
        for name, value in headers.items()
        if name not in _BROKERS_OWN and not name.startswith(("x-first-death-", "x-last-death-"))
    }


def _count(value: HeaderValue, limit: int) -> int:
    if value is None or isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), limit)
