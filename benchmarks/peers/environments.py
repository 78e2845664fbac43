"""A virtual environment for each peer, as their requirements do not go together; made once, below `build/`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["REQUIREMENTS", "ROOT", "python_of"]

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build" / "peers"

REDIS: Final = ("redis==8.1.0", "hiredis==3.5.0")
"""For those that keep in Redis how their jobs ended."""

REQUIREMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "celery": ("celery==5.7.0", "kombu==5.7.0", "amqp==5.4.2", *REDIS),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1", "pika==1.4.4", *REDIS),
    "taskiq": (
        "taskiq[uv]==0.13.0",
        "taskiq-aio-pika==0.6.1",
        "taskiq-redis==1.2.4",
        "aio-pika==10.2.1",
        "uvloop==0.23.0",
        *REDIS,
    ),
    "faststream": ("faststream[rabbit,cli]==0.7.8", "aio-pika==10.2.1", "uvloop==0.23.0"),
    "saq": ("saq[redis]==0.26.4", "typing-extensions==4.16.0"),
    "arq": ("arq==0.28.0",),
}
"""What each peer needs, with what it recommends for speed: uvloop, where its own command takes it up."""

INSTALLING: Final = 300.0
"""Seconds an installation may take."""


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which is made or renewed first; without a peer, our own.

    Raises `RuntimeError` where it cannot be made.
    """
    if not peer:
        return Path(sys.executable)
    folder = FOLDER / peer
    python, known = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS[peer])
    if not known.exists() or known.read_text() != wanted:
        uv = str(Path(sys.executable).with_name("uv"))
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS[peer])
        known.write_text(wanted)
    return python


def _run(*command: str) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALLING, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or error
        raise RuntimeError(f"the environment could not be made: {str(told).strip()[-500:]}") from error
