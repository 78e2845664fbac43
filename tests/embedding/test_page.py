"""The files of docs/how-to/embed.md, run as its reader would: programs, and real servers asked over HTTP."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from tests.docs.markdown import ROOT, blocks
from tests.support import servers
from tests.support.commands import environment
from tests.support.servers import HOST, free_port

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.embed import serving
from milvaion_trio.model.settings import RabbitMQSettings

PAGE = ROOT / "docs" / "how-to" / "embed.md"
FILES = {block.marks["file"]: block.code for block in blocks(PAGE) if "file" in block.marks}
COMMANDS = {block.code.split()[0]: block.code.split() for block in blocks(PAGE) if block.language == "console"}

PATIENCE = 60.0
"""Seconds for a server to start: it imports a web framework, on a machine that runs other tests too."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


def run_file(folder: Path, name: str, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", name],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_block_and_a_task_group(folder: Path) -> None:
    """The first in a program that knows of no AnyIO. A job has run when its program ends."""
    (folder / "both.py").write_text(
        "import sys, jobs, block\n"
        "assert 'anyio' not in sys.modules\n"
        "import task_group\n"
        "assert jobs.sent == ['ada@example.com', 'bob@example.com']\n"
    )

    run_file(folder, "both.py")


async def test_enqueue_only(folder: Path) -> None:
    """What the client enqueues in one program, a worker runs in another."""
    settings = RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=servers.new_vhost())
    worker = Worker("email-worker", settings=WorkerSettings(rabbitmq=settings), observers=())
    ran = trio.Event()

    @worker.job("SendEmailJob")
    async def send_email(to: str) -> None:
        assert to == "cem@example.com"
        ran.set()

    environment = {
        "MILVAION_TRIO__RABBITMQ__HOST": HOST,
        "MILVAION_TRIO__RABBITMQ__PORT": str(settings.port),
        "MILVAION_TRIO__RABBITMQ__VIRTUAL_HOST": settings.virtual_host,
    }
    with trio.fail_after(PATIENCE):
        async with serving(worker):
            await trio.to_thread.run_sync(partial(run_file, folder, "enqueue.py", **environment))
            await ran.wait()


# --- servers --------------------------------------------------------------------------------------------------------


class Served:
    """One of the page's servers, on a port of its own."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self._address = f"http://{HOST}:{port}/emails"

    def ask(self, method: str, query: str = "") -> object:
        request = urllib.request.Request(self._address + query, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.ask("GET")
            except urllib.error.URLError:  # nobody listens yet
                time.sleep(0.05)
            else:
                return
        pytest.fail("the server did not start")

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@contextmanager
def served(folder: Path, program: str) -> Iterator[Served]:
    port = free_port()
    command = [word.replace("8000", str(port)) for word in COMMANDS[program]]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        server = Served(process, port)
        server.until_up()
        yield server
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("program", ["uvicorn", "hypercorn"])
def test_a_server_enqueues_and_hosts_the_worker(folder: Path, program: str) -> None:
    """A request enqueues, the job runs, and SIGTERM ends all of it: the running job too, and with no traceback."""
    with served(folder, program) as server:
        server.ask("POST", "?to=dora@example.com")
        deadline = time.monotonic() + PATIENCE
        while server.ask("GET") != ["dora@example.com"]:
            assert time.monotonic() < deadline
        server.ask("POST", "?to=last@example.com")

        code, said = server.end(signal.SIGTERM)

    # uvicorn raises the signal again when all is shut down, so that its parent sees why it ended.
    assert code == (-signal.SIGTERM if program == "uvicorn" else 0), said
    assert "Traceback" not in said
    assert "rror" not in said
