"""Runs that need something shared: the lease of an exclusive key, or of an occurrence that may have come twice.

Separate from `runs.py`, so that all other jobs pay nothing for it: here is what happens before a job's code begins,
between admission and the ordinary life of a run, and when it cannot begin.
"""

import logging
import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeAlias

import trio
from attrs import define, frozen

from milvaion_trio.model import headers
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.policy import lifecycle
from milvaion_trio.policy.guarding import (
    Tick,
    exclusive_lease,
    goes_on,
    occurrence_lease,
    park_delay,
    parked,
    tick_of,
    twin_mark,
)
from milvaion_trio.policy.key_template import KeyUnknown, as_key
from milvaion_trio.policy.lifecycle import Conclusion
from milvaion_trio.runtime.holds import Hold, Holds
from milvaion_trio.runtime.keeper import Keeper
from milvaion_trio.runtime.limits import Taken
from milvaion_trio.runtime.registrar import Registrar
from milvaion_trio.runtime.run import Phase, Run
from milvaion_trio.runtime.runs import Runs

__all__ = ["GuardedRuns"]

_log = logging.getLogger("milvaion_trio.runtime")


@frozen
class _Entered:
    """Its code may run."""

    exclusive: Hold | None
    occurrence: Hold | None


@frozen
class _Busy:
    """Somebody else has what it needs, or nobody can know."""

    why: str


@frozen
class _TwinEnded:
    """Its message was sent away by a worker that died before the ack, and one of the two has been run."""


_Entry: TypeAlias = _Entered | _Busy | _TwinEnded | Tick | lifecycle.Refuse | lifecycle.CancelledBeforeStart
"""What came of asking; a tick is one that has ended already."""


class _Kept(Taken):
    """Slots and the lease that goes with them: code that nobody can stop keeps both until it ends."""

    __slots__ = ("_hold", "_is_given", "_is_told", "_slots")

    def __init__(self, slots: Taken, hold: Hold | None, *, is_told: bool) -> None:
        self._slots = slots
        self._hold = hold
        self._is_given = False
        self._is_told = is_told

    def no_longer_alone(self) -> None:
        """Keep them, and let others run beside."""
        self._slots.no_longer_alone()

    def give(self) -> None:
        """Give the slots back, and the lease too, unless others are still to be told of the end."""
        self._slots.give()
        self._is_given = True
        self._let_go()

    def told(self) -> None:
        """Others can know how it ended, so the lease need not be kept for that."""
        self._is_told = True
        self._let_go()

    def _let_go(self) -> None:
        if self._hold is not None and self._is_given and self._is_told:
            self._hold.let_go()


@define(eq=False, kw_only=True)
class GuardedRuns:
    """Job tasks that ask before they run."""

    runs: Runs
    keeper: Keeper
    holds: Holds
    registrar: Registrar

    async def live(self, run: Run, taken: Taken, may_begin: Callable[[], bool]) -> None:
        """From admission to the ack, as `Runs.live`; `may_begin` is asked, and counts it, when nothing else is missing.

        If cancelled, which only the end of the whole tree does, the message returns to its queue with the connection.
        """
        entry: _Entry
        with ExitStack() as held:
            held.callback(taken.give)
            try:
                entry = await self._entered(run, held)
            except KeyUnknown as unknown:
                entry = lifecycle.Refuse(run.occurrence_id, run.attempt, run.job, str(unknown))
            except Exception:  # a defect of ours
                held.close()
                if self.runs.withdraw(run):
                    await self.runs.give_back_after_defect(run)
                return
            if isinstance(entry, _Entered) and _is_wanted(run) and may_begin():
                held.pop_all()
                await self._run(run, taken, entry)
                return
        if self.runs.withdraw(run):
            await self._not_begun(run, entry)

    async def _entered(self, run: Run, held: ExitStack) -> _Entry:
        """Get all that the run needs; what `held` closes is given up. Raises `KeyUnknown`."""
        message = run.delivery.message
        key, tick = _exclusive_key(run), tick_of(message.headers)
        occurrence: Hold | None = None
        if tick is not None:
            try:
                if (occurrence := await self._hold(occurrence_lease(run.occurrence_id), run, held)) is None:
                    return _Busy("another message of the same tick is being run")
                if not goes_on(run.attempt, message.headers) and await self._has_ended(tick):
                    return tick
            except LinkLost as lost:  # at least once
                _log.debug("job %s %s runs without a lease: %s", run.registered.name, run.occurrence_id, lost)
        if key is None:
            return _Entered(None, occurrence)
        try:
            exclusive = await self._hold(exclusive_lease(key), run, held)
        except LinkLost as lost:
            return _Busy(f"nobody can tell whether its exclusive key {key!r} is free: {lost}")
        if exclusive is None:
            return _Busy(f"another run has its exclusive key {key!r}")
        try:
            if (mark := _mark_of(run)) and await self.registrar.was_concluded(mark, run.occurrence_id):
                return _TwinEnded()
        except LinkLost as lost:
            return _Busy(f"nobody can tell whether it was run already: {lost}")
        if exclusive.is_over:  # such answers may take as long as a lease lasts, or the process was stopped meanwhile
            return _Busy(f"the lease of its exclusive key {key!r} was lost before it began")
        return _Entered(exclusive, occurrence)

    async def _hold(self, name: str, run: Run, held: ExitStack) -> Hold | None:
        hold = await self.holds.get(name, lambda: _is_wanted(run))
        if hold is not None:
            held.callback(hold.let_go)
        return hold

    async def _has_ended(self, tick: Tick) -> bool:
        return await self.keeper.ask(lambda keeper: keeper.book.has_ended(tick.schedule_id, tick.at))

    async def _run(self, run: Run, taken: Taken, entry: _Entered) -> None:
        if entry.exclusive is not None:
            entry.exclusive.on_lost = partial(self._stop, run)
            run.fencing_token = entry.exclusive.token
        run.begins_now(self.runs.now())
        # The lease is kept until a twin, which gets it next, can know of the end.
        mark = None if entry.exclusive is None else _mark_of(run)
        kept = _Kept(taken, entry.exclusive, is_told=mark is None)
        run.on_concluded = partial(self._tell, run, mark)
        self.registrar.begun(run.delivery.message, run.attempt)
        try:
            await self.runs.live(run, kept)
        finally:
            kept.told()
            self.registrar.over(run.attempt)
            if entry.occurrence is not None:  # not before others can know that it has ended
                entry.occurrence.let_go()

    def _stop(self, run: Run, why: str) -> None:
        """Its lease is lost: its code, and all cleaning up behind it, have to be over before it ends."""
        run.must_end_by = trio.current_time() + self.holds.grace
        run.stop(StopReason.LEASE_LOST, why)

    async def _tell(self, run: Run, mark: str | None, conclusion: Conclusion) -> None:
        await self.registrar.concluded(run.delivery.message, run.attempt, conclusion, mark)

    # --- when it does not begin ---------------------------------------------------------------------------------------

    async def _not_begun(self, run: Run, entry: _Entry) -> None:
        """Settle a run whose code did not begin. If cancelled: as `live`."""
        runs = self.runs
        if run.stop_reason is StopReason.CANCELLED:
            entry = lifecycle.CancelledBeforeStart(run.occurrence_id, run.attempt, run.job, run.stop_text)
        match entry:
            case lifecycle.Refuse() | lifecycle.CancelledBeforeStart():
                await runs.settle_unbegun(run, partial(runs.conclude_unstarted, entry, run.delivery, run.ack))
            case _ if run.stop_reason is not None:
                runs.hand_back(run, run.stop_text)
            case _Entered():
                runs.hand_back(run, "the process has begun as many jobs as it may run")
            case Tick(schedule_id, at):
                _log.info(
                    "job %s %s is not run: tick %d of %s has ended", run.job.id, run.occurrence_id, at, schedule_id
                )
                await runs.settle_unbegun(run, partial(self._acked, run))
            case _TwinEnded():
                _log.info("job %s %s is not run: a copy of its message was", run.registered.name, run.occurrence_id)
                await runs.settle_unbegun(run, partial(self._acked, run))
            case _Busy(why):
                await runs.settle_unbegun(run, partial(self._send_away, run, why))

    async def _acked(self, run: Run) -> None:
        run.ack()
        await trio.lowlevel.checkpoint()

    async def _send_away(self, run: Run, why: str) -> None:
        """Let the message come again in a few seconds. If cancelled: as `live`."""
        message, attempt = run.delivery.message, run.attempt
        away = parked(message.headers, run.run_number - 1, self.runs.outbox.deaths(attempt))
        delay = park_delay(away.count, random.random())
        _log.debug("job %s %s waits %g s: %s", run.registered.name, run.occurrence_id, delay, why)
        if run.run_number > 1 or goes_on(attempt, message.headers):
            # It counts as running, and would be given up if nothing were heard of it.
            self.runs.reporter.heartbeat(run)
        conclusion = lifecycle.conclude_parked(delay, attempt.retry_count, attempt.snoozes, away, why)
        await self.runs.report(run, conclusion)
        await self._tell(run, None, conclusion)
        run.ack()


def _mark_of(run: Run) -> str | None:
    """By which a twin of its message knows that it was concluded; `None` for a message that has none."""
    message = run.delivery.message
    if run.delivery.redelivered or headers.PARKED in message.headers:
        return twin_mark(run.attempt, message.headers)
    return None


def _is_wanted(run: Run) -> bool:
    return run.phase is Phase.RUNNING and run.stop_reason is None


def _exclusive_key(run: Run) -> str | None:
    """The client's, else the job's own. Raises `KeyUnknown`."""
    named = headers.text(run.delivery.message.headers.get(headers.EXCLUSIVE))
    if named:
        return as_key(named)
    template = run.registered.exclusive
    if template is None:
        return None
    return template.fill_from_text(run.registered.name, run.job.job_data, run.occurrence_id)
