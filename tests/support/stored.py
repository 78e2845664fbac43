"""What the tests of the disk outbox do again and again: open, conclude, wait for the disk, be killed, send."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from tests.support.disks import disk_outbox
from tests.support.folders import new_folder
from tests.support.reports import FINAL, A, Reception, attempt, report

from milvaion_trio.disk.writer import OpenWriter, open_writer
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.store import Store

__all__ = ["FailingDisk", "Troubles", "all_sent", "conclude", "left_by_a_kill", "opened", "rows_of", "written"]

BARRIER = AttemptKey(OccurrenceId("00000000-0000-7000-8000-000000000000"), None, 0, 0)


@define(eq=False)
class Troubles:
    """What an outbox tells about its troubles, "" where one is over."""

    told: list[str] = field(factory=list)
    _news: trio.Event = field(factory=trio.Event)

    def __call__(self, text: str) -> None:
        self.told.append(text)
        self._news.set()

    @property
    def are_over(self) -> bool:
        return bool(self.told) and self.told[-1] == ""

    async def begun(self) -> str:
        """Return when there is one, and what was told. If cancelled, nothing changes."""
        await self._until(lambda: any(self.told))
        return next(filter(None, self.told))

    async def over(self) -> None:
        """Return when one was told and it is over. If cancelled, nothing changes."""
        await self._until(lambda: self.are_over)

    async def _until(self, happened: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not happened():
                self._news = trio.Event()
                await self._news.wait()


class FailingDisk:
    """Fails all that would be written while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Callable[[], Exception] | None = None
        self.tries = 0
        for name in ("write", "open"):
            monkeypatch.setattr(Store, name, self._failing(getattr(Store, name)))

    def fill(self) -> None:
        self.error = lambda: _failure(sqlite3.OperationalError("database or disk is full"), sqlite3.SQLITE_FULL)

    def break_down(self) -> None:
        self.error = lambda: _failure(sqlite3.OperationalError("disk I/O error"), sqlite3.SQLITE_IOERR)

    def mend(self) -> None:
        self.error = None

    def _failing(self, do: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if self.error is not None:
                self.tries += 1
                raise self.error()
            return do(*arguments)

        return called


def _failure(error: sqlite3.DatabaseError, code: int) -> sqlite3.DatabaseError:
    error.sqlite_errorcode = code
    return error


def rows_of(path: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    """What another process reads in the file now."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()


@asynccontextmanager
async def opened(
    path: Path, *, writer: OpenWriter = open_writer, durability: str = "NORMAL"
) -> AsyncIterator[DiskOutbox]:
    """The outbox of a new process, open."""
    outbox = disk_outbox(path, writer=writer, durability=durability)
    async with outbox.open():
        yield outbox


async def conclude(outbox: DiskOutbox, *names: str, occurrence: OccurrenceId = A, retry_count: int = 0) -> None:
    """Conclude, and wait neither for the disk nor for a broker. If cancelled, it is concluded."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await outbox.conclude(
            attempt(occurrence, retry_count), [report(FINAL, name, occurrence) for name in names or ("final",)]
        )


async def written(outbox: DiskOutbox) -> None:
    """Return when all that was handed over so far is in the file, or cannot be. If cancelled, nothing changes."""
    await outbox.started(BARRIER)
    outbox.returned(BARRIER)
    await trio.lowlevel.checkpoint()  # in which the journal hands it over
    await trio.lowlevel.checkpoint()


async def all_sent(outbox: DiskOutbox, reception: Reception | None = None) -> list[str]:
    """Send all there is, and return the names in order. If cancelled, some was sent."""
    reception = reception or Reception()
    before = len(reception.publications)
    with trio.fail_after(60):
        async with reception.delivering(outbox):
            await outbox.drained()
    return reception.names[before:]


def left_by_a_kill(path: Path) -> Path:
    """What a process that is killed now would leave: a copy, so that the one that lives does not matter any more."""
    folder = new_folder()
    for part in (path, path.with_name(path.name + "-wal")):
        if part.exists():
            shutil.copy(part, folder / part.name)
    return folder / path.name
