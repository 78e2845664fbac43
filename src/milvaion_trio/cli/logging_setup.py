"""Logging, set up once per process, for programs that have no set-up of their own.

Only the command line does this: a library leaves logging to its host.
"""

import json
import logging
import time
from typing import Literal, TypeAlias

__all__ = ["LogFormat", "LogLevelName", "set_up_logging"]

LogFormat: TypeAlias = Literal["text", "json"]
LogLevelName: TypeAlias = Literal["debug", "info", "warning", "error"]


def set_up_logging(level: LogLevelName = "info", log_format: LogFormat = "text", process: int | None = None) -> None:
    """Send the log records of the program to stderr, one line each; of several processes each says which it is."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(process) if log_format == "json" else _Text(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Text(logging.Formatter):
    """Date, level, logger and message in columns; times in UTC, as in the messages on the wire."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self, process: int | None) -> None:
        which = "" if process is None else f"[{process}]"
        super().__init__(f"%(asctime)s %(levelname)-7s %(name)s{which}: %(message)s")
        self._process = process


class _JsonLines(_Text):
    """The same facts as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._process is not None:
            facts["process"] = self._process
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)
