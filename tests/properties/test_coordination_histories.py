"""Whatever several clients do in any order while time passes: a model says what each of them must be told.

Never two holders of a name, tokens of a name strictly grow, an older leader never writes: the model has these by
construction, and a keeper that tells anything else breaks one of them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.coordinations import KEEPERS, Keeper, KeeperKind

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Every, Progress, RunEnd, Schedule
from milvaion_trio.ports.coordination import LEADER, Coordination, Token

CLIENTS = 3
LIFETIME = 10.0
SCHEDULES = ["a", "b"]

Step: TypeAlias = tuple[str, int, str, float]

names = st.sampled_from([LEADER, LEADER, "exclusive:k"])
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, CLIENTS - 1), names, st.sampled_from([4.0, LIFETIME])),
        st.tuples(st.just("acquire"), st.integers(0, CLIENTS - 1), names, st.just(LIFETIME)),
        st.tuples(st.just("renew"), st.integers(0, CLIENTS - 1), names, st.sampled_from([4.0, LIFETIME])),
        st.tuples(st.just("release"), st.integers(0, CLIENTS - 1), names, st.just(0.0)),
        st.tuples(st.just("beat"), st.integers(0, CLIENTS - 1), st.just(LEADER), st.just(LIFETIME)),
        st.tuples(st.just("advance"), st.integers(0, CLIENTS - 1), st.sampled_from(SCHEDULES), st.just(0.0)),
        st.tuples(st.just("ended"), st.integers(0, CLIENTS - 1), st.sampled_from(SCHEDULES), st.integers(0, 3)),
        st.tuples(st.just("claim"), st.integers(0, CLIENTS - 1), st.sampled_from("kl"), st.just(LIFETIME)),
        st.tuples(st.just("give up"), st.integers(0, CLIENTS - 1), st.sampled_from("kl"), st.just(0.0)),
        st.tuples(st.just("elapse"), st.just(0), st.just(""), st.sampled_from([3.0, 7.0, 11.0])),
    ),
    max_size=40,
)


@define
class Held:
    """Who has something, and until when."""

    owner: Any
    until: float


@define(eq=False)
class Play:
    """Plays steps on a keeper and on the model."""

    keeper: Keeper
    clients: list[Coordination]
    now: float = 0.0
    held: dict[str, Held] = field(factory=dict)
    """Each lease and each claim."""
    last: dict[tuple[int, str], Token] = field(factory=dict)
    """The last token that a client got for a name."""
    given: dict[str, list[Token]] = field(factory=dict)
    progress: dict[str, Progress] = field(factory=lambda: dict.fromkeys(SCHEDULES, Progress()))
    ends: dict[tuple[str, int], RunEnd] = field(factory=dict)
    told: set[tuple[str, int]] = field(factory=set)
    writes: Iterator[int] = field(factory=lambda: iter(range(1, 1000)))

    def owner(self, name: str) -> Any:
        held = self.held.get(name)
        return None if held is None or held.until <= self.now else held.owner

    async def play(self, step: Step) -> None:
        word, number, name, value = step
        await getattr(self, "do_" + word.replace(" ", "_"))(number, self.clients[number], name, value)

    async def do_acquire(self, number: int, client: Coordination, name: str, seconds: float) -> None:
        token = await client.leases.acquire(name, str(number), seconds)
        assert (token is None) == (self.owner(name) is not None)
        if token is not None:
            self.held[name] = Held(token, self.now + seconds)
            self.last[number, name] = token
            self.given.setdefault(name, []).append(token)

    async def do_renew(self, number: int, client: Coordination, name: str, seconds: float) -> None:
        token = self.last.get((number, name), Token(1))
        is_held = self.owner(name) == token
        assert await client.leases.renew(name, token, seconds) == is_held
        if is_held:
            self.held[name] = Held(token, self.now + seconds)

    async def do_release(self, number: int, client: Coordination, name: str, _: float) -> None:
        token = self.last.get((number, name), Token(1))
        is_held = self.owner(name) == token
        assert await client.leases.release(name, token) == is_held
        if is_held:
            del self.held[name]

    async def do_beat(self, number: int, client: Coordination, name: str, seconds: float) -> None:
        token = self.last.get((number, name), Token(1))
        beat = await client.book.beat(token, seconds)
        assert (beat is not None) == (self.owner(name) == token)
        if beat is not None:
            self.held[name] = Held(token, self.now + seconds)
            assert {(end.schedule_id, end.tick): end for end in beat.ends} == self.ends
            assert len(beat.ends) == len(self.ends)

    async def do_advance(self, number: int, client: Coordination, name: str, _: float) -> None:
        token = self.last.get((number, LEADER), Token(1))
        progress = Progress(runs=next(self.writes))
        taken = [end for (schedule_id, _), end in self.ends.items() if schedule_id == name]
        is_newest = token >= max(self.given.get(LEADER, [Token(0)]))
        assert await client.book.advance(token, {name: progress}, taken) == is_newest
        if is_newest:
            self.progress[name] = progress
            self.ends = {run: end for run, end in self.ends.items() if run[0] != name}

    async def do_ended(self, number: int, client: Coordination, name: str, tick: float) -> None:
        end = RunEnd(schedule_id=name, tick=int(tick), status=number, at=len(self.told))
        await client.book.ended(end)
        if (name, end.tick) not in self.told:
            self.ends[name, end.tick] = end
            self.told.add((name, end.tick))
        assert await self.clients[0].book.has_ended(name, end.tick)

    async def do_claim(self, number: int, client: Coordination, key: str, seconds: float) -> None:
        owner = self.owner(f"claim:{key}") or f"occurrence-{number}"
        assert await client.claims.claim(key, OccurrenceId(f"occurrence-{number}"), seconds) == owner
        if owner == f"occurrence-{number}":
            self.held[f"claim:{key}"] = Held(owner, self.now + seconds)

    async def do_give_up(self, number: int, client: Coordination, key: str, _: float) -> None:
        is_owned = self.owner(f"claim:{key}") == f"occurrence-{number}"
        assert await client.claims.give_up(key, OccurrenceId(f"occurrence-{number}")) == is_owned
        if is_owned:
            del self.held[f"claim:{key}"]

    async def do_elapse(self, _number: int, _client: Coordination, _name: str, seconds: float) -> None:
        await self.keeper.elapse(seconds)
        self.now += seconds

    async def check(self) -> None:
        for tokens in self.given.values():
            assert all(earlier < later for earlier, later in pairwise(tokens))
        entries = (await self.clients[0].book.read())[1]
        assert {entry.schedule.id: entry.progress for entry in entries} == self.progress


@pytest.mark.parametrize("kind", KEEPERS, ids=lambda kind: kind.name)
def test_a_keeper_tells_what_the_model_tells(kind: KeeperKind) -> None:
    @settings(max_examples=60 if kind.name == "memory" else 20)
    @given(steps)
    def history(happenings: list[Step]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(play, Path(folder), happenings)

    async def play(folder: Path, happenings: list[Step]) -> None:
        async with kind.open(folder) as keeper, AsyncExitStack() as stack:
            clients = [keeper.client() for _ in range(CLIENTS)]
            for client in clients:
                await stack.enter_async_context(client.open())
            for name in SCHEDULES:
                schedule = Schedule(id=name, job="j", worker_id="w", pattern="p", when=Every(5.0))
                await clients[0].book.put(schedule, 0)
            play = Play(keeper, clients)
            for step in happenings:
                await play.play(step)
            await play.check()

    history()
