"""What others are told after a run: that a tick of a schedule has ended, that a unique key is free, or not yet.

Separate from the runs, which do not wait for a keeper that is away: one task tells, in the order in which things
happened, and again until it is heard. A message is acked when all of it was told, or after a moment without an answer.
"""

import contextlib
import logging
import random
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import trio
from attrs import define, field, frozen

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.policy.guarding import UNIQUE_FOR, tick_of, unique_for
from milvaion_trio.policy.lifecycle import Conclusion
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.runtime.keeper import Keeper

__all__ = ["Registrar"]

ACK_PATIENCE: Final = 1.0
"""Seconds that an ack waits for the keeper: a process that dies in them gets the message again, and tells it then."""
MOST_UNTOLD: Final = 10_000
"""About 5 MB; what comes on top, while the keeper is away, is dropped with a warning."""
LONGEST_ERROR: Final = 500
"""Characters of a failure that a schedule shows."""
REMEMBERED: Final = 10_000
"""Attempts; only redeliveries ask again, and they come soon."""

MARKED: Final = 3600.0
"""Seconds for which a mark stays: a twin comes within seconds, or what it waited for in its queue."""
PROBE: Final = 0.001
"""Seconds for which a mark is claimed by who only wants to know whose it is."""
CONCLUDED: Final = OccurrenceId("concluded")

Fact: TypeAlias = Callable[[Coordination], Awaitable[object]]

_log = logging.getLogger("milvaion_trio.runtime")


@frozen
class _Claim:
    """A unique key of an occurrence that runs here."""

    key: str
    occurrence_id: OccurrenceId
    seconds: float

    async def prolong(self, is_wanted: Callable[[], bool], keeper: Coordination) -> None:
        """Nothing, once others may have ended it: its key is free then. If cancelled, it may be claimed."""
        if is_wanted():
            await keeper.claims.claim(self.key, self.occurrence_id, self.seconds)

    async def give_up(self, keeper: Coordination) -> None:
        await keeper.claims.give_up(self.key, self.occurrence_id)


async def _mark(mark: str, occurrence_id: OccurrenceId, keeper: Coordination) -> None:
    await keeper.claims.give_up(mark, occurrence_id)  # by whom it was looked at, maybe a moment ago
    await keeper.claims.claim(mark, CONCLUDED, MARKED)


@define(eq=False)
class Registrar:
    """Tells the keeper what has happened to runs with a tick or a unique key."""

    _keeper: Keeper
    _clock_ns: Callable[[], int]
    """Of ends."""
    _untold: deque[tuple[Fact, trio.Event]] = field(factory=deque, init=False)
    _some: trio.Event = field(factory=trio.Event, init=False)
    _none: trio.Event = field(factory=trio.Event, init=False)
    _dropped: int = field(default=0, init=False)
    _claims: dict[AttemptKey, tuple[_Claim, float]] = field(factory=dict, init=False)
    """Of what runs here, and when each is due to be prolonged."""
    _more_claims: trio.Event = field(factory=trio.Event, init=False)
    _told_of: OrderedDict[AttemptKey, None] = field(factory=OrderedDict, init=False)

    @contextlib.asynccontextmanager
    async def open(self, flush_scope: Callable[[], trio.CancelScope]) -> AsyncIterator[None]:
        """Tell while the context is open; on leaving what is left, within that scope. The rest is dropped, and said."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            nursery.start_soon(self._prolong)
            yield
            with flush_scope():
                while self._untold:
                    self._none = trio.Event()
                    await self._none.wait()
            nursery.cancel_scope.cancel()
        if left := len(self._untold) + self._dropped:
            _log.warning(
                "%d facts about ended runs could not be told to the keeper of leases and schedules: schedules wait for "
                "these ends until they are taken for lost (lost_after), unique keys run out by themselves",
                left,
            )

    # --- what happens to runs -----------------------------------------------------------------------------------------

    def begun(self, message: Message, attempt: AttemptKey) -> None:
        """The code of this attempt is about to run: its unique key stays its own for as long as it does."""
        claim = self._claim_of(message, attempt, 0.0)
        if claim is not None:
            self._claims[attempt] = (claim, trio.current_time() + claim.seconds / 3)
            self._put(self._prolonging(attempt, claim))
            self._more_claims.set()

    def over(self, attempt: AttemptKey) -> None:
        """It runs no more, however that came about."""
        self._claims.pop(attempt, None)

    async def concluded(
        self, message: Message, attempt: AttemptKey, conclusion: Conclusion, mark: str | None = None
    ) -> None:
        """Tell what this conclusion, which is published, means to others; returns when that is heard, or soon.

        `mark` is what a twin of its message looks for (`was_concluded`).
        If cancelled, it is told all the same.
        """
        self.over(attempt)
        told: trio.Event | None = None
        delay = 0.0 if conclusion.retry is None else conclusion.retry.delay
        claim = self._claim_of(message, attempt, delay)
        if claim is not None:
            comes_again = trio.current_time() + delay
            prolong = partial(claim.prolong, lambda: trio.current_time() < comes_again)
            told = self._put(prolong if conclusion.status is None else claim.give_up)
        if (end := self._end_of(message, conclusion)) is not None:
            told = self._put(lambda keeper: keeper.book.ended(end))
        if mark is not None:
            told = self._put(partial(_mark, mark, attempt.occurrence_id))
        if headers.TICK in message.headers:
            self._remember(attempt)
        if told is not None and not self._keeper.is_away:
            with trio.move_on_after(ACK_PATIENCE):
                await told.wait()

    async def was_concluded(self, mark: str, occurrence_id: OccurrenceId) -> bool:
        """Whether a twin of this message was concluded. Raises `LinkLost`; if cancelled, nothing changes."""
        owner = await self._keeper.ask(lambda keeper: keeper.claims.claim(mark, occurrence_id, PROBE))
        return owner != occurrence_id

    async def found_concluded(self, message: Message, attempt: AttemptKey) -> None:
        """Tell the end of a tick whose attempt another process concluded, and may have died before it told.

        Whether it was the last attempt nobody knows any more. A schedule that waits for an end that never comes is
        worse than one that goes on while a retry waits. If cancelled, it is told all the same.
        """
        if attempt in self._told_of or (tick := tick_of(message.headers)) is None:
            return
        self._remember(attempt)
        unknown, at = OccurrenceStatus.UNKNOWN, self._clock_ns() // 1_000_000
        end = RunEnd(schedule_id=tick.schedule_id, tick=tick.at, status=unknown, at=at)
        told = self._put(lambda keeper: keeper.book.ended(end))
        if not self._keeper.is_away:
            with trio.move_on_after(ACK_PATIENCE):
                await told.wait()

    def _claim_of(self, message: Message, attempt: AttemptKey, delay: float) -> _Claim | None:
        key = headers.text(message.headers.get(headers.UNIQUE))
        if not key:
            return None
        return _Claim(key, attempt.occurrence_id, delay + unique_for(message.headers))

    def _end_of(self, message: Message, conclusion: Conclusion) -> RunEnd | None:
        tick = tick_of(message.headers)
        if tick is None or conclusion.status is None:
            return None
        return RunEnd(
            schedule_id=tick.schedule_id,
            tick=tick.at,
            status=conclusion.status,
            at=self._clock_ns() // 1_000_000,
            error=(conclusion.exception or "")[:LONGEST_ERROR],
        )

    def _prolonging(self, attempt: AttemptKey, claim: _Claim) -> Fact:
        return partial(claim.prolong, lambda: attempt in self._claims)

    def _remember(self, attempt: AttemptKey) -> None:
        self._told_of[attempt] = None
        if len(self._told_of) > REMEMBERED:
            self._told_of.popitem(last=False)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _put(self, fact: Fact) -> trio.Event:
        told = trio.Event()
        if self._keeper.coordination is None:  # there is nobody to tell, and there never was
            told.set()
        elif len(self._untold) >= MOST_UNTOLD:
            self._dropped += 1
            told.set()
        else:
            self._untold.append((fact, told))
            self._some.set()
        return told

    async def _tell(self) -> None:
        delays = reconnect_delays(iter(random.random, None))
        while True:
            if not self._untold:
                self._some = trio.Event()
                self._none.set()
                await self._some.wait()
            fact, told = self._untold[0]
            try:
                await self._keeper.ask(fact, insists=True)
            except LinkLost:
                await trio.sleep(next(delays))
                continue
            except Exception:
                _log.exception("a fact about an ended run cannot be told to the keeper of leases and schedules")
            delays = reconnect_delays(iter(random.random, None))
            self._untold.popleft()
            told.set()

    async def _prolong(self) -> None:
        """Claim again, in time, what belongs to occurrences that run for long."""
        while True:
            if not self._claims:
                self._more_claims = trio.Event()
                await self._more_claims.wait()
            now = trio.current_time()
            for attempt, (claim, due) in tuple(self._claims.items()):
                if due <= now:
                    self._claims[attempt] = (claim, now + claim.seconds / 3)
                    self._put(self._prolonging(attempt, claim))
            self._more_claims = trio.Event()
            earliest = min((due for _, due in self._claims.values()), default=now + UNIQUE_FOR)
            with trio.move_on_at(earliest):
                await self._more_claims.wait()
