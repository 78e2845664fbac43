"""A disk of a few megabytes that can be filled, for the outbox of a worker process.

Separate from the scenario, because it takes the rights of root: where no file system can be mounted, the worker's own
writes fail as on a full disk (`disk_sabotages.full_on_request`).
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import define

from torture.disk_sabotages import FULL

__all__ = ["SmallDisk", "small_disk"]

SIZE: Final = "4m"
PIECES: Final = (65_536, 4_096, 1)
"""Bytes; the last ones leave no room at all."""


@define(eq=False)
class SmallDisk:
    """It lies where the outbox does."""

    folder: Path
    is_real: bool

    @property
    def pretences(self) -> list[str]:
        """What the worker has to be told to pretend."""
        return [] if self.is_real else ["full-on-request"]

    def fill(self) -> None:
        """Leave no room."""
        ballast = self.folder / FULL
        if not self.is_real:
            ballast.touch()
            return
        with ballast.open("wb", buffering=0) as file:
            for size in PIECES:
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def empty(self) -> None:
        """Give all that was taken back."""
        (self.folder / FULL).unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount one there while inside. What it held is in the folder afterwards; nobody may use it any more."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", folder], capture_output=True, check=False
    )
    try:
        yield SmallDisk(folder, is_real=not mounted.returncode)
    finally:
        if not mounted.returncode:
            with tempfile.TemporaryDirectory() as kept:
                for path in folder.glob("*.db*"):
                    shutil.copy(path, kept)
                subprocess.run(["umount", "--lazy", folder], check=True)
                for path in Path(kept).iterdir():
                    shutil.copy(path, folder)
