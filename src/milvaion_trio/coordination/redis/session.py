"""The connection to Redis that all requests of a process share; it blocks, and is made again when it is needed.

Separate from the adapter, which lives in Trio's thread and knows what is asked.
"""

from collections.abc import Sequence

from attrs import define, field

from milvaion_trio.coordination.redis.scripts import Script
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.redis_address import RedisAddress
from milvaion_trio.redis_connection import Connection

__all__ = ["Session"]


@define(eq=False)
class Session:
    """Used by one thread at a time."""

    address: RedisAddress
    database: int
    probe: str
    """A key that nobody sets. To delete it is refused by a server that only follows another one."""
    _connection: Connection | None = field(default=None, init=False)

    def run(self, script: Script, keys: Sequence[bytes], values: Sequence[bytes]) -> object:
        """What the script returns; raises `LinkLost` when there is no answer, or it is an error."""
        if self._connection is not None and self._connection.is_stale():
            self.close()  # while nothing was asked, as by a server that was started again
        if self._connection is None:
            self._connection = Connection.to(self.address, "DEL", self.probe, answer=int, database=self.database)
        try:
            return self._connection.run_script(script.text, script.digest, keys, values)
        except LinkLost:
            # Also after an error: the server may be the wrong one by now. And an answer that comes too late must not be
            # taken for that of the next request.
            self.close()
            raise

    def close(self) -> None:
        """Close it; nothing happens when it is closed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
