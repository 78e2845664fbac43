"""Which Pythons this machine has: those on the path, this one, and those that pyenv keeps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find"]


def find(version: str) -> Path | None:
    """The Python of that version, e.g. `"3.12"`; `None` where there is none.

    A name on the path is believed only when it answers: pyenv puts one there for every Python it knows of, and most
    of them only say that they are not switched on.
    """
    return next((path for path in _candidates(version) if _version_of(path) == version), None)


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    for folder in os.get_exec_path():
        if found := shutil.which(f"python{version}", path=folder):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))


def _version_of(python: Path) -> str | None:
    question = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"  # a Debian one may lack venv
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
