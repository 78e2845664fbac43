"""A process that concludes attempts as fast as it can, killed in the middle of its commits, again and again.

Separate from the scenario that starts it: it forks, and what forks must have one thread.
`python -m torture.outbox_kills FOLDER KILLS SEED [SABOTAGE]` prints what it found as JSON. Each line of the effects
file says what is certain: an attempt was `concluded`, when the disk has said so; its row was `sent`, when a broker
has it.
"""

import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NoReturn

import trio
from attrs import define, field

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.outbox.store import CONCLUDED
from milvaion_trio.ports import Confirmation, Report, ReportKind
from torture import sabotages

__all__ = ["main"]

TASKS: Final = 10
LONGEST: Final = 0.08
"""Seconds that a process has at most, from its first conclusion to its death."""
KILLS_PER_FILE: Final = 40
"""A fresh file after so many: looking through one takes longer the more it holds."""
WHOLE: Final = "."
PATIENCE: Final = 20.0
"""Seconds for a process to open the file and to conclude something."""


@define(eq=False)
class Lines:
    """The effects file: one system call for some lines. A kill may tear the last, so each has a beginning and an end.

    What a torn one would have said is unsaid: its process did nothing more.
    """

    path: Path
    _file: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, names: Sequence[str]) -> None:
        """Say this of all of them."""
        os.write(self._file, "".join(f"\n{what} {name} {WHOLE}" for name in names).encode())

    def close(self) -> None:
        """For the process that reads."""
        os.close(self._file)


@define(eq=False)
class Broker:
    """Confirms what it gets, some of it late."""

    lines: Lines
    random: random.Random

    async def publish(self, publications: Sequence[Publication]) -> list[Confirmation]:
        """Take them, or hold them up for a while. If cancelled, they are not taken."""
        await trio.sleep(self.random.choice((0.0, 0.03)))
        self.lines.write("sent", [publication.message.body.decode() for publication in publications])
        return [Confirmation.CONFIRMED] * len(publications)

    def on_blocked(self, tell: object) -> None:
        """It never is."""

    async def lost(self) -> str:
        """Never."""
        await trio.sleep_forever()
        raise AssertionError("it sleeps")


def attempt(name: str) -> AttemptKey:
    """The attempt of this name."""
    return AttemptKey(OccurrenceId(name), "1775121301", 0, 0)


async def conclude_for_ever(outbox: DiskOutbox, lines: Lines, names: Iterator[str]) -> NoReturn:
    """Conclude one attempt after the other. If cancelled, it stops."""
    name = next(names)
    await outbox.started(attempt(name))
    while True:
        publication = Publication(Message(body=name.encode(), message_id=name), "status")
        with trio.CancelScope() as at_once:
            at_once.cancel()
            await outbox.conclude(attempt(name), [Report(ReportKind.FINAL, publication, OccurrenceId(name))])
        concluded, name = name, next(names)
        await outbox.started(attempt(name))  # written behind the conclusion, or with it
        lines.write("concluded", [concluded])


async def live(path: Path, lines: Lines, life: int, seed: int) -> None:
    """The life of a process, until it is killed. If cancelled, it ends."""
    outbox = DiskOutbox(OutboxFile(path, "NORMAL", f"life {life}"))
    names = (f"{life}-{number}" for number in range(10**9))
    async with outbox.open(), trio.open_nursery() as nursery:
        lines.write("open", [f"{life}"])
        nursery.start_soon(outbox.deliver, Broker(lines, random.Random(seed)))
        for _ in range(TASKS):
            nursery.start_soon(conclude_for_ever, outbox, lines, names)


def killed(path: Path, effects: Path, life: int, chance: random.Random) -> bool:
    """Fork a process, kill it at a random moment of its work, and say whether it opened the file at all."""
    before = effects.stat().st_size if effects.exists() else 0
    seed = chance.randrange(2**32)
    child = os.fork()
    if not child:
        try:
            lines = Lines(effects)
            trio.run(live, path, lines, life, seed)
        finally:
            os._exit(1)
    give_up = time.monotonic() + PATIENCE
    has_opened = False
    while not has_opened and time.monotonic() < give_up:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
        has_opened = effects.exists() and effects.stat().st_size > before
    time.sleep(chance.uniform(0, LONGEST))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return has_opened


def look(path: Path, effects: Path) -> Iterator[tuple[str, str]]:
    """What the file and the effects file contradict each other in."""
    said: dict[str, set[str]] = {"open": set(), "concluded": set(), "sent": set()}
    for line in effects.read_text().splitlines():
        match line.split(" "):
            case [what, name, end] if end == WHOLE:
                said[what].add(name)
    looked_at = path.with_name("looked-at.db")  # or the next process would find its write-ahead log put in order
    for part in ("", "-wal"):
        looked_at.with_name(looked_at.name + part).unlink(missing_ok=True)
        if (original := path.with_name(path.name + part)).exists():
            shutil.copy(original, looked_at.with_name(looked_at.name + part))
    with closing(sqlite3.connect(looked_at)) as db:
        (integrity,) = db.execute("PRAGMA integrity_check").fetchone()
        if integrity != "ok":
            yield "whole", integrity
        rows = {body.decode() for (body,) in db.execute("SELECT body FROM report")}
        marks = {name for (name,) in db.execute("SELECT occurrence_id FROM mark WHERE state = ?", (CONCLUDED,))}
    for name in said["concluded"] - marks:
        yield "kept", f"{name} was written, and its mark is not in the file"
    for name in said["concluded"] - rows - said["sent"]:
        yield "kept", f"{name} was written, and its row is neither in the file nor with the broker"
    for name in marks - rows - said["sent"]:
        yield "one", f"{name} is marked as concluded, and its row is neither in the file nor with the broker"
    for name in (rows | said["sent"]) - marks:
        yield "one", f"the row of {name} was written, and its mark was not"
    if aside := list(path.parent.glob(f"{path.name}.corrupt-*")):
        yield "whole", f"{len(aside)} files were set aside"


def main(folder: str, kills: str, seed: str, *names: str) -> dict[str, Any]:
    """Kill so many processes, and say what was found."""
    logging.disable(logging.CRITICAL)
    for name in names:
        sabotages.install(name)
    chance = random.Random(int(seed))
    violations: list[tuple[str, str]] = []
    concluded = lives = 0
    began = time.monotonic()
    for number in range(int(kills)):
        part, life = divmod(number, KILLS_PER_FILE)
        path, effects = Path(folder) / f"{part}.outbox.db", Path(folder) / f"{part}.effects"
        lives += killed(path, effects, life, chance)
        if not path.exists() or not effects.exists():
            violations.append(("kept", f"process {number} opened no file"))
            break
        if violations := list(look(path, effects)):
            break
        if life == KILLS_PER_FILE - 1 or number == int(kills) - 1:
            concluded += effects.read_text().count("concluded ")
    return {
        "kills": number + 1,
        "opened": lives,
        "concluded": concluded,
        "seconds": round(time.monotonic() - began, 1),
        "violations": violations[:100],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
