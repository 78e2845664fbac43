"""Where a dev worker and the commands of a second terminal meet: a Unix socket that only its user can reach.

Separate from the protocol because this is about files, permissions and who was here before.
"""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from milvaion_trio.cli.failures import CommandFailed

__all__ = ["NobodyListens", "connected", "listening", "socket_place", "socket_places"]

LONGEST_PATH = 100
"""Bytes: the system's structure for socket addresses has room for 104 (BSD) or 108 (Linux) with the closing NUL."""


class NobodyListens(CommandFailed):
    """There is no dev worker at this place."""


def socket_place(given: Path | None) -> Path:
    """The socket's path: as given, else that of this folder, in the directory of this user's runtime files."""
    path = _runtime_directory() / _name_of(os.path.realpath(os.curdir)) if given is None else given.absolute()
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise CommandFailed(f"The path of a socket may have {LONGEST_PATH} bytes; this one is longer: {path}")
    return path


def socket_places() -> list[Path]:
    """Those of this user's dev workers of any folder, dead ones too; but for those that were given a path."""
    return sorted(_runtime_directory().glob(_name("*")))


def _name_of(folder: str) -> str:
    # In the folder itself the path could be too long, or on a file system without sockets.
    return _name(hashlib.blake2s(os.fsencode(folder), digest_size=4).hexdigest())


def _name(part: str) -> str:
    return f"dev-{part}.sock"


def _runtime_directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    # Containers and `su` keep the variable of a session whose directory is gone, or never was.
    if base and Path(base).is_dir():
        return Path(base) / "milvaion-trio"
    return Path(tempfile.gettempdir()) / f"milvaion-trio-{os.getuid()}"


# --- the worker's side ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(path: Path, *, given: bool) -> AsyncIterator[trio.SocketListener]:
    """Listen on the socket while the context is open; it is removed afterwards.

    A socket that a dead worker left is replaced. Raises `CommandFailed` where a living one listens, or where the path
    cannot be used. If cancelled, the socket is removed.
    """
    if not given:
        _make_private(path.parent)
    await _clear(path)
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as socket:
        before = os.umask(0o177)  # a socket is born with its permissions; chmod would come too late
        try:
            await socket.bind(os.fspath(path))
        except OSError as error:
            raise CommandFailed(f"No socket can be made at {path}: {error.strerror}.") from error
        finally:
            os.umask(before)
        own = _identity(path)
        socket.listen()
        try:
            yield trio.SocketListener(socket)
        finally:
            if _identity(path) == own:  # else another worker has replaced it
                _remove(path)


def _make_private(directory: Path) -> None:
    """Make the directory; where it exists, it must be this user's alone, for in /tmp anybody could have made it."""
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    except OSError as error:
        raise CommandFailed(
            f"The directory {directory} cannot be made: {error.strerror}. Name another place: --socket PATH."
        ) from error
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CommandFailed(
            f"{directory} is not a directory that only you can enter, so others could send jobs to your worker. "
            "Remove it, or name another place: --socket PATH."
        )


async def _clear(path: Path) -> None:
    """Remove what a dead worker left."""
    if _identity(path) is None:
        return
    if not await trio.Path(path).is_socket():
        raise CommandFailed(f"{path} is no socket, so it was left alone. Name another place: --socket PATH.")
    try:
        stream = await trio.open_unix_socket(path)
    except ConnectionRefusedError:
        _remove(path)
        return
    except OSError as error:
        raise CommandFailed(f"The socket {path} cannot be used: {error.strerror}.") from error
    await trio.aclose_forcefully(stream)
    raise CommandFailed(
        f"Another dev worker listens on {path}. Stop it with Ctrl-C there, or give this one a place of its own with "
        "--socket PATH, and the commands for it the same."
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file the path names now; `None` when there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandFailed(f"The socket {path} cannot be used: {error.strerror}.") from error
    return found.st_dev, found.st_ino


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


# --- the other side -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[trio.abc.Stream]:
    """A connection to the dev worker; raises `NobodyListens` when there is none. If cancelled, it is closed."""
    try:
        stream = await trio.open_unix_socket(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise CommandFailed(f"The socket {path} cannot be used: {error.strerror}.") from error
        raise NobodyListens(
            f"No dev worker listens on {path}. Start one in another terminal: milvaion-trio dev MODULE:WORKER"
        ) from error
    async with stream:
        yield stream
