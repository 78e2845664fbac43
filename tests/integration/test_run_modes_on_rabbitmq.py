"""Jobs in asyncio and in processes, in a cluster: the API cannot tell them from any other."""

import asyncio
from pathlib import Path

import trio
from tests.support import process_jobs
from tests.support.api_model import OccurrenceStatus
from tests.support.cluster import cluster, serving
from tests.support.processes import none_alive, numbers_in

from milvaion_trio import JobContext
from milvaion_trio.model.settings import ShutdownSettings

S = OccurrenceStatus


async def test_completed_failed_and_cancelled_jobs_of_both_modes(tmp_path: Path) -> None:
    """Statuses, results, retries and cancel signals arrive, and the connection has outlived a process that died."""
    started = trio.Event()
    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker(shutdown=ShutdownSettings(cleanup_timeout=0.5))
            worker.job("Behave", run="process")(process_jobs.behave)
            worker.job("Deaf", run="process")(process_jobs.wait_with_others)
            worker.job("Die", run="process", max_retries=1, base_retry_delay=1)(process_jobs.die)

            def told(occurrence_id: str) -> list[object]:
                return [status.status for status in here.api.occurrence(occurrence_id).wire]

            @worker.job("Fetch", run="asyncio")
            async def fetch(ctx: JobContext, number: int) -> int:
                async with asyncio.timeout(30):
                    started.set()
                    await asyncio.sleep(0.01 if number else 3600)
                ctx.log.info("fetched")
                return number

            async with serving(worker):
                await here.api.until(lambda: here.api.model.workers)
                returned = [await here.api.dispatch("Behave", '"success"'), await here.api.dispatch("Fetch", 7)]
                deaf, died = await here.api.dispatch("Deaf", f'"{tmp_path}"'), await here.api.dispatch("Die", '"exit"')
                await here.api.until_ended(*returned, died)
                numbers = await numbers_in(tmp_path / "pids")
                started = trio.Event()
                endless = await here.api.dispatch("Fetch", 0)
                await started.wait()
                await here.api.until(
                    lambda: all(here.api.occurrence(each).status == S.RUNNING for each in (deaf, endless))
                )
                for each in (deaf, endless):
                    await here.cancel(each, "enough")
                await here.api.until(lambda: all(told(each)[-1] == S.CANCELLED for each in (deaf, endless)))
                await none_alive(*numbers)

            assert [here.api.occurrence(each).result for each in returned] == ['[1,"hello"]', "7"]
            assert told(died)[-1] == S.FAILED
            assert "exit code 3" in str(here.api.occurrence(died).exception)
