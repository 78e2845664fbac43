"""The thread that writes: in order, told in Trio's thread, and how long that one stands still for it."""

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trio

from milvaion_trio.disk import writer as module
from milvaion_trio.disk.writer import UNATTENDED, Done, Writer, open_writer


def ignored(_: object, __: Exception | None) -> None:
    """Nobody asks what became of it."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """A disk answers when it opens; at the end of the test it does in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


class Clocks:
    """In place of `time`: it goes on with the work alone; other threads than the disk's have computed for long."""

    def __init__(self, takes: float, computes: float = 0.0) -> None:
        self._takes, self._computes = takes, computes
        self.works = 0

    def work(self) -> None:
        """Take so long, and compute for so long."""
        self.works += 1

    def perf_counter(self) -> float:
        return self.works * self._takes

    def thread_time(self) -> float:
        return self.works * self._computes if threading.current_thread().name == "disk" else 1000.0


async def test_work_is_done_in_order_and_told_in_trios_thread() -> None:
    """An error is told like a result."""
    told: list[tuple[str, object, int]] = []

    def tells(name: str) -> Done:
        return lambda result, error: told.append(
            (name, result if error is None else repr(error), threading.get_ident())
        )

    def fails() -> None:
        raise OSError("disk full")

    async with open_writer() as writer:
        writer.submit(lambda: "one", tells("a"))
        writer.submit(fails, tells("b"))
        writer.submit(lambda: "three", tells("c"))
        assert told == []  # whoever hands over is never called back meanwhile

    here = threading.get_ident()
    assert told == [("a", "one", here), ("b", "OSError('disk full')", here), ("c", "three", here)]


async def test_what_takes_no_time_is_done_before_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that want the interpreter at the same time cost more than the wait."""
    monkeypatch.setattr(module, "TURN", 20.0)
    clocks = Clocks(takes=0.001)

    async with open_writer() as writer:
        monkeypatch.setattr(module, "time", clocks)
        for number in range(3 * UNATTENDED):
            writer.submit(clocks.work, ignored, is_large=True)
            assert clocks.works == number + 1


async def test_what_is_not_large_is_never_waited_for(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 20.0)
    async with open_writer() as writer:
        assert seconds(lambda: writer.submit(gate.wait, ignored)) < 10.0
        gate.set()


@pytest.mark.parametrize(
    ("takes", "computes", "is_waited_for"), [(0.004, 0.0, False), (0.004, 0.0015, False), (0.004, 0.0025, True)]
)
async def test_a_disk_that_takes_its_time_is_not_waited_for(
    takes: float, computes: float, is_waited_for: bool, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that counts is what the disk takes: what is computed is what to stand still is for."""
    monkeypatch.setattr(module, "TURN", 1.0)
    async with open_writer() as writer:
        monkeypatch.setattr(module, "time", clocks := Clocks(takes, computes))
        writer.submit(clocks.work, ignored, is_large=True)
        stood_still = [seconds(lambda: writer.submit(gate.wait, ignored, is_large=True)) for _ in range(UNATTENDED)]
        gate.set()

    assert (max(stood_still) >= 1.0) is is_waited_for


async def test_a_disk_that_hangs_keeps_the_loop_for_a_turn_and_then_for_none(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN", 0.3)
    async with open_writer() as writer:
        first = seconds(lambda: writer.submit(gate.wait, ignored, is_large=True))
        for _ in range(UNATTENDED):
            writer.submit(gate.wait, ignored)  # of which nobody would have waited for one: they do not count
        next_ones = [seconds(lambda: writer.submit(gate.wait, ignored, is_large=True)) for _ in range(UNATTENDED)]
        later = seconds(lambda: writer.submit(gate.wait, ignored, is_large=True))
        gate.set()

    assert first >= 0.3
    assert max(next_ones) < 0.3
    assert later >= 0.3


async def test_an_error_is_not_waited_for_any_longer_than_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 20.0)

    def fails() -> None:
        raise OSError("disk full")

    async with open_writer() as writer:
        assert seconds(lambda: writer.submit(fails, ignored, is_large=True)) < 20.0


async def test_work_is_told_before_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the two would want the interpreter at the same time after all."""
    monkeypatch.setattr(module, "TURN", 20.0)
    told = list[str]()

    tell = module._Thread._tell

    def slowly(thread: module._Thread, call: Callable[[], None]) -> None:
        time.sleep(0.1)
        told.append("it is done")
        tell(thread, call)

    monkeypatch.setattr(module._Thread, "_tell", slowly)
    async with open_writer() as writer:
        writer.submit(lambda: None, ignored, is_large=True)
        assert told == ["it is done"]


def test_a_turn_is_what_the_interpreter_gives_to_any_thread() -> None:
    assert sys.getswitchinterval() == module.TURN


async def test_the_longer_a_disk_is_slow_the_less_often_it_is_waited_for(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick answer begins it anew."""
    monkeypatch.setattr(module, "TURN", 0.2)
    monkeypatch.setattr(module, "MOST_UNATTENDED", 2 * UNATTENDED)
    async with open_writer() as writer:

        def unattended_between() -> int:
            """Up to the next that is waited for, and after one that was."""
            attempts = iter(range(10 * UNATTENDED))
            return next(number for number in attempts if stands_still())

        def stands_still() -> bool:
            return seconds(lambda: writer.submit(gate.wait, ignored, is_large=True)) >= 0.2

        assert [unattended_between() for _ in range(4)] == [0, UNATTENDED, 2 * UNATTENDED, 2 * UNATTENDED]

        gate.set()
        await done_by(writer)
        for _ in range(2 * UNATTENDED + 1):  # the last of them is waited for, and quick
            writer.submit(lambda: None, ignored, is_large=True)
        gate.clear()
        assert [unattended_between() for _ in range(2)] == [0, UNATTENDED]
        gate.set()


async def test_what_was_handed_over_is_done_on_leaving_whether_waited_for_or_not(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN", 0.01)
    done = list[int]()
    with trio.CancelScope() as scope:
        async with open_writer() as writer:
            writer.submit(gate.wait, ignored, is_large=True)
            for number in range(UNATTENDED):
                writer.submit(lambda number=number: done.append(number), ignored, is_large=True)  # type: ignore[misc]  # a default
            assert done == []
            gate.set()
            scope.cancel()

    assert done == list(range(UNATTENDED))


async def done_by(writer: Writer) -> None:
    """Return when all is done that was handed over."""
    done = trio.Event()
    writer.submit(lambda: None, lambda _, __: done.set())
    await done.wait()


def seconds(act: Callable[[], None]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began
