"""A worker process killed with SIGKILL: its jobs run again elsewhere, once, and have one final status."""

import json
import subprocess
from pathlib import Path
from typing import Final

import trio
from tests.support.amqp import connect
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.api_model.database import ENDS
from tests.support.cluster import cluster, serving
from tests.support.commands import command, environment

from milvaion_trio import JobContext

PROGRAM: Final = """
import trio
from milvaion_trio import JobContext, Worker

worker = Worker("tests")

@worker.job("EndlessJob", max_parallel=3)
async def endless(ctx: JobContext) -> None:
    await trio.sleep_forever()
"""


async def test_a_killed_worker_costs_one_more_run_of_what_it_ran(tmp_path: Path) -> None:
    """Killed with three jobs running: another worker runs each once more, as the same attempt; nothing is lost."""
    (tmp_path / "shop.py").write_text(PROGRAM)
    runs: dict[str, list[tuple[int, int]]] = {}
    with trio.fail_after(60):
        async with cluster(api_settings=ApiSettings(status_interval=0.01)) as here:
            config = here.write_appsettings(tmp_path, WorkerId="tests")
            config.write_text(json.dumps({"Worker": json.loads(config.read_text())["Worker"]}))
            doomed = await trio.lowlevel.open_process(
                command("run", "shop:worker", "--config", config),
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                api = here.api
                await api.until(lambda: api.model.workers, 30)
                dispatched = [await api.dispatch("EndlessJob") for _ in range(3)]
                running = OccurrenceStatus.RUNNING
                await api.until(lambda: all(api.occurrence(each).status == running for each in dispatched), 30)
            finally:
                doomed.kill()
                await doomed.wait()

            successor = here.worker()

            @successor.job("EndlessJob", max_parallel=3)
            async def ends(ctx: JobContext) -> str:
                runs.setdefault(ctx.occurrence_id, []).append((ctx.attempt, ctx.run_number))
                return "done"

            async with serving(successor):
                await api.until_ended(*dispatched, seconds=30)
                await successor.idle()
            queue = successor.registry.jobs[0].queue
            async with connect(here.rabbitmq.port, here.vhost) as client:
                left, _ = await client.declare_queue(queue, passive=True)

            finals = [[s.status for s in api.occurrence(each).wire if s.status in ENDS] for each in dispatched]

    assert runs == {each: [(1, 2)] for each in dispatched}  # the first attempt still, and its second run
    assert finals == [[OccurrenceStatus.COMPLETED]] * 3
    assert left == 0
