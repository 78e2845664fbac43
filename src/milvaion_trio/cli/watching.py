"""Which files of a project are its code and its settings, and waiting until they change.

Only these count: a job that writes its results into the project must not restart the worker that runs it.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from milvaion_trio.cli.failures import CommandFailed, UsageError

if TYPE_CHECKING:
    from watchfiles import Change

__all__ = ["check_watchable", "is_relevant", "watch"]

SETTINGS_FILES = ("appsettings*.json", "milvaion.toml", "pyproject.toml")
NOT_OURS = frozenset(
    {
        ".git", ".hg", ".svn", ".idea", ".venv", "venv", ".tox", ".nox", "site-packages", "node_modules", "__pycache__",
        ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "worker_data",
    }
)  # fmt: skip
"""Folders with no code of the project's own. `site-packages` stands for virtual environments of any name."""

QUIET_MS = 100
"""Changes that follow each other faster are one: an editor writes several files, a checkout many."""
TIMEOUT_MS = 200
"""How long the watching thread may be deaf to its end; the library's own 5 s would have to be waited for."""


def check_watchable(folders: Sequence[Path]) -> None:
    """Raise `UsageError` when the library is missing, or a folder."""
    try:
        import watchfiles  # noqa: F401 - asked for here, before anything is started
    except ImportError as error:
        raise UsageError(
            "--reload needs the package watchfiles, which is not installed: pip install 'milvaion-trio[reload]'"
        ) from error
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--reload-dir {folder}: there is no such folder.")


def is_relevant(path: Path, folders: Sequence[Path], settings: Path | None = None) -> bool:
    """Whether a file is code or settings in one of the folders, or `settings`, the file that `--config` names."""
    if path == settings:
        return True
    for folder in folders:
        if path.is_relative_to(folder) and not NOT_OURS.intersection(path.relative_to(folder).parts[:-1]):
            # Editors write beside a file before they replace it: .jobs.py.swp, .#jobs.py.
            is_code = path.suffix == ".py" and not path.name.startswith(".")
            return is_code or _has_settings_name(path)
    return False


def _has_settings_name(path: Path) -> bool:
    return any(path.match(pattern) for pattern in SETTINGS_FILES)


async def watch(
    folders: Sequence[Path],
    settings: Path | None,
    changed: Callable[[list[Path]], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` with the files that have changed, whenever some have; started as soon as no change is missed.

    Those are code and settings in the folders; and wherever these are, the file that `--config` names, and what has the
    name of a settings file beside it or in the current folder.
    All paths are absolute and without symbolic links, as the system names what has changed.
    Raises `CommandFailed` when the system does not let it. If cancelled, it ends within 0.2 s.
    """

    def is_setting(path: Path) -> bool:
        return path == settings or _has_settings_name(path)

    others = {Path.cwd().resolve(), *([] if settings is None else [settings.parent])}
    # What is not there cannot be watched; the worker tells that its settings are missing.
    others = {each for each in others if each.is_dir() and not any(map(each.is_relative_to, folders))}
    async with trio.open_nursery() as nursery:
        await nursery.start(_look, folders, lambda path: is_relevant(path, folders, settings), changed)
        if others:  # not what lies deeper: whoever names folders may have much in the current one
            await nursery.start(partial(_look, recursive=False), list(others), is_setting, changed)
        task_status.started()


async def _look(
    folders: Sequence[Path],
    is_wanted: Callable[[Path], bool],
    changed: Callable[[list[Path]], None],
    *,
    recursive: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` with the wanted files of these folders. Raises, starts and ends as `watch` does."""
    from watchfiles import awatch

    def passes(_: "Change", path: str) -> bool:
        return is_wanted(Path(path))

    # Its first time-out, which is yielded as an empty set, says that it watches.
    looks = awatch(
        *folders,
        watch_filter=passes,
        step=QUIET_MS,
        rust_timeout=TIMEOUT_MS,
        yield_on_timeout=True,
        recursive=recursive,
    )
    has_begun = False
    try:
        async with aclosing(looks):
            async for changes in looks:
                if not has_begun:
                    has_begun = True
                    task_status.started()
                if changes:
                    changed(sorted({Path(path) for _, path in changes}))
    except (OSError, RuntimeError) as error:  # too many files for the system, or a folder that is gone
        raise CommandFailed(f"The files cannot be watched: {error}") from error
