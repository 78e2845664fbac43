"""Runs of other schedulers, as programs report them."""

from datetime import datetime
from typing import assert_type

from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]

from milvaion_trio import ExternalScheduler
from milvaion_trio.external.run import TrackedRun

milvaion = ExternalScheduler.from_file("appsettings.json", worker_id="nightly")


@milvaion.track("add", tags=["math"])
def add(a: int, b: int) -> int:
    return a + b


@milvaion.track("wait")
async def wait(seconds: float) -> str:
    return "waited"


def program(due: datetime) -> None:
    with milvaion as entered:
        assert_type(entered, ExternalScheduler)
        entered.register("etl", cron="0 0 3 * * *", next_run=due)
        with milvaion.track("etl", scheduled_for=due) as run:
            assert_type(run, TrackedRun)
            run.log("info", "read", rows=7)
            run.result({"rows": 7})
        milvaion.missed("etl", why="The machine slept")
        milvaion.watch(BackgroundScheduler())
        milvaion.track("etl", every=5)  # type: ignore[call-arg] # refused
        milvaion.track(7)  # type: ignore[arg-type] # refused
        milvaion.register("etl", next_run="tomorrow")  # type: ignore[arg-type] # refused


async def trio_program() -> None:
    async with milvaion as entered:
        assert_type(entered, ExternalScheduler)
    assert_type(add(1, 2), int)
    assert_type(await wait(1), str)
    add("1", 2)  # type: ignore[arg-type] # refused
