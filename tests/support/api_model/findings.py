"""What a worker did wrong in the eyes of the API, and the report that a test fails with."""

import enum
from collections import Counter
from collections.abc import Collection, Iterable

from attrs import define, field, frozen
from tests.support.api_model.wire_message import WireMessage

__all__ = ["SHOWN", "Complaint", "Dropped", "Findings", "Requeue", "Rule"]

SHOWN = 20
"""Lines of a kind: what is wrong once is often wrong a thousand times."""


class Rule(enum.Enum):
    """What a worker must or must not send; the text says where that is written."""

    EMPTY_OCCURRENCE = "no status or log for the empty guid (RELIABILITY.md 2.6, W8)"
    UNKNOWN_OCCURRENCE = "no status, log or dead letter for an unknown occurrence (RELIABILITY.md C4)"
    RUNNING_AFTER_FINAL = "no Running behind a final status (WIRE.md 3.8, RELIABILITY.md C5)"
    SECOND_FINAL = "one final status (RELIABILITY.md C6)"
    SECOND_DEAD_LETTER = "one dead letter (RELIABILITY.md C7)"
    WRONG_JOB_ID = "the job's id is echoed (WIRE.md 2.2, 13.2 A9)"
    STATUS_MEMBERS = "the members of its kind (WIRE.md 3.1)"
    LOG_MEMBERS = "the members of a log entry (WIRE.md 3.3)"
    LOGS_LOST = "log entries that the API throws away (WIRE.md 4.6)"
    DATE_FORM = "dates are UTC with Z (WIRE.md 0.1)"
    GUID_FORM = "guids are lower-case (RELIABILITY.md 2.6, W8)"
    HEADER_TYPE = "integer headers are I or l, ids S (WIRE.md 0.2)"
    DEAD_LETTER_FORM = "properties and headers of a dead letter (WIRE.md 3.5)"
    RAW_DEAD_LETTER = "no message is dead-lettered as it came (WIRE.md 4.5)"
    REGISTRATION = "a registration that jobs can be created and dispatched with (WIRE.md 3.6)"
    METADATA = "metadata of the right shape: a wrong one makes every worker list fail (WIRE.md 3.6)"
    SCHEMA = "schema texts of the form the dashboard reads (WIRE.md 8)"
    HEARTBEAT = "the members of a heartbeat (WIRE.md 3.4)"
    BEAT_AFTER_STOPPING = "no heartbeat after the goodbye: it brings the instance back (WIRE.md 4.7)"
    ROUTE = "published to the exchange and key of WIRE.md 3"
    SIZE = "texts within RELIABILITY.md 2.6, W5"
    OTHER_BYTES = "equal message ids are equal messages (RELIABILITY.md 2.6, W12)"
    EXTERNAL = "events of external schedulers that the API can store (WIRE.md 4.9)"
    # Noted only: allowed by Milvaion, promised by us.
    NOT_PERSISTENT = "persistent (RELIABILITY.md 2.6, W1)"
    NO_MESSAGE_ID = "a message id on everything (RELIABILITY.md 2.6, W12)"
    COPY = "a second copy of a message: allowed when its confirm was lost (RELIABILITY.md 0.7)"


@frozen
class Complaint:
    """A broken rule."""

    rule: Rule
    about: str
    wire: WireMessage | None = None

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.about} [{self.rule.value}]"


@frozen
class Dropped:
    """A message, or log entries of it, that the API threw away."""

    queue: str
    reason: str
    wire: WireMessage | None = None

    def __str__(self) -> str:
        return f"{self.queue}: {self.reason}{_shown(self.wire)}"


@define(eq=False)
class Requeue:
    """A message or batch that the real API takes up again for ever."""

    queue: str
    reason: str
    wire: WireMessage | None = None
    times: int = 1
    """How often it was seen to be."""

    def __str__(self) -> str:
        return f"{self.queue}: {self.reason} ({self.times} times so far){_shown(self.wire)}"


@define(eq=False)
class Findings:
    """All that was found so far."""

    requeues: list[Requeue] = field(factory=list)
    dropped: list[Dropped] = field(factory=list)
    complaints: list[Complaint] = field(factory=list)
    notes: list[Complaint] = field(factory=list)
    """What Milvaion allows and our own rules do not, or only after a fault."""

    def complain(self, rule: Rule, about: str, wire: WireMessage | None = None) -> None:
        """A worker broke a rule."""
        self.complaints.append(Complaint(rule, about, wire))

    def note(self, rule: Rule, about: str, wire: WireMessage | None = None) -> None:
        """A worker did something that is allowed, but worth knowing."""
        self.notes.append(Complaint(rule, about, wire))

    def drop(self, queue: str, reason: str, wire: WireMessage | None = None) -> None:
        """Something was thrown away."""
        self.dropped.append(Dropped(queue, reason, wire))

    def requeue(self, queue: str, reason: str, wire: WireMessage | None = None) -> Requeue:
        """Something will be tried for ever."""
        self.requeues.append(Requeue(queue, reason, wire))
        return self.requeues[-1]

    def not_allowed(self, allow: Collection[Rule] = ()) -> list[Complaint]:
        """The complaints but those that a test expects."""
        return [complaint for complaint in self.complaints if complaint.rule not in allow]

    def report(self, allow: Collection[Rule] = ()) -> str:
        """Everything for a person to read, the worst first."""
        return "\n".join(
            [
                *_section("tried again for ever by a real API", self.requeues),
                *_section("thrown away", self.dropped),
                *_section("complaints", self.not_allowed(allow)),
                *(f"noted {count} x {rule.name}: {rule.value}" for rule, count in self._note_counts()),
            ]
        )

    def _note_counts(self) -> Iterable[tuple[Rule, int]]:
        return Counter(note.rule for note in self.notes).items()


def _section(title: str, found: Collection[object]) -> list[str]:
    lines = [f"  {one}" for one in list(found)[:SHOWN]]
    more = [f"  … and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [f"{title}: {len(found)}", *lines, *more]


def _shown(wire: WireMessage | None) -> str:
    if wire is None:
        return ""
    body = wire.body[:300].decode("utf-8", "backslashreplace")
    return f"\n    {dict(wire.properties)} {dict(wire.headers)}\n    {body}"
