"""What a run was played on, without saying where: processor, cores, versions."""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.environments import REQUIREMENTS
from benchmarks.peers.raw_redis import RawRedis
from tests.support.servers import RabbitMQServer, RedisServer

__all__ = ["cores", "cpu_model", "keep_to_cores", "versions", "without_places"]

OURS = ("milvaion-trio", "trio", "trio-asyncio", "aio-pika", "aiormq", "pamqp")


def cpu_model(cpuinfo: str | None = None) -> str:
    """As the processor calls itself."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def keep_to_cores(count: int) -> None:
    """Let this process, and all that it starts, the servers too, have no more than so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def without_places(text: str) -> str:
    """What a program said, without folders, addresses and names of hosts: of a path its last part stays."""
    text = re.sub(r"(?:/[\w.@+~-]+)+/|(?<![\w.])/(?=\w)", "", text)
    text = re.sub(r"\b\d+\.\d+\.\d+\.\d+(?::\d+)?\b", "the server", text)
    return re.sub(r"(?<=\w)@[\w.-]+", "", text)


def versions(rabbitmq: RabbitMQServer, redis: RedisServer) -> Mapping[str, str]:
    """Of everything that is compared and of what it stands on."""
    connection = RawRedis(redis.port)
    told = connection.command("INFO", "server")
    connection.close()
    lines = told.decode().splitlines() if isinstance(told, bytes) else []
    known = {
        "python": platform.python_version(),
        **{name: version(name) for name in OURS},
        "rabbitmq": rabbitmq.control("version").strip(),
        "erlang": rabbitmq.control("eval", "erlang:system_info(otp_release).").strip().strip('"'),
        "redis-server": next((line.partition(":")[2] for line in lines if line.startswith("redis_version:")), "?"),
    }
    for requirements in REQUIREMENTS.values():
        for requirement in requirements:
            name, _, wanted = requirement.partition("==")
            known[name.partition("[")[0]] = wanted
    return known
