"""What can happen to the file of an outbox: garbled, cut, overwritten, swapped, taken away.

Separate from the scenario, which says when: here is what, each kind a function of the file and of chance.
"""

import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

__all__ = ["KINDS", "put_in_order"]

PAGE: Final = 4_096
GARBAGE: Final = 512


def put_in_order(path: Path) -> None:
    """Move what is in the write-ahead log into the file, as a checkpoint does from time to time."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def texts(path: Path, chance: random.Random) -> None:
    """Garble digits in what is to be sent, which SQLite cannot tell from other digits."""
    put_in_order(path)
    data = path.read_bytes()
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
        for (body,) in db.execute("SELECT body FROM report").fetchall():
            number = chance.randrange(10)
            data = data.replace(body, body.replace(b"%d" % number, b"%d" % (9 - number)))
    path.write_bytes(data)


def marks(path: Path, chance: random.Random) -> None:
    """Garble digits of what is known of attempts."""
    put_in_order(path)
    data = path.read_bytes()
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
        for (text,) in db.execute("SELECT DISTINCT occurrence_id FROM mark").fetchall():
            number = chance.randrange(10)
            garbled = text.replace(f"{number}", f"{9 - number}").encode()
            data = data.replace(text.encode(), garbled)
    path.write_bytes(data)


def header(path: Path, chance: random.Random) -> None:
    """Overwrite the first bytes."""
    put_in_order(path)
    _overwrite(path, 0, chance.randbytes(100))


def garbage(path: Path, chance: random.Random) -> None:
    """Overwrite some bytes anywhere."""
    put_in_order(path)
    _overwrite(path, chance.randrange(max(1, path.stat().st_size - GARBAGE)), chance.randbytes(GARBAGE))


def page(path: Path, chance: random.Random) -> None:
    """Empty one page, as a block that was never written does."""
    put_in_order(path)
    _overwrite(path, PAGE * chance.randrange(max(1, path.stat().st_size // PAGE)), bytes(PAGE))


def cut(path: Path, chance: random.Random) -> None:
    """Cut the file off."""
    put_in_order(path)
    _cut(path, chance)


def wal_cut(path: Path, chance: random.Random) -> None:
    """Cut the write-ahead log off: what was written last was not, as after a loss of power."""
    if (wal := path.with_name(path.name + "-wal")).exists():
        _cut(wal, chance)


def wal_garbage(path: Path, chance: random.Random) -> None:
    """Overwrite some bytes of the write-ahead log."""
    if (wal := path.with_name(path.name + "-wal")).exists():
        _overwrite(wal, chance.randrange(max(1, wal.stat().st_size)), chance.randbytes(GARBAGE))


def wal_gone(path: Path, chance: random.Random) -> None:
    """Take the write-ahead log away, as a copy that forgot it."""
    path.with_name(path.name + "-wal").unlink(missing_ok=True)


def foreign(path: Path, chance: random.Random) -> None:
    """Put somebody else's database there."""
    gone(path, chance)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE guests (name)")


def no_database(path: Path, chance: random.Random) -> None:
    """Put something else there."""
    path.write_bytes(chance.randbytes(20_000))


def empty(path: Path, chance: random.Random) -> None:
    """Leave nothing of it but its name."""
    path.write_bytes(b"")


def gone(path: Path, chance: random.Random) -> None:
    """Take all of it away."""
    for part in path.parent.glob(f"{path.name}*"):
        if part.suffix in {".db", ".db-wal", ".db-shm"}:
            part.unlink()


def earlier(path: Path, chance: random.Random) -> None:
    """Put an earlier state of it back, as somebody does who restores a backup."""
    kept = path.with_name("backup")
    if kept.exists():
        gone(path, chance)
        shutil.copy(kept, path)
    else:
        put_in_order(path)
        shutil.copy(path, kept)


KINDS: Final[Mapping[str, Callable[[Path, random.Random], None]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        texts,
        header,
        wal_cut,
        garbage,
        page,
        cut,
        marks,
        wal_garbage,
        wal_gone,
        foreign,
        no_database,
        empty,
        gone,
        earlier,
    )
}


def _cut(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(chance.randrange(max(1, path.stat().st_size)))


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
