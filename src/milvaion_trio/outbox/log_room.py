"""Room for the logs of jobs, the only reports that are ever dropped: told when that begins and when it is over."""

import logging

from attrs import define, field

__all__ = ["LogRoom"]

_log = logging.getLogger("milvaion_trio.outbox")


@define(eq=False)
class LogRoom:
    """Counts the log rows that found no room."""

    dropped: int = field(default=0, init=False)
    _is_dropping: bool = field(default=False, init=False)

    def let(self, *, has_room: bool, limit: str) -> bool:
        """Whether a log row is taken; not each drop is told, only the first."""
        if has_room:
            if self._is_dropping:
                self._is_dropping = False
                _log.warning("outbox takes job logs again: dropped so far=%d", self.dropped)
            return True
        self.dropped += 1
        if not self._is_dropping:
            self._is_dropping = True
            _log.error("outbox is full of job logs, new ones are dropped: limit=%s", limit)
        return False
