"""A private server that speaks MongoDB's protocol, shared by a test run; each test has a database of its own.

It comes from the package index, so that nobody needs MongoDB installed for the tests. Its wheels are for some platforms
only: where there is none, what needs it is skipped and says so.
"""

import importlib.util
import secrets
import sys

import pytest
from tests.support.servers import HOST, Server, _until, is_listening, shared

__all__ = ["MongoDBServer", "mongodb", "new_address", "own_server"]


class MongoDBServer(Server):
    """Keeps its data in its folder."""

    def start(self) -> None:
        """Start it and return when it takes connections."""
        command = [sys.executable, "-m", "secantus", "--host", HOST, "--port", str(self.port)]
        command += ["--storage-path", str(self.folder / "data"), "--cache-size", "128M", "--log-level", "ERROR"]
        process = self._spawn(command, {})
        self.pid = process.pid
        self._watch(self.pid)
        _until(lambda: is_listening(self.port) or process.poll() is not None, "The MongoDB server did not answer")
        if process.poll() is not None:
            raise RuntimeError(f"It did not start:\n{(self.folder / 'output.log').read_text()[-3000:]}")


def mongodb() -> MongoDBServer:
    """The run's server."""
    _require_it()
    return shared("mongodb", MongoDBServer)


def own_server() -> MongoDBServer:
    """One to hurt; `with` starts and stops it."""
    _require_it()
    return MongoDBServer()


def new_address(server: MongoDBServer | None = None) -> str:
    """The address of a new, empty database."""
    return f"mongodb://{HOST}:{(server or mongodb()).port}/history-{secrets.token_hex(4)}"


def _require_it() -> None:
    if importlib.util.find_spec("secantus") is None or importlib.util.find_spec("pymongo") is None:
        pytest.skip("the package secantusdb, a server that speaks MongoDB's protocol, has no wheel for this platform")
