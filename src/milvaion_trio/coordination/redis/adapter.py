"""`RedisCoordination`: the port, in front of a thread with one connection.

redis-py costs 23 MB and 0.3 s, so it is imported with the first request, in the thread.
What a server that takes over has not heard of is lost: a lease, or the whole book. Tokens grow all the same, holders of
lost leases learn it when they renew, and a worker that leads or starts puts the schedules of its code into the book.
"""

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio
from attrs import define, field

from milvaion_trio.coordination.codec import end_text, progress_text, read_end, recurrence_text, schedule_text
from milvaion_trio.coordination.reading import ENDS_AT_A_TIME, ENDS_REMEMBERED, entry_of, readable
from milvaion_trio.coordination.redis import scripts
from milvaion_trio.coordination.turn import Turn
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.redis_address import CONNECTION_STRING, RedisAddress, parse_redis_address
from milvaion_trio.model.schedule import Entry, Millis, Progress, RunEnd, Schedule
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.ports.coordination import LEADER, Beat, Token

if TYPE_CHECKING:
    from milvaion_trio.coordination.redis.session import Session

__all__ = ["PREFIX", "RedisCoordination"]

PREFIX: Final = "milvaion-trio:coordination:"
"""How all keys begin; `coordination.redis.scripts` says which there are."""

_PATIENCE: Final = 0.5
"""Seconds that the thread gets beyond the time after which it should have been done."""

T = TypeVar("T")


def _as_it_is(answer: Any) -> Any:
    return answer


@define(eq=False)
class RedisCoordination:
    """Implements `ports.coordination.Coordination`, and all that belongs to it, with one Redis.

    Raises `SettingsError` for a connection string that says nothing usable. All that use the same server, database and
    prefix belong together.
    """

    settings: RedisSettings
    prefix: str = PREFIX
    _address: RedisAddress = field(init=False)
    _session: "Session | None" = field(default=None, init=False)
    _turn: Turn = field(factory=Turn, init=False)
    _openings: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Read the connection string."""
        self._address = parse_redis_address(self.settings.connection_string, self.settings.password)

    @property
    def name(self) -> str:
        """For messages to people, without secrets, e.g. `Redis at localhost:6379`."""
        return f"Redis at {self._address}"

    @property
    def leases(self) -> "RedisCoordination":
        """Who may do what only one may."""
        return self

    @property
    def claims(self) -> "RedisCoordination":
        """Which occurrence a key belongs to."""
        return self

    @property
    def book(self) -> "RedisCoordination":
        """The schedules."""
        return self

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Use it while the context is open; several may have it open at a time, and the last one disconnects."""
        self._openings += 1
        try:
            yield
        finally:
            self._openings -= 1
            if not self._openings and self._session is not None:
                # Who does not answer keeps its thread, which ends with the process.
                with trio.CancelScope(shield=True), contextlib.suppress(LinkLost):
                    await self._turn.run(self._session.close, _PATIENCE, "")

    # --- leases -------------------------------------------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, seconds: float) -> Token | None:
        """See `Leases.acquire`. If cancelled, it may be held."""
        keys = [f"lease:{name}", "token", *(["leader"] if name == LEADER else [])]
        token: bytes | None = await self._ask(scripts.ACQUIRE, keys, holder, _milliseconds(seconds))
        return None if token is None else Token(int(token))

    async def renew(self, name: str, token: Token, seconds: float) -> bool:
        """See `Leases.renew`. If cancelled, it may be done."""
        return bool(await self._ask(scripts.RENEW, [f"lease:{name}"], token, _milliseconds(seconds)))

    async def release(self, name: str, token: Token) -> bool:
        """See `Leases.release`. If cancelled, it may be done."""
        return bool(await self._ask(scripts.RELEASE, [f"lease:{name}"], token))

    # --- claims -------------------------------------------------------------------------------------------------------

    async def claim(self, key: str, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        """See `Claims.claim`. If cancelled, it may be claimed."""
        owner: bytes = await self._ask(scripts.CLAIM, [f"claim:{key}"], occurrence_id, _milliseconds(seconds))
        return OccurrenceId(owner.decode())

    async def give_up(self, key: str, occurrence_id: OccurrenceId) -> bool:
        """See `Claims.give_up`. If cancelled, it may be done."""
        return bool(await self._ask(scripts.GIVE_UP, [f"claim:{key}"], occurrence_id))

    # --- the book, for operators --------------------------------------------------------------------------------------

    async def put(self, schedule: Schedule, now: Millis) -> bool:
        """See `ScheduleBook.put`. If cancelled, it may be done."""
        keys = [f"schedule:{schedule.id}", "schedules", "revision"]
        texts = schedule_text(schedule), recurrence_text(schedule.when)
        return bool(await self._ask(scripts.PUT, keys, schedule.id, *texts, now))

    async def remove(self, schedule_id: str) -> bool:
        """See `ScheduleBook.remove`. If cancelled, it may be done."""
        keys = [f"schedule:{schedule_id}", "schedules", "revision"]
        return bool(await self._ask(scripts.REMOVE, keys, schedule_id))

    async def pause(self, schedule_id: str) -> bool:
        """See `ScheduleBook.pause`. If cancelled, it may be done."""
        return bool(await self._ask(scripts.PAUSE, [f"schedule:{schedule_id}", "revision"]))

    async def resume(self, schedule_id: str, now: Millis) -> bool:
        """See `ScheduleBook.resume`. If cancelled, it may be done."""
        return bool(await self._ask(scripts.RESUME, [f"schedule:{schedule_id}", "revision"], now))

    async def read(self) -> tuple[int, Sequence[Entry]]:
        """See `ScheduleBook.read`. If cancelled, nothing changes."""
        return await self._ask(scripts.READ, ["schedules", "revision"], f"{self.prefix}schedule:", read=_book)

    # --- the book, for workers and the leader -------------------------------------------------------------------------

    async def ended(self, end: RunEnd) -> None:
        """See `ScheduleBook.ended`. If cancelled, it may be kept."""
        keys = ["ended", "ends", "ends:order"]
        run = _run(end.schedule_id, end.tick)
        seconds = f"{ENDS_REMEMBERED:.0f}"
        await self._ask(scripts.ENDED, keys, run, end.at, end_text(end), seconds, int(end.is_known))

    async def has_ended(self, schedule_id: str, tick: Millis) -> bool:
        """See `ScheduleBook.has_ended`. If cancelled, nothing changes."""
        return await self._ask(scripts.HAS_ENDED, ["ended"], _run(schedule_id, tick)) is not None

    async def beat(self, token: Token, seconds: float) -> Beat | None:
        """See `ScheduleBook.beat`. If cancelled, it may be renewed."""
        keys = [f"lease:{LEADER}", "revision", "ends", "ends:order"]
        return await self._ask(scripts.BEAT, keys, token, _milliseconds(seconds), ENDS_AT_A_TIME, read=_beat)

    async def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
        """See `ScheduleBook.advance`. If cancelled, all of it or nothing is written."""
        written = [part for name, each in progress.items() for part in (name, progress_text(each))]
        ends = [_run(end.schedule_id, end.tick) for end in taken]
        keys = ["leader", "ends", "ends:order"]
        values = token, f"{self.prefix}schedule:", len(progress)
        return bool(await self._ask(scripts.ADVANCE, keys, *values, *written, *ends))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _ask(
        self, script: scripts.Script, keys: Sequence[str], *values: str | int, read: Callable[[Any], T] = _as_it_is
    ) -> T:
        """What `read` makes of the script's answer, in the thread too: a large book takes long."""
        if self._session is None:
            # Outside every time limit, as those are meant for the server.
            library = partial(importlib.import_module, "milvaion_trio.coordination.redis.session")
            module = await trio.to_thread.run_sync(library, limiter=trio.CapacityLimiter(1))
            if self._session is None:  # else another task was faster
                self._session = module.Session(self._address, self.settings.database, f"{self.prefix}nobody")
        seconds = self._address.connect_timeout + _PATIENCE
        too_late = f"{self.name}: no answer within {seconds:g} s; see the setting {CONNECTION_STRING}"
        names = [f"{self.prefix}{key}".encode() for key in keys]
        request = partial(self._session.run, script, names, [str(value).encode() for value in values])
        return await self._turn.run(lambda: read(request()), seconds, too_late)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _book(answer: Any) -> tuple[int, Sequence[Entry]]:
    revision, rows = answer
    return int(revision), sorted(readable(rows, entry_of), key=lambda entry: entry.schedule.id)


def _beat(answer: Any) -> Beat | None:
    if answer is None:
        return None
    revision, news = answer
    return Beat(int(revision), tuple(readable([(text,) for text in news], read_end)))


def _run(schedule_id: str, tick: Millis) -> str:
    """A name for the run of a tick."""
    return f"{tick} {schedule_id}"
