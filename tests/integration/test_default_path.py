"""A worker on RabbitMQ runs on Trio alone: no other client, no other event loop, unless the settings ask for one."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import servers
from tests.support.brokers import DRIVERS

PROGRAM = """
import sys
import trio
from milvaion_trio import Worker
from milvaion_trio.embed import serving
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, WorkerSettings

port, vhost, folder, driver = sys.argv[1:]
worker = Worker(
    settings=WorkerSettings(
        rabbitmq=RabbitMQSettings(host="127.0.0.1", port=int(port), virtual_host=vhost, driver=driver),
        offline_resilience=OfflineResilienceSettings(local_storage_path=folder),
    )
)
looked = trio.Event()


@worker.job("Look")
async def look() -> None:
    print(*sorted({"trio_asyncio", "aio_pika", "aiormq", "asyncio"} & set(sys.modules)), "looked")
    looked.set()


async def main() -> None:
    with trio.fail_after(20):
        async with serving(worker):
            await look.enqueue()
            await looked.wait()


trio.run(main)
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_only_the_other_driver_brings_asyncio_along(driver: str, tmp_path: Path) -> None:
    arguments = [str(servers.rabbitmq().port), servers.new_vhost(), str(tmp_path), driver]

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )

    asyncios = [] if driver == "amqp" else ["aio_pika", "aiormq", "asyncio", "trio_asyncio"]
    assert done.stdout.split() == [*asyncios, "looked"], done.stderr
