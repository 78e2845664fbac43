"""One round's place: a store with its jobs, a folder, the worker's processes and the marks they leave.

Separate from what is measured there: throughput, latency and growth each play on a fresh stage, and whatever happens,
its processes end with it.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define, field
from benchmarks.peers import processes
from benchmarks.peers.environments import ROOT, python_of
from benchmarks.peers.programs.told import Told, written
from benchmarks.peers.roster import PROGRAMS, Entry
from benchmarks.peers.stores import RabbitMQStore, RedisStore, States, Store
from tests.support import server_watchdog
from tests.support.servers import RabbitMQServer, RedisServer

__all__ = ["Ground", "RoundFailed", "Stage"]

BODY = 580
"""Bytes of a message's body, which is what a dispatch of Milvaion has; the text in it makes up the difference."""
WATCHDOG = Path(server_watchdog.__file__)
ENQUEUING = 60.0
"""Seconds a peer's program may take to enqueue."""


class RoundFailed(Exception):
    """A round gave no figures; the text says why."""


@define(eq=False)
class Stage:
    """An entry's place in one round; made by `Ground.stage`."""

    entry: Entry
    store: Store
    python: Path
    folder: Path
    deadline: float
    """On the monotonic clock; then the round has failed."""
    states: States | None = None
    """Where it keeps how its jobs ended."""
    told: Told = field(factory=Told)
    length: int = 0
    """Characters of the text in each job."""
    worker: subprocess.Popen[bytes] | None = None
    """Its first process, once it is started."""
    started_ns: int = 0
    _watchdog: subprocess.Popen[bytes] | None = field(default=None, init=False)
    """Ends the worker if the harness is killed."""

    def enqueue(self, count: int, **environment: str) -> None:
        """Have the peer's own program enqueue so many jobs."""
        command = [str(self.python), "-m", f"{PROGRAMS}.{self.entry.program}", str(count), str(self.length)]
        done = subprocess.run(
            command,
            env={**self._environment(), "BENCH_MARKS": os.devnull, "BENCH_ENQUEUE": "1", **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=ENQUEUING,
            check=False,
        )
        if done.returncode:
            raise RoundFailed(f"enqueueing failed: {_last_words(done.stderr)}")

    def fill(self, count: int) -> None:
        """Have so many jobs in the queue."""
        self.store.fill(count, self.enqueue)

    def start(self) -> None:
        """Start the worker."""
        self.started_ns = time.monotonic_ns()
        with (self.folder / "log.txt").open("ab") as log:
            worker = subprocess.Popen(
                [*self._to_its_cores(), str(self.python), *self.entry.worker],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the harness, which ends it
            )
        self.worker = worker
        watch = [str(WATCHDOG), str(self.folder), str(os.getpid()), str(worker.pid)]
        self._watchdog = subprocess.Popen([sys.executable, "-S", *watch], stdin=subprocess.DEVNULL)

    @property
    def family(self) -> list[int]:
        """The worker's processes."""
        return processes.family(self.worker.pid) if self.worker is not None else []

    @property
    def servers(self) -> list[int]:
        """The processes of the servers that it asks something of."""
        return [self.store.pid, *([] if self.states is None else [self.states.pid])]

    @property
    def count(self) -> int:
        """Jobs that have run."""
        try:
            return self._marks.stat().st_size // 8
        except FileNotFoundError:
            return 0

    def marks(self) -> list[int]:
        """When each of them did."""
        data = self._marks.read_bytes()
        return list(struct.unpack(f"<{len(data) // 8}q", data[: len(data) // 8 * 8]))

    def until(self, count: int) -> None:
        """Return when so many jobs have run. Raises `RoundFailed` when they do not."""

        def has_ended() -> bool:
            return self.worker is None or self.worker.poll() is not None

        processes.until(lambda: self.count >= count or has_ended(), self.deadline)
        if self.count < count:
            why = "the worker ended" if has_ended() else "the time was over"
            raise RoundFailed(f"{why} after {self.count} of {count} jobs; {self.last_words()}")

    def end(self) -> bool:
        """End the worker, if one runs; whether it left by itself."""
        worker, self.worker = self.worker, None
        if worker is None:
            return True
        left = processes.end(worker)
        if self._watchdog is not None:
            self._watchdog.wait()  # it ends with what it watches
        return left

    def kill(self) -> None:
        """End it as a crash would: the broker then takes all back at once."""
        if self.worker is not None:
            self.worker.kill()
        self.end()

    def last_words(self) -> str:
        """The end of what the worker wrote."""
        log = self.folder / "log.txt"
        return _last_words(log.read_text(errors="replace") if log.exists() else "")

    def _to_its_cores(self) -> tuple[str, ...]:
        """What the command line begins with."""
        return ("taskset", "-c", str(max(os.sched_getaffinity(0)))) if self.entry.is_on_one_core else ()

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    def _environment(self) -> Mapping[str, str]:
        ours = {
            "PYTHONPATH": str(ROOT),
            "BENCH_URL": self.store.url,
            "BENCH_STATES": "" if self.states is None else self.states.url,
            "BENCH_MARKS": str(self._marks),
            "BENCH_PORT": str(self.told.port),
            "BENCH_VHOST": self.told.vhost,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {**kept, **ours, **written(self.told), **self.entry.environment}


@define(eq=False)
class Ground:
    """The private servers of a run, on which all rounds are played."""

    rabbitmq: RabbitMQServer
    redis: RedisServer
    patience: float = 90.0
    """Seconds a round may take."""
    _lengths: dict[str, int] = field(factory=dict, init=False)

    @contextmanager
    def stage(self, entry: Entry, **told: object) -> Iterator[Stage]:
        """A fresh one, ended and removed on leaving. Raises `RoundFailed` for whatever goes wrong on it."""
        try:
            python = python_of(entry.peer)
        except RuntimeError as error:
            raise RoundFailed(str(error)) from error
        folder = Path(tempfile.mkdtemp(prefix="mtrio-peers-"))
        store: Store | None = None
        states: States | None = None
        stage: Stage | None = None
        try:
            store = self._store(entry)
            states = States(self.redis) if entry.keeps_states else None
            facts = {"port": self.rabbitmq.port, "vhost": store.vhost, "driver": entry.driver or Told().driver}
            facts |= {"is_reported": entry.is_reported, "storage": str(folder / "storage"), **told}
            stage = Stage(entry, store, python, folder, time.monotonic() + self.patience, states, Told(**facts))  # type: ignore[arg-type]  # values of Told, by name
            stage.length = self._length(stage)
            yield stage
        except RoundFailed:
            raise
        except Exception as error:  # whatever it is, the other rows are still worth playing
            raise RoundFailed(f"{type(error).__name__}: {error}") from error
        finally:
            if stage is not None:
                stage.end()
            for opened in (store, states):
                if opened is not None:
                    with suppress(Exception):  # then it stays behind, on a server that is removed anyway
                        opened.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _store(self, entry: Entry) -> Store:
        if entry.store == "rabbitmq":
            return RabbitMQStore(self.rabbitmq, entry.queue, entry.queue_type)
        return RedisStore(self.redis, entry.store)

    def _length(self, stage: Stage) -> int:
        """So many characters as make the message's body as long as everybody's, found once for each entry."""
        program = stage.entry.program
        if program not in self._lengths:
            self._lengths[program] = max(0, BODY - stage.store.weigh(stage.enqueue))
        return self._lengths[program]


def _last_words(text: str) -> str:
    """Of a log that may be long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-400:] or "it wrote nothing"
