"""What this process has put off: until when some of it may still be on its way back to a queue.

Separate because retries and clients put off, and `idling` asks: a broker does not say for whom a message waits.
"""

import math
import threading
import time

from attrs import define, field

__all__ = ["PutOff"]

LATE = 5.0
"""Seconds after its time for which a message is waited for: a broker rounds up to a whole second, and may be busy.

What comes later is left in the broker, for whoever consumes the queue then.
"""


@define(eq=False)
class PutOff:
    """One moment is enough: the last.

    By `time.monotonic()`, since clients put off from other runs of Trio too, each with a clock of its own.
    """

    _until: float = field(default=-math.inf, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def note(self, delay: float) -> None:
        """A message was published that comes back after so many seconds; 0 is no delay. From any thread."""
        if delay > 0:
            with self._lock:
                self._until = max(self._until, time.monotonic() + delay + LATE)

    @property
    def may_come(self) -> bool:
        """Whether some of it may still be on its way."""
        return time.monotonic() < self._until
