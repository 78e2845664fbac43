"""What crosses between Trio and asyncio, and what must not."""

import asyncio
import contextlib
import contextvars
import subprocess
import sys

import pytest
import trio

from milvaion_trio.bridge import Abandoned, open_bridge

SOON = 5.0


def fail_on_error(problem: str) -> None:
    raise AssertionError(problem)


async def double(number: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return number * 2 + plus


async def test_a_call_returns_what_the_coroutine_returns() -> None:
    async with open_bridge(fail_on_error) as bridge:
        assert await bridge.call(double, 3, plus=1) == 7


async def test_a_call_raises_what_the_coroutine_raises() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with open_bridge(fail_on_error) as bridge:
        with pytest.raises(ZeroDivisionError):
            await bridge.call(fail)


async def test_a_coroutine_that_its_library_cancels_is_abandoned() -> None:
    """asyncio's CancelledError would pass every `except Exception` (RELIABILITY.md 0.10)."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    async with open_bridge(fail_on_error) as bridge:
        with pytest.raises(Abandoned):
            await bridge.call(give_up)


async def test_a_cancelled_call_cancels_the_coroutine_and_waits_for_it() -> None:
    said: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            said.append("cancelled")
            raise

    async with open_bridge(fail_on_error) as bridge:
        with trio.move_on_after(0.05) as scope:
            await bridge.call(wait)

    assert scope.cancelled_caught
    assert said == ["cancelled"]


async def test_a_background_task_that_fails_ends_nothing() -> None:
    """It is told, once; the loop's own handler would end the whole run (LIBRARIES.md 1.4)."""
    told: list[str] = []

    async def leave_behind() -> None:
        async def fail() -> None:
            raise ZeroDivisionError("in the background")

        asyncio.get_running_loop().create_task(fail())
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(0.01)

    async with open_bridge(told.append) as bridge:
        await bridge.call(leave_behind)
        assert await bridge.call(double, 1) == 2
    import gc

    gc.collect()

    assert len(told) == 2
    assert any("in the background" in problem for problem in told)
    assert any("invalid literal" in problem for problem in told)


async def test_tasks_end_with_the_bridge() -> None:
    said: list[str] = []
    told: list[str] = []

    async def leave_behind() -> None:
        async def last() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                said.append("ended")

        async def fail_at_last() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)
            raise ZeroDivisionError

        for task in (last, fail_at_last):
            asyncio.get_running_loop().create_task(task())
        await asyncio.sleep(0)

    with trio.fail_after(SOON):
        async with open_bridge(told.append) as bridge:
            await bridge.call(leave_behind)

    assert said == ["ended"]
    assert "ZeroDivisionError" in told[0]


async def test_what_is_raised_inside_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_bridge(fail_on_error):
            raise ZeroDivisionError


async def test_inside_a_cancelled_scope_the_bridge_serves_until_it_is_left() -> None:
    """What uses it closes on it first."""
    ended: list[int] = []
    with trio.CancelScope() as scope:
        async with open_bridge(fail_on_error) as bridge:
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(SOON, shield=True):
                    ended.append(await bridge.call(double, 4))

    assert scope.cancelled_caught
    assert ended == [8]


async def test_opening_in_a_cancelled_scope_does_not_hang() -> None:
    with trio.fail_after(SOON):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_bridge(fail_on_error):
                await trio.lowlevel.checkpoint()

    assert scope.cancelled_caught


async def test_bridges_do_not_disturb_each_other_nor_their_caller() -> None:
    """Each has a loop of its own, which the caller's context does not know."""
    before = dict(contextvars.copy_context())
    async with open_bridge(fail_on_error) as one, open_bridge(fail_on_error) as two:
        assert dict(contextvars.copy_context()) == before

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        assert await one.call(loop) is await one.call(loop)
        assert await one.call(loop) is not await two.call(loop)


def test_where_it_cannot_work_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """trio-asyncio fails on Python 3.14 with an AttributeError about child watchers."""
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    monkeypatch.delitem(sys.modules, "milvaion_trio.bridge")

    with pytest.raises(ImportError, match=r"Python 3\.11 to 3\.13"):
        __import__("milvaion_trio.bridge")


INTERRUPTED = """
import asyncio, signal, trio
from milvaion_trio.bridge import open_bridge

async def interrupted():
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
    await asyncio.sleep(3600)

async def main():
    async with open_bridge(print) as bridge:
        await bridge.call(interrupted)

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_in_asyncio_code_ends_the_program() -> None:
    """It ended the loop, and who waited for it waited for ever (LIBRARIES.md 1.4.3)."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30, check=False)

    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr
