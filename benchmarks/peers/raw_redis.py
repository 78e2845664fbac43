"""Redis over a blocking socket, as little as the harness needs: what a client of Redis costs is in nobody's figures."""

import socket

from benchmarks.peers.raw import HOST, PATIENCE

__all__ = ["RawRedis"]


class RawRedis:
    """One connection. What is wrong raises `OSError`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """Leave without a word."""
        self._file.close()
        self._socket.close()

    def command(self, *words: str | bytes) -> bytes | int | list[bytes]:
        """Send a command and return its answer."""
        self.send(*words)
        return self.answer()

    def send(self, *words: str | bytes) -> None:
        """Send a command; `answer` reads what comes of it."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))

    def answer(self) -> bytes | int | list[bytes]:
        """What the oldest command without an answer returned."""
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b":":
                return int(rest)
            case b"$":
                return self._file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else b""
            case b"*":
                return [word for word in (self.answer() for _ in range(int(rest))) if isinstance(word, bytes)]
        raise OSError(f"Redis answered {line[:200]!r}")
