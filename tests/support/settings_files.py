"""Settings files of a .NET worker that lead to the test run's servers."""

import json
from pathlib import Path
from typing import Any

from tests.support import servers
from tests.support.servers import HOST

__all__ = ["write_settings"]


def write_settings(
    folder: Path,
    vhost: str,
    *,
    rabbitmq: dict[str, Any] | None = None,
    redis: dict[str, Any] | None = None,
    jobs: tuple[str, ...] = (),
    **worker: Any,
) -> Path:
    """An `appsettings.json` of the sample worker for this vhost, with the changes; its outbox is in that folder."""
    content = {
        "Worker": {
            "WorkerId": "report-worker",
            "RabbitMQ": {"Host": HOST, "Port": servers.rabbitmq().port, "VirtualHost": vhost, **(rabbitmq or {})},
            "Redis": {
                "ConnectionString": f"{HOST}:{servers.redis().port}",
                "CancellationChannel": f"cancel-{vhost}",
                **(redis or {}),
            },
            "OfflineResilience": {"LocalStoragePath": str(folder / "worker_data")},
            **worker,
        },
        "JobConsumers": {name: {"ConsumerId": name.lower()} for name in jobs},
    }
    path = folder / "appsettings.json"
    path.write_text(json.dumps(content))
    return path
