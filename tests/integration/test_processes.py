"""`run --processes` with real processes on a real RabbitMQ: they share the work, and each has an heir."""

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import trio
from tests.support import servers
from tests.support.amqp import connect
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.cluster import Cluster, RunningWorker, cluster, running, serving
from tests.support.commands import call_command, run_command
from tests.support.disks import disk_outbox
from tests.support.processes import is_alive, none_alive, until
from tests.support.queues import left_in
from tests.support.reports import FINAL, A, attempt
from tests.support.stored import rows_of

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.outbox.store import DIED
from milvaion_trio.ports import Report

PROGRAM: Final = """
import os
import trio
from milvaion_trio import Worker

worker = Worker("tests")

@worker.job("WhoJob", max_parallel=1)
async def who() -> int:
    await trio.sleep(0.05)
    return os.getpid()

@worker.job("StayJob", max_parallel=1)
async def stay() -> int:
    with open("staying", "a") as file:
        print(os.getpid(), file=file)
    while not os.path.exists("go"):
        await trio.sleep(0.01)
    return os.getpid()
"""
FAST_API: Final = ApiSettings(status_interval=0.01)
COMPLETED: Final = OccurrenceStatus.COMPLETED
STAY_QUEUE: Final = topology.queue_name(topology.routing_pattern("tests", "StayJob"))


def write_program(here: Cluster, folder: Path) -> Path:
    """A worker and its settings; returns the settings."""
    (folder / "shop.py").write_text(PROGRAM)
    config = here.write_appsettings(folder, WorkerId="tests")
    worker = json.loads(config.read_text())["Worker"]
    worker["OfflineResilience"] = {"LocalStoragePath": str(folder / "data")}
    config.write_text(json.dumps({"Worker": worker}))
    return config


def outbox_of(folder: Path, process: int) -> Path:
    """The file of the process of this number."""
    return folder / "data" / ("" if process == 1 else f"process-{process}") / "tests.outbox.db"


def started(worker: RunningWorker) -> list[tuple[int, int]]:
    """The processes that were started so far: their numbers and their process ids."""
    return [(int(number), int(pid)) for number, pid in re.findall(r"process (\d+) started: pid (\d+)", worker.told)]


def ready(worker: RunningWorker, times: int) -> bool:
    return worker.told.count("worker ready") == times


async def nothing() -> None: ...


async def leave_behind(place: Path, name: str) -> None:
    """What a process leaves that dies before the broker has its reports: one for the queue `left`."""
    outbox = disk_outbox(place)
    async with outbox.open():
        with trio.move_on_after(0.1):
            message = Message(body=name.encode(), message_id=name)
            await outbox.conclude(attempt(), [Report(FINAL, Publication(message, "left"), A)])


async def test_processes_share_the_work_and_are_replaced(tmp_path: Path) -> None:
    """Every job runs once. One that is killed is replaced, its job comes back, its outbox goes on: deaths, reports."""
    with trio.fail_after(60):
        async with cluster(api_settings=FAST_API) as here:
            config = write_program(here, tmp_path)
            for number in (2, 3):
                await leave_behind(outbox_of(tmp_path, number), f"left by {number}")
            async with connect(here.rabbitmq.port, here.vhost) as client:
                await client.declare_queue("left")
                left = await client.consume("left")
                async with running("shop:worker", config, "--processes", "2", cwd=tmp_path) as worker:
                    await until(lambda: ready(worker, 2))
                    assert len(next(iter(here.api.model.workers.values())).instances) == 2

                    # Shared.
                    api = here.api
                    dispatched = [await api.dispatch("WhoJob") for _ in range(20)]
                    await api.until_ended(*dispatched)
                    assert {api.occurrence(each).status for each in dispatched} == {COMPLETED}
                    by = Counter(str(api.occurrence(each).result) for each in dispatched)
                    assert set(by) == {str(pid) for _, pid in started(worker)}
                    assert min(by.values()) >= 3

                    # What process 2 had left is sent by process 2, and what process 3 has left is told.
                    assert (await left.receive()).body == b"left by 2"
                    assert f"1 report waits in {outbox_of(tmp_path, 3)}, the outbox of a process that is" in worker.told

                    # Killed.
                    stays = await api.dispatch("StayJob")
                    staying = tmp_path / "staying"
                    await until(lambda: staying.exists() and staying.read_text().endswith("\n"))
                    killed = int(staying.read_text())
                    number = {pid: number for number, pid in started(worker)}[killed]
                    os.kill(killed, signal.SIGKILL)
                    await until(lambda: ready(worker, 3))
                    await until(lambda: len(staying.read_text().split()) == 2)
                    told = (
                        rf"process {number} \(pid {killed}\) was ended by SIGKILL, another one is started in 0\.[456]"
                    )
                    assert re.search(told, worker.told)
                    assert [each for each, _ in started(worker)] in ([1, 2, 1], [1, 2, 2])
                    assert (stays, DIED) in rows_of(outbox_of(tmp_path, number), "occurrence_id, state", "mark")

                    # Told to leave, as service managers do: all at once. The job that runs may end.
                    for pid in (worker.process.pid, *(pid for _, pid in started(worker) if pid != killed)):
                        os.kill(pid, signal.SIGTERM)
                    await until(lambda: worker.told.count("shutdown: ") == 2)
                    (tmp_path / "go").touch()
                    assert await worker.process.wait() == 0
                    assert not any(is_alive(pid) for _, pid in started(worker))
                    await api.until_ended(stays)
                    assert api.occurrence(stays).status == COMPLETED

                flushed = await call_command("outbox", "flush", "--config", config)
                assert (flushed.code, flushed.out) == (0, "sent 1 report\n")
                assert (await left.receive()).body == b"left by 3"


async def test_a_process_leaves_after_its_jobs_and_all_leave_without_their_supervisor(tmp_path: Path) -> None:
    """Exactly so many jobs in each. Killed, the supervisor leaves no process behind, and the running job goes back."""
    limit = ("--processes", "1", "--max-jobs-per-process", "3")
    with trio.fail_after(60):
        async with cluster(api_settings=FAST_API) as here:
            config = write_program(here, tmp_path)
            async with running("shop:worker", config, *limit, cwd=tmp_path) as worker:
                api = here.api
                await until(lambda: ready(worker, 1))
                dispatched = [await api.dispatch("WhoJob") for _ in range(5)]
                await api.until_ended(*dispatched)
                by = Counter(str(api.occurrence(each).result) for each in dispatched)
                assert by == {str(pid): jobs for (_, pid), jobs in zip(started(worker), (3, 2), strict=True)}
                assert "has run its jobs, another one is started" in worker.told
                assert "started in" not in worker.told  # no pause

                await api.dispatch("StayJob")
                await until((tmp_path / "staying").exists)
                worker.process.kill()
                await none_alive(*(pid for _, pid in started(worker)))

                async with connect(here.rabbitmq.port, here.vhost) as client:
                    assert await left_in(client, [STAY_QUEUE]) == {STAY_QUEUE: (1, 0)}


async def test_in_a_burst_all_leave_when_nothing_is_left(tmp_path: Path) -> None:
    async with cluster(api_settings=FAST_API) as here:
        config = write_program(here, tmp_path)
        earlier = here.worker()
        earlier.job("WhoJob", max_parallel=1)(nothing)
        async with serving(earlier):
            await here.api.until(lambda: here.api.model.workers)
            job = here.api.create_job("WhoJob")  # now, as the API forgets who has left
        dispatched = [await here.api.dispatch(job) for _ in range(4)]

        ended = await trio.to_thread.run_sync(
            lambda: run_command("run", "shop:worker", "--config", config, "--processes", "2", "--burst", cwd=tmp_path)
        )

        await here.api.until_ended(*dispatched)

    assert ended.code == 0, ended.err
    assert ended.err.count("job completed: WhoJob") == 4
    assert ended.err.count("worker stopped: ") == 2


async def test_a_process_that_cannot_have_its_outbox_ends_the_start(tmp_path: Path) -> None:
    """Not at the first try: who has it may still drain. Each process that waits for it says so."""
    async with cluster(api_settings=FAST_API) as here:
        config = write_program(here, tmp_path)
        with (tmp_path / "shop.py").open("a") as program:
            program.write("from milvaion_trio.cli import outbox_folders\noutbox_folders.LEAVING = 0.2\n")
        async with disk_outbox(outbox_of(tmp_path, 1)).open():
            ended = await trio.to_thread.run_sync(
                lambda: run_command("run", "shop:worker", "--config", config, "--processes", "2", cwd=tmp_path)
            )

    assert ended.code == 1
    assert ended.err.count("error: ") == ended.err.count("started: pid") == 3
    assert ended.err.count("it may be leaving") == ended.err.count("belongs to another worker that runs") == 3
    assert "ended with exit code 1 before it was up, 3 times in a row; no process runs" in ended.err


def test_what_is_wrong_in_the_settings_is_said_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    nowhere = ("--set", f"rabbitmq.port={servers.free_port()}")

    wrong = run_command("run", "shop:worker", "--processes", "2", "--set", "rabbitmq.prt=1", cwd=tmp_path)
    many = run_command("run", "shop:worker", "--processes", "2000", *nowhere, cwd=tmp_path)
    alone = run_command("run", "shop:worker", "--processes", "2", cwd=tmp_path)
    twice = run_command("run", "shop:worker", "--processes", "2", "--reload", *nowhere, cwd=tmp_path)

    assert [each.code for each in (wrong, many, alone, twice)] == [2] * 4
    assert [each.err.count("\n") for each in (wrong, many, alone, twice)] == [1] * 4
    assert "--set rabbitmq.prt is no setting" in wrong.err
    assert "--processes" in many.err
    assert "an embedded broker is in one process" in alone.err
    assert "--reload runs one process" in twice.err
