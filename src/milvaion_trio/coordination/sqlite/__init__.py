"""Coordination of one machine: a SQLite file, or memory where only one process takes part."""

from milvaion_trio.coordination.sqlite.adapter import SqliteCoordination

__all__ = ["SqliteCoordination"]
