"""A dev worker that is killed in the middle of everything goes on where it was, and its history says so."""

import json
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field
from tests.support.commands import HERE, PATIENCE, Ended, command, environment, run_command

from milvaion_trio.cli.control import Done, Enqueue, Lines, encode_request, read_answer
from milvaion_trio.cli.sockets import connected


@define(eq=False)
class Place:
    """A folder, and the dev workers that were started with it one after the other."""

    folder: Path
    _numbers: int = 0
    ids: dict[str, str] = field(factory=dict)
    """What was enqueued: the occurrence of each job and number."""

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @contextmanager
    def dev(self) -> Iterator[subprocess.Popen[str]]:
        """A dev worker that is ready; killed on leaving, if it still runs."""
        told = self.folder / f"told-{time.monotonic_ns()}"
        with told.open("w") as output:
            process = subprocess.Popen(
                command("dev", "restart_jobs:worker", "--socket", self.socket, "--data", self.data),
                cwd=HERE,
                env=environment(RESTARTS_RAN=str(self.folder / "ran")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            self.until(lambda: " ready, " in told.read_text(), process)
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE)

    def until(self, happened: object, process: subprocess.Popen[str]) -> None:
        """Return when it has happened."""
        assert callable(happened)
        deadline = time.monotonic() + PATIENCE
        while not happened():
            if process.poll() is not None or time.monotonic() > deadline:
                told = "".join(path.read_text() for path in sorted(self.folder.glob("told-*")))
                raise AssertionError(f"it did not happen; done was {self.ran}, and told:\n{told}")
            time.sleep(0.01)

    @property
    def ran(self) -> Counter[str]:
        """What the jobs wrote, and how often."""
        path = self.folder / "ran"
        return Counter(path.read_text().splitlines()) if path.exists() else Counter()

    def ended(self, kind: str) -> bool:
        """Whether all jobs of the kind have done the last thing they do."""
        wanted = [name.split()[1] for name in self.ids if name.split()[0] == kind]
        last = {"steady": "steady-ends {}", "flaky": "flaky {} 3"}.get(kind, f"{kind} {{}}")
        return all(self.ran[last.format(number)] for number in wanted)

    def all_ended(self) -> bool:
        """Whether all that was enqueued has."""
        return all(self.ended(kind) for kind in ("steady", "flaky", "hopeless", "late"))

    def enqueue(self, *jobs: tuple[str, float, float]) -> None:
        """Give it these: each a name, how long it takes, and after which delay."""
        trio.run(self._enqueue, jobs)

    async def _enqueue(self, jobs: tuple[tuple[str, float, float], ...]) -> None:
        async with connected(self.socket) as stream:
            lines = Lines(stream)
            for name, seconds, delay in jobs:
                self._numbers += 1
                data = {"number": self._numbers, "seconds": seconds}
                await lines.send(encode_request(Enqueue(job=name, data=data, delay=delay)))
                line = await lines.receive()
                assert line is not None
                answer = read_answer(line)
                assert isinstance(answer, Done)
                assert answer.occurrence_id is not None
                self.ids[f"{name} {self._numbers}"] = answer.occurrence_id

    def asked(self, *arguments: str) -> Ended:
        """A reading command, told where the history is."""
        return run_command(*arguments, "--set", f"monitor.store={self.data / 'history.db'}")


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="mt") as folder:  # short, for the socket
        yield Place(Path(folder))


def check(place: Place) -> None:
    """All of it ended as it should, and once, whatever the kills interrupted; and the history knows."""
    history = json.loads(place.asked("history", "--limit", "10000", "--json").out)
    rows = {row["occurrence_id"]: row for row in history["occurrences"]}
    for name, occurrence_id in place.ids.items():
        row = rows.pop(occurrence_id)
        expected = "Failed" if name.startswith("hopeless") else "Completed"
        assert (name, row["status"]) == (name, expected)
    ticks = {line.split()[1]: count for line, count in place.ran.items() if line.startswith("tick ")}
    assert [row for row in rows.values() if row["schedule"] != "tick"] == []
    assert {row["status"] for row in rows.values()} == {"Completed"}
    assert rows.keys() == ticks.keys()
    moments = [row["tick"] for row in rows.values()]
    assert len(set(moments)) == len(moments)
    assert sorted(moments) == list(range(min(moments), max(moments) + 1, 300))  # misfire="all": none is left out
    letters = json.loads(place.asked("dlq", "list", "--json").out)["failures"]
    hopeless = {occurrence_id for name, occurrence_id in place.ids.items() if name.startswith("hopeless")}
    assert {letter["occurrence_id"] for letter in letters} == hopeless


def test_all_ends_as_it_should_when_it_is_killed_with_work_waiting_running_retrying_and_scheduled(
    place: Place,
) -> None:
    with place.dev() as dev:
        place.enqueue(("late", 0, 1.5), ("hopeless", 0, 0), ("flaky", 0, 0), *[("steady", 0.3, 0)] * 4)
        place.until(lambda: place.ran["hopeless 2"] and place.ran["flaky 3 1"] and place.ran["steady-begins 5"], dev)
        assert not place.ran["steady-begins 6"]
        dev.kill()
        dev.wait(PATIENCE)

    with place.dev() as dev:
        place.until(place.all_ended, dev)
        ticks = sum(line.startswith("tick") for line in place.ran)
        place.until(lambda: sum(line.startswith("tick") for line in place.ran) > ticks + 1, dev)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(PATIENCE) == 0

    check(place)
    twice = {line for line, count in place.ran.items() if count > 1}
    in_that_moment = {line for line in twice if line == "flaky 3 2" or line.startswith("tick ")}
    assert twice - in_that_moment == {"steady-begins 5"}  # it ran when the process died
    assert len(in_that_moment) <= 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_all_ends_as_it_should_however_often_it_is_killed(place: Place, seed: int) -> None:
    """What ran when it was killed runs again; nothing else does, nothing is left out, nothing is told wrongly."""
    chance, kills = random.Random(seed), 8
    for _ in range(kills):
        with place.dev() as dev:
            jobs = [("late", 0, chance.uniform(0, 3)), ("hopeless", 0, 0), ("flaky", 0, 0), ("flaky", 0, 0)]
            place.enqueue(*jobs, *[("steady", chance.uniform(0, 0.1), 0.0) for _ in range(chance.randint(0, 10))])
            time.sleep(chance.uniform(0, 1.5))
            dev.kill()
            dev.wait(PATIENCE)
    with place.dev() as dev:
        place.until(place.all_ended, dev)
        time.sleep(1)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(PATIENCE) == 0

    check(place)
    again = {line: count for line, count in place.ran.items() if count > 1}
    assert sum(count - 1 for count in again.values()) <= kills * 5  # of each kind at most what can run at a time
