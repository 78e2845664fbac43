"""Folders for what workers and stores of the tests write; nothing of them is left when the process has ended."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["new_folder"]


def new_folder() -> Path:
    """An empty folder that is nobody else's."""
    return Path(tempfile.mkdtemp(dir=_of_this_process()))


@cache
def _of_this_process() -> Path:
    folder, owner = Path(tempfile.mkdtemp(prefix="mtrio-tests-")), os.getpid()

    @atexit.register
    def _remove() -> None:
        if os.getpid() == owner:  # a fork of it may end earlier
            shutil.rmtree(folder, ignore_errors=True)

    return folder
