"""A trace, read once and put in order: for each attempt what became of it, and where in the trace.

Separate from the checks, which only ask.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, evolve, field

from milvaion_trio.model import topology
from torture.simulation.trace import Event, number_of

__all__ = ["Attempt", "History", "Moment", "host_of", "read", "status_of"]

_OCCURRENCE: Final = re.compile(rb"[0-9a-f]{8}-0000-4000-8000-000000000000")
_ASKED: Final = re.compile(r"(\S+) in (\S+) s, (kept \d+) ")


@define
class Moment:
    """Something about an attempt: where in the trace, when, by whom, and what else there is to say."""

    index: int
    at: float
    who: str
    detail: str = ""
    body: bytes = b""


@define(eq=False)
class Attempt:
    """One attempt of an occurrence, over all the lives that had to do with it."""

    label: str
    put: list[Moment] = field(factory=list)
    """A message that asks for it came into the broker; `detail` is the id of that message."""
    handed: list[Moment] = field(factory=list)
    began: list[Moment] = field(factory=list)
    ended: list[Moment] = field(factory=list)
    running: list[Moment] = field(factory=list)
    """A Running of it was stored."""
    finals: list[Moment] = field(factory=list)
    retries: list[Moment] = field(factory=list)
    dead_letters: list[Moment] = field(factory=list)
    confirmed: dict[str, list[Moment]] = field(factory=dict)
    """By `final`, `retry` or `dead-letter`."""
    acked: list[Moment] = field(factory=list)
    written: list[Moment] = field(factory=list)
    """Its conclusion got onto a disk."""

    number: int = field(init=False)
    """Of its occurrence."""

    @number.default
    def _number(self) -> int:
        return number_of(self.label)

    @property
    def at_hop(self) -> list[Moment]:
        """When it was handed over on its way through a long delay."""
        return [handed for handed in self.handed if handed.detail.startswith(topology.HOP_QUEUE)]

    @property
    def at_work(self) -> list[Moment]:
        """When it was handed over to be run."""
        return [handed for handed in self.handed if not handed.detail.startswith(topology.HOP_QUEUE)]

    @property
    def dispatch(self) -> str:
        """Occurrence and stamp: what it shares with the other attempts of one dispatch."""
        return self.label.rpartition(":")[0]

    @property
    def counts(self) -> tuple[int, int]:
        """How many retries and how many snoozes came before."""
        retries, _, snoozes = self.label.rpartition(":")[2].partition(".")
        return int(retries), int(snoozes)


@define(eq=False)
class History:
    """The trace, by attempt and by occurrence."""

    attempts: dict[str, Attempt] = field(factory=dict)
    dispatched: list[tuple[str, Moment]] = field(factory=list)
    heartbeats: list[tuple[int, Moment]] = field(factory=list)
    """With the number of the occurrence."""
    logs: dict[tuple[str, int], list[Moment]] = field(factory=dict)
    """By life and occurrence; `detail` is the message id."""
    cancels: dict[int, list[Moment]] = field(factory=dict)
    crashes: dict[str, int] = field(factory=dict)
    """Where in the trace each life that crashed did so."""
    departures: dict[str, int] = field(factory=dict)
    """Where in the trace each life was told to leave, or crashed."""
    lost_disks: dict[str, list[int]] = field(factory=dict)
    """Where in the trace each host lost what its disk held."""
    quarantined: list[Moment] = field(factory=list)
    rest: list[Event] = field(factory=list)
    """What says something about the whole: errors, defects, what is left."""

    _by_number: dict[int, list[Attempt]] = field(factory=dict)

    def of(self, number: int) -> Sequence[Attempt]:
        """The attempts of an occurrence."""
        return self._by_number.get(number, ())

    def has_lost_disk(self, who: str, after: int = -1) -> bool:
        """Whether the host of this life lost what its disk held, after this place in the trace."""
        return any(index > after for index in self.lost_disks.get(host_of(who), ()))

    def deaths(self, attempt: Attempt) -> dict[str, list[int]]:
        """By host, where in the trace a life died while the code of this attempt ran in it."""
        return self._deaths(lambda who: _is_within(attempt.began, attempt.ended, who))

    def most_deaths(self, attempt: Attempt) -> Counter[str]:
        """By host, how many lives died that may have noted a start of this attempt and no end."""
        deaths = self._deaths(lambda who: _has(attempt.handed, who))
        return Counter({host: len(indices) for host, indices in deaths.items()})

    def _deaths(self, counts: Callable[[str], bool]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for who, index in self.crashes.items():
            if counts(who):
                found.setdefault(host_of(who), []).append(index)
        return found

    def attempt(self, label: str) -> Attempt:
        """The attempt of this label."""
        found = self.attempts.get(label)
        if found is None:
            found = self.attempts[label] = Attempt(label)
            self._by_number.setdefault(found.number, []).append(found)
        return found


def read(events: list[Event]) -> History:
    """Put a trace in order."""
    history = History()
    for index, event in enumerate(events):
        moment = Moment(index, event.at, event.who, event.detail, event.body)
        match event.what:
            case "dispatched" | "copied":
                history.attempt(event.about).put.append(evolve(moment, detail=event.what))
                if event.what == "dispatched":
                    history.dispatched.append((event.about, moment))
            case "stored":
                _stored(history, event, moment)
            case "confirmed":
                if number_of(event.about) >= 0:
                    label, _, role = _parted(event.about)
                    history.attempt(label).confirmed.setdefault(role, []).append(moment)
            case "handed" | "began" | "ended" | "acked" | "written":
                if event.about:
                    getattr(history.attempt(event.about), event.what).append(moment)
            case "cancelled":
                history.cancels.setdefault(number_of(event.about), []).append(moment)
            case "crashed":
                history.crashes[event.who] = index
                history.departures.setdefault(event.who, index)
            case "drained" | "stopped":
                history.departures.setdefault(event.who, index)
            case "disk lost":
                history.lost_disks.setdefault(event.who, []).append(index)
            case "error" | "defect" | "livelock" | "never quiet" | "left in" | "held" | "end":
                history.rest.append(event)
    return history


def _stored(history: History, event: Event, moment: Moment) -> None:
    if number_of(event.about) < 0:
        _stored_of_no_attempt(history, event, moment)
        return
    label, _, role = _parted(event.about)
    attempt = history.attempt(label)
    match role:
        case "running":
            attempt.running.append(moment)
        case "final":
            attempt.finals.append(moment)
        case "dead-letter":
            attempt.dead_letters.append(moment)
        case "retry":
            attempt.retries.append(moment)
            if asked := _ASKED.match(event.detail):
                history.attempt(asked[1]).put.append(evolve(moment, detail=event.about))


def _stored_of_no_attempt(history: History, event: Event, moment: Moment) -> None:
    _, kind, _ = event.about.split(":")
    if kind == "quarantine":
        history.quarantined.append(moment)
        return
    found = _OCCURRENCE.search(event.body) if kind in ("heartbeat", "log") else None
    if found is None:
        return
    number = int(found[0][:8], 16)
    if kind == "heartbeat":
        history.heartbeats.append((number, moment))
    else:
        history.logs.setdefault((event.who, number), []).append(evolve(moment, detail=event.about))


def _parted(message_id: str) -> tuple[str, str, str]:
    """Label and role of a message id such as `<occurrence>:<stamp>:0.0:running:2`."""
    occurrence, stamp, counts, role, *_ = message_id.split(":")
    return f"{occurrence}:{stamp}:{counts}", counts, role


def _has(moments: Sequence[Moment], who: str) -> bool:
    return any(moment.who == who for moment in moments)


def _is_within(began: Sequence[Moment], ended: Sequence[Moment], who: str) -> bool:
    return _has(began, who) and not _has(ended, who)


def host_of(who: str) -> str:
    """The host of a life."""
    return who.partition(".")[0]


def status_of(final: Moment) -> int:
    """The status that a final message tells."""
    values = {name.lower(): value for name, value in json.loads(final.body).items()}
    return int(values["status"])
