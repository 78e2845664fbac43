"""Leases that runs hold: waited for briefly, renewed while the code runs, given up when it has ended.

When a lease can be held is a matter of this process's own clock alone: from the moment before each request that was
granted it lasts its lifetime, whatever the keeper's clock says, as long as both run alike.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.ports.coordination import Token
from milvaion_trio.runtime.keeper import ANSWER_PATIENCE, Keeper

__all__ = ["MARGIN", "Hold", "Holds"]

PATIENCE: Final = 1.0
"""Seconds for which a lease is waited for that somebody else holds, with the slots of the job taken."""
SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 0.4
"""Seconds between two tries meanwhile."""
DOUBT: Final = 5.0
"""Seconds after such a wait in vain in which nobody else waits for the same lease."""
RENEWALS: Final = 3
"""Times that a lease is renewed within its lifetime."""
FAILED_PAUSE: Final = 0.5
"""Seconds until a renewal without an answer is tried again."""
MARGIN: Final = 0.5
"""Seconds between the end of the time that a job has to clean up and the end of its lease."""


@define(eq=False, kw_only=True)
class Hold:
    """A lease in the hands of a run."""

    name: str
    token: Token
    until: float
    """On Trio's clock: until then nobody else has it."""
    on_lost: Callable[[str], object] | None = None
    """Called with the reason, once, when it may soon be somebody else's; `None` where the run goes on all the same."""
    is_lost: bool = False
    _let_go: trio.Event = field(factory=trio.Event, init=False)

    def let_go(self) -> None:
        """The code has ended: others may have it. Twice is once."""
        self._let_go.set()

    @property
    def is_let_go(self) -> bool:
        """Whether the code has ended."""
        return self._let_go.is_set()

    @property
    def is_over(self) -> bool:
        """Whether somebody else may have it by now, so that nothing must begin with it."""
        return self.is_lost or trio.current_time() >= self.until

    async def until_let_go(self) -> None:
        """Return when the code has ended. If cancelled, nothing changes."""
        await self._let_go.wait()

    def lose(self, why: str) -> None:
        """Say that it may soon be somebody else's."""
        if not self.is_lost:
            self.is_lost = True
            if self.on_lost is not None and not self.is_let_go:
                self.on_lost(why)


@define(eq=False, kw_only=True)
class Holds:
    """All leases of one worker process."""

    keeper: Keeper
    holder: str
    seconds: float
    """Lifetime of a lease."""
    grace: float
    """Seconds that a job may take to end once it is told to."""
    most_waiting: int
    """Of the slots, which those that wait hold meanwhile."""
    _held: dict[str, Hold] = field(factory=dict, init=False)
    _freed: trio.Event = field(factory=trio.Event, init=False)
    """Set whenever one of them is given up."""
    _waiting: int = field(default=0, init=False)
    _in_vain: dict[str, float] = field(factory=dict, init=False)
    """What was waited for in vain, and until when nobody waits for it again."""
    _nursery: trio.Nursery | None = field(default=None, init=False)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Leases can be had and are renewed while the context is open.

        On leaving, those that were let go are given up; others, of code that nobody could stop, run out by themselves.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def get(self, name: str, is_wanted: Callable[[], bool]) -> Hold | None:
        """The lease, if it can be had within about a second, and as long as it is wanted.

        Few wait; the others try once.
        Raises `LinkLost` when the keeper is away. If cancelled, it may be held; it then runs out.
        """
        if self._waiting >= self.most_waiting or self._was_in_vain(name):
            return await self._acquired(name)
        until, pause = trio.current_time() + PATIENCE, SHORTEST_PAUSE
        self._waiting += 1
        try:
            while (hold := await self._acquired(name)) is None and is_wanted():
                now = trio.current_time()
                if now >= until:
                    self._in_vain[name] = now + DOUBT
                    break
                with trio.move_on_at(min(until, now + pause)):
                    await self._freed.wait()
                pause = min(pause + SHORTEST_PAUSE, LONGEST_PAUSE)
            return hold
        finally:
            self._waiting -= 1

    def _was_in_vain(self, name: str) -> bool:
        """Whether somebody waited for it a moment ago and did not get it."""
        now = trio.current_time()
        for old in [old for old, until in self._in_vain.items() if until <= now]:
            del self._in_vain[old]
        return name in self._in_vain

    async def _acquired(self, name: str) -> Hold | None:
        if name in self._held:  # here, and maybe by code that nobody could stop, longer than its lease
            return None
        asked = trio.current_time()
        token = await self.keeper.ask(lambda keeper: keeper.leases.acquire(name, self.holder, self.seconds))
        if token is None or self._nursery is None or name in self._held:  # the last where the keeper forgot that one
            return None
        hold = self._held[name] = Hold(name=name, token=token, until=asked + self.seconds)
        self._nursery.start_soon(self._keep, hold)
        return hold

    async def _keep(self, hold: Hold) -> None:
        """Renew it until it is let go, then give it up."""
        renewal = hold.until - self.seconds + self.seconds / RENEWALS
        try:
            while not hold.is_let_go:
                with trio.move_on_at(renewal):
                    await hold.until_let_go()
                    break
                renewal = await self._renewed(hold)
        finally:
            if hold.is_let_go:
                await self._given_up(hold)  # noqa: ASYNC102  # shielded and bounded there
                del self._held[hold.name]
                self._freed.set()
                self._freed = trio.Event()

    async def _renewed(self, hold: Hold) -> float:
        """Try to renew it, and return when to do so next."""
        asked = trio.current_time()
        last = hold.until - self.grace - MARGIN  # a job that is told to end later than that may end too late
        why = "there was no answer in time"
        if asked >= last:  # nobody got round to it, in a process that was stopped for instance
            hold.lose(f"its lease {hold.name!r} was not renewed in time")
            last = asked + ANSWER_PATIENCE
        try:
            with trio.move_on_at(last):
                if await self._renew(hold):
                    hold.until = asked + self.seconds
                    return asked + self.seconds / RENEWALS
                why = "somebody else may hold it, or its keeper has lost its data"
        except LinkLost as lost:
            if trio.current_time() + FAILED_PAUSE < last:
                return trio.current_time() + FAILED_PAUSE
            await self._pause(hold, last)
            why = str(lost)
        hold.lose(f"its lease {hold.name!r} could not be renewed: {why}")
        return trio.current_time() + self.seconds / RENEWALS

    async def _renew(self, hold: Hold) -> bool:
        return await self.keeper.ask(
            lambda keeper: keeper.leases.renew(hold.name, hold.token, self.seconds), insists=True
        )

    async def _pause(self, hold: Hold, until: float) -> None:
        with trio.move_on_at(until):
            await hold.until_let_go()

    async def _given_up(self, hold: Hold) -> None:
        with trio.CancelScope(shield=True, relative_deadline=ANSWER_PATIENCE), contextlib.suppress(LinkLost):
            await self.keeper.ask(lambda keeper: keeper.leases.release(hold.name, hold.token))
