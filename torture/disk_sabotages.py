"""Defects to order that concern the outbox on disk; see `torture.sabotages`, which lists them with the others."""

import importlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torture.wrapping import replace

__all__ = ["DISK_SABOTAGES", "FULL", "PRETENCES"]

OUTBOX: Final = "milvaion_trio.outbox"
FULL: Final = "full"
"""The name of a file beside the outbox: while it is there, a disk that `full-on-request` watches is full."""


def marks_apart() -> None:
    """Write what is concluded in one transaction, and what must be sent for it in another one."""

    def make(write: Callable[..., None]) -> Callable[..., None]:
        def wrong(store: Any, reports: Any, marks: Any, forgotten: Any) -> None:
            rows = list(reports)
            if marks:
                write(store, (), marks, ())
            if rows or forgotten:
                write(store, rows, {}, forgotten)

        return wrong

    replace(f"{OUTBOX}.store:Store.write", make)


def told_early() -> None:
    """Say that a start is written as soon as it is handed over."""

    def make(mark: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(journal: Any, *what: Any) -> Any:
            batch = mark(journal, *what)
            batch.tried.set()
            return batch

        return wrong

    replace(f"{OUTBOX}.journal:Journal.mark", make)


def no_paging() -> None:
    """Keep everything in memory."""
    disk: Any = importlib.import_module(f"{OUTBOX}.disk")
    disk.HEAD_ROWS = disk.HEAD_BYTES = 10**12


def newest_first() -> None:
    """Put each page that is read into the queue from its end."""

    def make(page: Callable[..., None]) -> Callable[..., None]:
        return lambda outbox, found: page(outbox, list(reversed(found)))

    replace(f"{OUTBOX}.disk:DiskOutbox._page", make)


def damage_is_waited_for() -> None:
    """Take a damaged file for one that cannot be read at the moment."""
    replace(f"{OUTBOX}.file:_is_damage", lambda _: lambda error: False)


def unchecked() -> None:
    """Believe what is read, as long as SQLite does."""
    replace(f"{OUTBOX}.store:_checksum", lambda _: lambda *columns: 0)


def silent_trouble() -> None:
    """Tell nobody that the disk is full."""
    replace(f"{OUTBOX}.journal:Journal.on_trouble", lambda _: lambda journal, tell: None)


def trouble_drops() -> None:
    """Drop what cannot be written."""

    def make(in_trouble: Callable[..., None]) -> Callable[..., None]:
        def wrong(journal: Any, error: Exception, unwritten: Any = None) -> None:
            if unwritten is not None:
                unwritten.rows.clear()
            in_trouble(journal, error, unwritten)

        return wrong

    replace(f"{OUTBOX}.journal:Journal._in_trouble", make)


def no_second_try() -> None:
    """Never write again to a disk that was full once."""

    async def wait(*_: Any) -> None:
        trio = importlib.import_module("trio")
        await trio.sleep_forever()

    replace(f"{OUTBOX}.journal:Journal._mend_when_troubled", lambda _: wait)


def full_on_request() -> None:
    """A disk that is full when asked, where no small one can be mounted."""

    def make(write: Callable[..., None]) -> Callable[..., None]:
        def full(store: Any, *batch: Any) -> None:
            if (Path(store.path).parent / FULL).exists():
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            write(store, *batch)

        return full

    replace(f"{OUTBOX}.store:Store.write", make)


DISK_SABOTAGES: Final[Mapping[str, Callable[[], None]]] = {
    "marks-apart": marks_apart,
    "told-early": told_early,
    "no-paging": no_paging,
    "newest-first": newest_first,
    "damage-is-waited-for": damage_is_waited_for,
    "unchecked": unchecked,
    "silent-trouble": silent_trouble,
    "trouble-drops": trouble_drops,
    "no-second-try": no_second_try,
}

PRETENCES: Final[Mapping[str, Callable[[], None]]] = {"full-on-request": full_on_request}
"""No defects of the library, but of the world around it."""
