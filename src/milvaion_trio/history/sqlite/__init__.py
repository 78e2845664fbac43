"""A history in one SQLite file: written by one monitor, read meanwhile by commands in other processes."""

from milvaion_trio.history.sqlite.store import SQLiteHistory

__all__ = ["SQLiteHistory"]
