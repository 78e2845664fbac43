"""Private RabbitMQ and Redis servers on free loopback ports.

`rabbitmq()` and `redis()` are shared by a whole test run, also by its parallel processes: the first to ask starts one.
A test that wants to hurt a server makes its own. Every server has a watchdog process that ends it, and removes its
folder, when the process ends that it was started for, however that happens.
"""

import atexit
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

__all__ = [
    "HOST",
    "RabbitMQServer",
    "RedisServer",
    "free_port",
    "is_listening",
    "new_vhost",
    "rabbitmq",
    "rabbitmq_alone",
    "redis",
    "share_in_this_run",
    "shared",
]

HOST = "127.0.0.1"
PATIENCE = 60.0
"""Seconds to start or stop: RabbitMQ needs 6 on an idle machine, and is not alone here."""
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
FIRST_VHOSTS = 10
"""At the first time, and as many again as there are already: a call of rabbitmqctl costs 0.6 s, a vhost 0.04."""
MEMORY_LIMIT, DISK_LIMIT = "0.4", "50MB"
"""RabbitMQ's own; beyond them it raises its alarms."""
FOLDER, OWNER = "MTRIO_TEST_SERVERS", "MTRIO_TEST_OWNER"
"""Environment variables by which the parallel processes of one run meet."""

_spawned: list[subprocess.Popen[bytes]] = []
"""Kept to the end, as Python warns of a process that is forgotten while it runs."""


@atexit.register
def _leave_them_to_their_watchdogs() -> None:
    for process in _spawned:
        process.returncode = process.poll() or 0  # else Python 3.13 warns of each at its very end


class Server:
    """A server process with a folder of its own; `with` starts and stops it."""

    def __init__(self, folder: Path | None = None, *, owner: int | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mtrio-server-"))
        self.folder.mkdir(exist_ok=True)
        self.port = free_port()
        self._owner = owner or os.getpid()
        self.pid = 0

    def start(self) -> None:
        """Start it, on the same port and with the same data as before, and return when it serves."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it in an orderly way and return when it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would, and return when it has ended."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it without ending it: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While inside, nothing answers."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return bool(self.pid) and _is_alive(self.pid)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, also when it is frozen, and remove its folder."""
        if self.is_running:
            self.thaw()
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if not self.is_running:
            return
        os.kill(self.pid, number)
        _until(lambda: not self.is_running, f"{type(self).__name__} did not end")

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                cwd=self.folder,  # where Erlang leaves its crash dumps
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the tests; the watchdog ends the servers
            )
        _spawned.append(process)
        return process

    def _watch(self, *pids: int) -> None:
        watchdog = Path(__file__).with_name("server_watchdog.py")
        numbers = [str(number) for number in (self._owner, *pids)]
        self._spawn([sys.executable, "-S", str(watchdog), str(self.folder), *numbers], {})


class RabbitMQServer(Server):
    """A broker with its own node name and epmd. `configuration` are lines of rabbitmq.conf."""

    def __init__(self, folder: Path | None = None, *, owner: int | None = None, configuration: str = "") -> None:
        super().__init__(folder, owner=owner)
        self._dist_port, self._epmd_port = free_port(), free_port()
        self._node = f"mtrio{self.port}@localhost"
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(configuration)
        self._environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._vhosts = 0
        self._ready_vhosts: list[str] = []

    def start(self) -> None:
        """Start it and return when it answers AMQP."""
        _require(RABBITMQ / "rabbitmq-server", "rabbitmq-server")
        # Its own epmd, as the one it would start would outlive it and be shared with others.
        self._epmd = self._spawn(["epmd", "-port", str(self._epmd_port), "-address", HOST], {})
        _until(lambda: is_listening(self._epmd_port), "epmd did not answer")
        script = self._spawn([str(RABBITMQ / "rabbitmq-server")], self._environment)
        _until(lambda: bool(_child(script.pid, "beam.smp")) or script.poll() is not None, "RabbitMQ did not start")
        self.pid = _child(script.pid, "beam.smp") or script.pid
        self._watch(self.pid, self._epmd.pid)
        _until(lambda: self._answers() or script.poll() is not None, "RabbitMQ did not answer")
        if script.poll() is not None:
            self._epmd.terminate()
            raise RuntimeError(f"RabbitMQ did not start:\n{(self.folder / 'output.log').read_text()[-3000:]}")

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it printed."""
        command = [str(RABBITMQ / "rabbitmqctl"), "--silent", "-n", self._node, *arguments]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """While inside, it takes its memory for full, and reads nothing from connections that publish."""
        with self._alarm("set_vm_memory_high_watermark", "0", MEMORY_LIMIT):
            yield

    @contextlib.contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """While inside, it takes its disk for full, with the same effect."""
        with self._alarm("set_disk_free_limit", "1000000GB", DISK_LIMIT):
            yield

    @contextlib.contextmanager
    def _alarm(self, setting: str, unreachable: str, usual: str) -> Iterator[None]:
        try:
            self.control(setting, unreachable)  # which looks at once, and tells every connection
            yield
        finally:
            self.control(setting, usual)

    def new_vhost(self) -> str:
        """A new, empty virtual host in which guest may do everything."""
        if not self._ready_vhosts:
            first = self._vhosts + 1
            self._vhosts += max(self._vhosts, FIRST_VHOSTS)
            prefix = f"test-{os.getpid()}-"
            self.control(
                "eval",
                f'[begin V = list_to_binary("{prefix}" ++ integer_to_list(N)), rabbit_vhost:add(V, <<"tests">>),'
                ' rabbit_auth_backend_internal:set_permissions(<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>,'
                f' <<"tests">>) end || N <- lists:seq({first}, {self._vhosts})].',
            )
            self._ready_vhosts = [f"{prefix}{number}" for number in range(self._vhosts, first - 1, -1)]
        return self._ready_vhosts.pop()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(8))
        return False

    def _end(self, number: signal.Signals) -> None:
        super()._end(number)
        self._epmd.terminate()
        self._epmd.wait(PATIENCE)


class RedisServer(Server):
    """A Redis that keeps nothing on disk; with a password if one is given."""

    def __init__(self, folder: Path | None = None, *, owner: int | None = None, password: str = "") -> None:
        super().__init__(folder, owner=owner)
        self._password = password

    def start(self) -> None:
        """Start it and return when it answers."""
        program = shutil.which("redis-server")
        _require(Path(program or "redis-server"), "redis-server")
        command = [str(program), "--bind", HOST, "--port", str(self.port), "--save", "", "--dir", str(self.folder)]
        if self._password:
            command += ["--requirepass", self._password]
        process = self._spawn(command, {})
        self.pid = process.pid
        self._watch(self.pid)
        _until(lambda: self._answers() or process.poll() is not None, "Redis did not answer")
        if process.poll() is not None:
            raise RuntimeError(f"Redis did not start:\n{(self.folder / 'output.log').read_text()[-3000:]}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(1) in (b"+", b"-")  # "-": it wants a password
        return False


# --- shared by a run ------------------------------------------------------------------------------------------------


def share_in_this_run() -> None:
    """Let this process, and every one it starts, use the same servers; they end with it."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = f"{tempfile.gettempdir()}/mtrio-servers-{os.getpid()}-{secrets.token_hex(4)}"
        os.environ[OWNER] = str(os.getpid())


S = TypeVar("S", bound=Server)

_rabbitmq: RabbitMQServer | None = None
_redis: RedisServer | None = None


def rabbitmq() -> RabbitMQServer:
    """The run's broker. Tests use a vhost each, and leave the broker itself alone."""
    global _rabbitmq
    _rabbitmq = _rabbitmq or shared("rabbitmq", RabbitMQServer)
    return _rabbitmq


@contextlib.contextmanager
def rabbitmq_alone() -> Iterator[RabbitMQServer]:
    """Another broker of the run, for nobody else while inside: one may hurt it, and leaves it as it was."""
    server = shared("rabbitmq-alone", RabbitMQServer)
    with (Path(os.environ[FOLDER]) / "rabbitmq-alone.use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield server


def redis() -> RedisServer:
    """The run's Redis. Tests use a channel each."""
    global _redis
    _redis = _redis or shared("redis", RedisServer)
    return _redis


def new_vhost() -> str:
    """A new, empty virtual host of the run's broker."""
    return rabbitmq().new_vhost()


def shared(name: str, kind: type[S]) -> S:
    """The run's server of that name; whoever is the first to ask starts it."""
    share_in_this_run()
    folder = Path(os.environ[FOLDER])
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = folder / f"{name}.json"
        server = kind(folder / name, owner=int(os.environ[OWNER]))
        if known.exists():
            vars(server).update(json.loads(known.read_text()))
        else:
            server.start()
            known.write_text(json.dumps({key: value for key, value in vars(server).items() if _is_plain(value)}))
    return server


# --- small parts ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port on which nothing listens, outside the range from which the system takes those of outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


def _is_plain(value: object) -> bool:
    return isinstance(value, int | str | dict)


def _require(program: Path, package: str) -> None:
    if not program.exists():
        raise RuntimeError(
            f"These tests need {package}, which is not installed: apt-get install --no-install-recommends {package}"
        )


def _until(is_so: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{problem} within {PATIENCE:g} s.")
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # take away the zombie of a child of ours
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _child(pid: int, name: str) -> int:
    """The child of that process which runs this program, 0 when there is none."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                return int(child)
    return 0


def is_listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
