"""Programs of this package that run as processes of their own and print what they found.

Separate from worker processes, which have names, restarts and logs: these run once, and say one thing.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import trio

__all__ = ["in_own_process"]

PROJECT: Final = Path(__file__).parents[1]


async def in_own_process(program: str, *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a program and return what it prints as JSON; raises `RuntimeError` unless it ends with this code.

    If cancelled, it is killed.
    """
    command = [sys.executable, "-m", program, *map(str, arguments)]
    done = await trio.run_process(
        command, cwd=PROJECT, check=False, capture_stdout=True, capture_stderr=True, stdin=subprocess.DEVNULL
    )
    if done.returncode != code:
        raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stderr.decode()[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
