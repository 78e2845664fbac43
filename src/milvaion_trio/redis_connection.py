"""A connection to Redis, for threads: it blocks, is tried once, and fails with a text that a person can act on.

redis-py's single connections are used, not its `PubSub`: that one connects again by itself, and nobody would know of
the signals that were sent in between.
"""

from collections.abc import Sequence
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.redis_address import CONNECTION_STRING, DATABASE, PASSWORD, RedisAddress, RedisHost

__all__ = ["Connection"]

MAX_REASON = 200
"""Characters; a server may write what it likes."""


class Connection:
    """Connected to one server of an address, and answered by it. `with` closes it."""

    def __init__(self, address: RedisAddress, host: RedisHost, database: int = 0) -> None:
        self.name: str = f"Redis at {host}"
        self.answer: Any = None
        """To the command it was opened with."""
        self._address = address
        self._patience = address.connect_timeout / len(address.hosts)
        # Its default tries ten times, a minute on a black hole (LIBRARIES.md 3). Its CLIENT SETINFO needs a permission
        # that a subscriber may not have.
        self._connection = (redis.SSLConnection if address.tls else redis.Connection)(
            host=host.name,
            port=host.port,
            db=database,
            username=address.username,
            password=address.password,
            socket_timeout=self._patience,
            socket_connect_timeout=self._patience,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )

    @classmethod
    def to(cls, address: RedisAddress, *command: str | bytes, answer: type, database: int = 0) -> Self:
        """A connection to the first server that answers this command with something of this type.

        Raises `LinkLost` with every server's reason when none does.
        """
        refusals: list[str] = []
        has_refused_login = has_refused_database = False
        for host in address.hosts:
            connection = cls(address, host, database)
            try:
                connection._connection.connect()  # type: ignore[no-untyped-call]
                connection.send(*command)
                connection.answer = connection._connection.read_response()
                if not isinstance(connection.answer, answer):
                    raise ValueError("it does not answer as Redis does")
            except Exception as error:  # to what is sent by something that is no Redis, the parser may raise anything
                connection.close()
                doubt = " (is it Redis that listens there?)" if _is_strange(error) else ""
                refusals.append(f"{connection.name}: {connection.reason(error)}{doubt}")
                has_refused_login |= isinstance(error, redis.AuthenticationError)
                has_refused_database |= "DB index" in str(error)
            else:
                return connection
        login = f" and {PASSWORD}" if has_refused_login else ""
        number = f" and {DATABASE}" if has_refused_database else ""
        raise LinkLost(f"{'; '.join(refusals)}; see the setting {CONNECTION_STRING}{login}{number}")

    def send(self, *command: str | bytes) -> None:
        """Send a command; its answer comes with `receive`."""
        self._connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]

    def receive(self, patience: float) -> object:
        """What the server sends next, or `None` when nothing comes within these seconds.

        What came in part is kept for the next call.
        """
        try:
            return self._connection.read_response(timeout=patience, disconnect_on_error=False)
        except redis.TimeoutError:
            return None
        except redis.ResponseError as error:  # as to a PING that this user may not send
            return error

    def run_script(self, text: str, digest: str, keys: Sequence[bytes], values: Sequence[bytes]) -> object:
        """What this Lua script returns. It is sent by its digest, and whole where the server does not have it.

        Raises `LinkLost` for an error, and when there is no answer in time: then this connection is good for nothing.
        """
        try:
            try:
                self.send("EVALSHA", digest, str(len(keys)), *keys, *values)
                return self._connection.read_response()
            except redis.exceptions.NoScriptError:
                self.send("EVAL", text, str(len(keys)), *keys, *values)
                return self._connection.read_response()
        except Exception as error:  # as in `to`
            raise LinkLost(f"{self.name}: {self.reason(error)}; see the setting {CONNECTION_STRING}") from error

    def is_stale(self) -> bool:
        """Whether the server has closed it, or said something although it was not asked."""
        try:
            return self._connection.can_read(timeout=0)
        except redis.RedisError:
            return True

    def close(self) -> None:
        """Close it; nothing happens when it is closed."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]

    def reason(self, error: Exception) -> str:
        """Why it failed, on one line. Without the password, whatever the server wrote."""
        cause = error.__cause__ or error.__context__
        if isinstance(error, redis.TimeoutError):
            text = f"no answer within {self._patience:g} s"
        elif isinstance(cause, OSError) and cause.strerror:
            text = cause.strerror
        else:
            text = str(error) or type(error).__name__
        if self._address.password:
            text = text.replace(self._address.password, "***")
        text = "".join([letter if letter.isprintable() else " " for letter in text])
        return text[:MAX_REASON].rstrip(" .")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_strange(error: Exception) -> bool:
    """Whether something listens that does not take what Redis takes."""
    cause = error.__cause__ or error.__context__
    was_reset = isinstance(cause, ConnectionResetError | BrokenPipeError) or "closed by server" in str(error)
    is_senseless = not isinstance(error, redis.RedisError) or isinstance(error, redis.InvalidResponse)
    return was_reset or (is_senseless and not isinstance(error, OSError))
