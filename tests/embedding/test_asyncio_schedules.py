"""Schedules from a program that runs asyncio: the same calls as on Trio."""

import threading

import pytest
from tests.support.hosts import Host, embedded_worker, in_every_asyncio_host, until

from milvaion_trio import AsyncioClient, NoSuchSchedule
from milvaion_trio.embed import serving


@in_every_asyncio_host
def test_a_client_of_asyncio_schedules_as_one_of_trio(host: Host) -> None:
    worker = embedded_worker()
    ran = threading.Semaphore(0)

    @worker.job()
    async def work() -> None:
        ran.release()

    async def scenario() -> None:
        async with serving(worker), AsyncioClient.of(worker) as client:
            await client.schedule(work, every=0.1, id="often")
            await until(lambda: ran.acquire(blocking=False))  # a tick
            await client.pause("often")
            (entry,) = await client.schedules()
            assert (entry.schedule.id, entry.paused) == ("often", True)
            assert len(await client.trigger("often")) == 36
            await client.resume("often")
            await client.unschedule("often")
            with pytest.raises(NoSuchSchedule):
                await client.trigger("often")

    host.run(scenario)
