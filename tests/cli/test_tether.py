"""A process of `run --processes` does what its supervisor asks for, says that it is up, and does not outlive it."""

import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, evolve, field
from tests.support.commands import run_command
from tests.support.processes import until

from milvaion_trio import Worker
from milvaion_trio.cli import tether as tethers
from milvaion_trio.cli.tether import UP, Asked, Tether, tethered
from milvaion_trio.logs import log_event
from milvaion_trio.model import events
from milvaion_trio.model.events import Event, Observer

PATIENCE = 10.0


@asynccontextmanager
async def bounded_nursery() -> AsyncIterator[trio.Nursery]:
    """One that does not wait for ever."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + PATIENCE
        yield nursery
    assert not nursery.cancel_scope.cancelled_caught, "it waits for ever"


@define(eq=False)
class Supervised:
    """A worker with a job that it enqueues itself, and the supervisor's end of its tether."""

    ours: socket.socket
    tether: Tether
    exits: list[int]
    seen: list[Event] = field(factory=list)
    ends: trio.Event = field(factory=trio.Event)
    began: trio.Event = field(factory=trio.Event)

    async def serve(
        self, *, jobs: int = 1, limit: int = 0, burst: bool = False, observers: tuple[Observer, ...] = ()
    ) -> None:
        """Until it has left. If cancelled, its job is."""
        worker = Worker("tests", observers=(self.seen.append, *observers))
        worker.settings = evolve(worker.settings, max_jobs_per_process=limit)

        @worker.job()
        async def work() -> None:
            self.began.set()
            await self.ends.wait()

        @worker.lifespan
        @asynccontextmanager
        async def begin(worker: Worker) -> AsyncIterator[None]:
            for _ in range(jobs):
                await work.enqueue()
            yield

        with trio.fail_after(PATIENCE):
            await self.tether.serve(worker, burst=burst)

    def ask(self, what: Asked) -> None:
        self.ours.send(bytes([what]))

    @property
    def told(self) -> list[str]:
        """What befell the job."""
        ends = (events.JobConcluded, events.JobReturned)
        return [type(event).__name__ for event in self.seen if isinstance(event, ends)]

    @property
    def drains(self) -> bool:
        return any(isinstance(event, events.ShutdownBegan) for event in self.seen)


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(tethers, "BETWEEN", 0.05)
    monkeypatch.setattr(tethers, "LEAVING", 0.2)
    tether = Tether(theirs)
    thread = threading.Thread(target=tether.listen)
    thread.start()
    with ours, theirs:
        yield Supervised(ours, tether, exits)
        ours.close()
        thread.join()


async def test_it_says_when_it_takes_jobs_and_drains_when_asked(supervised: Supervised) -> None:
    async with bounded_nursery() as nursery:
        nursery.start_soon(supervised.serve)
        await supervised.began.wait()
        assert await trio.to_thread.run_sync(supervised.ours.recv, 1) == UP

        supervised.ask(Asked.DRAIN)
        await until(lambda: supervised.drains)
        supervised.ends.set()

    assert supervised.told == ["JobConcluded"]


async def test_signals_of_its_own_never_cancel(supervised: Supervised) -> None:
    """However many come, from whoever signals all processes."""
    async with bounded_nursery() as nursery:
        nursery.start_soon(supervised.serve)
        await supervised.began.wait()
        for _ in range(5):
            supervised.tether.drain(15, None)
        await until(lambda: supervised.drains)
        supervised.ends.set()

    assert supervised.told == ["JobConcluded"]
    assert supervised.exits == []


async def test_it_cancels_its_jobs_when_asked_to_stop(supervised: Supervised) -> None:
    async with bounded_nursery() as nursery:
        nursery.start_soon(supervised.serve)
        await supervised.began.wait()
        supervised.ask(Asked.DRAIN)
        supervised.ask(Asked.STOP)

    assert supervised.told == ["JobReturned"]


async def test_what_is_asked_before_it_serves_is_not_forgotten(supervised: Supervised) -> None:
    supervised.tether.drain()

    await supervised.serve()

    assert supervised.told == []


async def test_the_third_one_ends_it_at_once(supervised: Supervised) -> None:
    """In the thread that listens, since the event loop may be blocked."""
    supervised.ask(Asked.LEAVE)
    with trio.fail_after(PATIENCE):
        await until(lambda: supervised.exits)

    assert supervised.exits == [130]


async def test_it_leaves_when_its_supervisor_is_gone(supervised: Supervised) -> None:
    """The job is cancelled and goes back; what does not leave is ended."""
    async with bounded_nursery() as nursery:
        nursery.start_soon(supervised.serve)
        await supervised.began.wait()
        supervised.ours.close()

    assert supervised.told == ["JobReturned"]
    with trio.fail_after(PATIENCE):
        await until(lambda: supervised.exits)


async def test_in_a_burst_it_leaves_when_nothing_is_left(supervised: Supervised) -> None:
    supervised.ends.set()

    await supervised.serve(jobs=3, burst=True)

    assert supervised.told == ["JobConcluded"] * 3


async def test_the_limit_of_jobs_is_no_warning_here(supervised: Supervised, caplog: pytest.LogCaptureFixture) -> None:
    """The supervisor starts another process."""
    caplog.set_level("INFO", "milvaion_trio")
    supervised.ends.set()

    await supervised.serve(jobs=3, limit=2, observers=(log_event,))

    assert supervised.tether.is_spent
    assert [each.levelname for each in caplog.records if "job limit reached: jobs=2" in each.message] == ["INFO"]
    assert len([each for each in caplog.records if "job completed" in each.message]) == 2, (
        "the other lines are the same"
    )


def test_what_jobs_start_does_not_have_the_tether(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the socket open, and could say that the process is up."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(tethers, "BETWEEN", 0.0)
    monkeypatch.setattr(tethers, "LEAVING", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    number = theirs.detach()
    try:
        tether = tethered(number)
        assert not os.get_inheritable(number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        ours.close()
        for thread in threading.enumerate():
            if thread.name == "tether":
                thread.join(PATIENCE)
    tether._link.close()
    assert tether.is_to_leave
    assert exits == [130]


def test_anything_else_is_no_tether(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("")

    ended = run_command("run", "shop:worker", "--process=1", f"--tether={os.sysconf('SC_OPEN_MAX') - 1}", cwd=tmp_path)

    assert ended.code == 2
    assert "--tether is how --processes talks to what it starts; leave it out." in ended.err
