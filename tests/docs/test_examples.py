"""What the README and the documentation show runs."""

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from tests.docs.markdown import PAGES, ROOT, blocks, module_of, shown
from tests.support import servers
from tests.support.commands import forked_program
from tests.support.tls_servers import tls_rabbitmq

OURS = "MILVAION_TRIO__"

PATIENCE = 120.0
"""Seconds until a program that should have answered is given up: long, as machines that run tests are busy."""

TLS = ROOT / "docs" / "how-to" / "connect-to-rabbitmq-over-tls.md"
"""Its files of certificates are there before it begins, and its server speaks TLS."""

WALKS = (
    ROOT / "README.md",
    ROOT / "docs" / "tutorial" / "first-worker.md",
    ROOT / "docs" / "tutorial" / "scheduled-report.md",
    ROOT / "docs" / "how-to" / "join-a-cluster.md",
    ROOT / "docs" / "how-to" / "configure.md",
    TLS,
    ROOT / "docs" / "how-to" / "keep-a-history.md",
    ROOT / "docs" / "how-to" / "keep-reports-on-disk.md",
    ROOT / "docs" / "how-to" / "migrate-from-the-dotnet-sdk.md",
    ROOT / "docs" / "how-to" / "run-cpu-and-asyncio-code.md",
    ROOT / "docs" / "how-to" / "run-many-short-jobs.md",
    ROOT / "docs" / "how-to" / "run-on-several-cores.md",
)
"""Pages whose blocks are files to write and commands to type, one after the other, in one empty folder."""

WALKED_AS_INSTALLED = WALKS[:1]
"""The page on which every command is started as its reader starts it; on the others it is forked, which is cheaper."""

WALKED_ELSEWHERE = (ROOT / "docs" / "how-to" / "embed.md",)
"""Pages whose files have a test module of their own: tests/embedding/test_page.py."""

MODULES = tuple(page for page in PAGES if module_of(page))
"""Pages with examples that stand in no file."""


def test_the_python_of_all_pages_runs(tmp_path: Path) -> None:
    """The blocks of a page are one module, in order; its tests pass, and no warning is raised."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    for page in MODULES:
        name = re.sub(r"\W", "_", shown(page).removesuffix(".md"))
        (tmp_path / f"test_{name}.py").write_text(module_of(page), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_no_python_is_left_out(page: Path) -> None:
    """A block that names a file is only run where the page is walked; other blocks run above."""
    assert page in (*WALKS, *WALKED_ELSEWHERE) or not any("file" in block.marks for block in blocks(page))


@pytest.mark.parametrize("page", WALKS, ids=shown)
async def test_a_page_can_be_followed(page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In an empty folder: its files are written, its workers served, its jobs enqueued, its tests run.

    Only where the servers are is said differently, by environment variables, which are over files.
    """
    sockets = tmp_path_factory.mktemp("run")  # a short path: the system allows 100 bytes
    folder = tmp_path / "folder"
    folder.mkdir()
    programs = Path(sys.executable).parent
    if page not in WALKED_AS_INSTALLED:
        forked_program(tmp_path)
        programs = tmp_path
    environment = dict(_environment(sockets, programs))
    if page == TLS:
        _lay_certificates(folder, environment)
    walk = _Walk(folder, environment)
    with trio.fail_after(PATIENCE):
        async with walk.to_its_end():
            for block in blocks(page):
                if "file" in block.marks:
                    (folder / block.marks["file"]).write_text(block.code, encoding="utf-8")
                elif block.language == "console":
                    for line in block.code.splitlines():
                        await walk.type(line, exits=int(block.marks.get("exits", 0)))

    assert "ended Completed" in walk.printed or "job completed" in walk.printed


def _environment(runtime_directory: Path, programs: Path) -> Mapping[str, str]:
    """This one's, with these and our programs first, and with a place for sockets that no other worker uses."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "XDG_RUNTIME_DIR": str(runtime_directory),
        "PYTHONDONTWRITEBYTECODE": "1",  # files are replaced faster than the clock of their dates ticks
        "MILVAION_TRIO__RABBITMQ__HOST": servers.HOST,
        "MILVAION_TRIO__RABBITMQ__PORT": str(servers.rabbitmq().port),
        "MILVAION_TRIO__RABBITMQ__VIRTUAL_HOST": servers.new_vhost(),
        "MILVAION_TRIO__RABBITMQ__USERNAME": "guest",
        "MILVAION_TRIO__REDIS__CONNECTION_STRING": f"{servers.HOST}:{servers.redis().port}",
    }


def _lay_certificates(folder: Path, environment: dict[str, str]) -> None:
    """Under the names of the page; and have the worker find the server that they are of."""
    server = tls_rabbitmq()
    for name in ("ca.pem", "worker.pem", "worker.key"):
        shutil.copy(server.file(name), folder)
    environment["MILVAION_TRIO__RABBITMQ__PORT"] = str(server.tls_port)
    environment["MILVAION_TRIO__RABBITMQ__VIRTUAL_HOST"] = server.new_vhost()


class _Walk:
    """Somebody who types the commands of a page: a worker and a monitor in the background, all else in front."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._given = environment
        self._worker: trio.Process | None = None
        self._monitor: trio.Process | None = None
        self.printed = ""
        """Everything that was printed."""

    @property
    def _environment(self) -> Mapping[str, str]:
        """With where the servers are only while a file of the page says that there are some."""
        files = [*self._folder.glob("*.toml"), *self._folder.glob("*.json")]
        has_servers = any("rabbitmq" in file.read_text(encoding="utf-8").lower() for file in files)
        return {name: value for name, value in self._given.items() if has_servers or not name.startswith(OURS)}

    async def type(self, line: str, *, exits: int) -> None:
        """Run a command; those that install things or make folders were done before."""
        words = shlex.split(line, comments=True)
        match list(itertools.dropwhile(re.compile(r"\w+=").match, words)):  # variables for one command come first
            case ["milvaion-trio", "monitor", *_]:
                self._monitor = await self._started(line)
            case ["milvaion-trio", "dev" | "run", *_]:
                await self._stop_worker()
                self._worker = await self._started(line)
            case ["milvaion-trio", *_] | ["python", *_]:
                done = await trio.run_process(
                    line,
                    shell=True,
                    cwd=self._folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
                printed = done.stdout.decode()
                assert done.returncode == exits, printed
                self.printed += printed

    @asynccontextmanager
    async def to_its_end(self) -> AsyncIterator[None]:
        """Leave no process behind."""
        try:
            yield
            await self._stop_worker()
            await self._stopped(self._monitor)
        finally:
            await _end(self._worker)
            await _end(self._monitor)

    async def _started(self, line: str) -> trio.Process:
        process = await trio.lowlevel.open_process(
            shlex.split(line),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = b""
        while b"ready" not in said:
            chunk = await process.stdout.receive_some()
            assert chunk, said.decode()
            said += chunk
        return process

    async def _stop_worker(self) -> None:
        await self._stopped(self._worker)
        self._worker = None

    async def _stopped(self, process: trio.Process | None) -> None:
        """Ctrl-C, as the pages say: what runs may end."""
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = b"".join([chunk async for chunk in process.stdout]).decode()
        assert await process.wait() == 0, said
        self.printed += said
        await _end(process)


async def _end(process: trio.Process | None) -> None:
    """Kill the process if it still runs, and close its pipe. If cancelled, all the same."""
    if process is None:
        return
    if process.poll() is None:
        process.kill()
    with trio.move_on_after(5, shield=True):  # a killed process is gone in milliseconds
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
