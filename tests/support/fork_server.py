"""A process that has imported what the command line stands on, and forks for each command that `fork_client` asks for.

Starting the program costs a second of CPU, nearly all of it imports, and the tests start it more than a hundred times.
What it forks becomes `python -m milvaion_trio`: a process with the arguments, folder, environment and files of the
client, which imports the command line itself, as that looks at the environment and the terminal when it is imported.
Not seen this way is how Python starts; the pages that are walked through, the demo and the installed package see it.

It ends with the process that started it, and removes its folder. What it forked ends with the client.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

PRELOADED = ("milvaion_trio", "cyclopts", "rich.console", "rich.live", "rich.markdown", "rich.table")
LENGTH = struct.Struct("!I")
"""Before a request; an answer is the process id, then the status that `waitpid` gave, each one of these."""


def serve(path: str) -> None:
    """Take requests at this socket until stdin ends. Returns in what was forked, with all set for its program."""
    selector = selectors.DefaultSelector()
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up is all there is to it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the tests
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    for end in (listener, woken, sys.stdin):
        selector.register(end, selectors.EVENT_READ)
    print("ready", flush=True)
    clients: dict[int, socket.socket] = {}

    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                for pid in clients:
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(Path(path).parent)
                os._exit(0)
            elif key.fileobj is woken:
                woken.recv(4096)
                _reap(clients, selector)
            elif key.fileobj is listener:
                client, _ = listener.accept()
                if (pid := _fork(client)) == 0:
                    return
                clients[pid] = client
                selector.register(client, selectors.EVENT_READ, pid)
            else:  # a client never says more, so it has ended
                with contextlib.suppress(ProcessLookupError):
                    os.kill(key.data, signal.SIGKILL)
                selector.unregister(key.fileobj)


def _reap(clients: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    while clients:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        client = clients.pop(pid)
        with contextlib.suppress(OSError, KeyError):
            selector.unregister(client)
            client.sendall(LENGTH.pack(status))
        client.close()


def _fork(client: socket.socket) -> int:
    prefix, files, *_ = socket.recv_fds(client, LENGTH.size, 3)
    (length,) = LENGTH.unpack(prefix)
    text = b""
    while len(text) < length:
        text += client.recv(length - len(text))
    if (pid := os.fork()) == 0:
        _become(json.loads(text), files)
        return 0
    client.sendall(LENGTH.pack(pid))
    for file in files:
        os.close(file)
    return pid


def _become(request: Any, files: list[int]) -> None:
    """Be a fresh `python -m milvaion_trio`: nothing of the server's but its modules."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 256)  # the sockets of the server
    with contextlib.suppress(PermissionError):
        os.setpgid(0, request["group"])  # what the terminal or a test sends to the client's group
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [str(Path(sys.modules["milvaion_trio"].__file__ or "").with_name("__main__.py")), *request["arguments"]]
    sys.path[:] = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    importlib.invalidate_caches()
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1 if os.isatty(1) else -1, encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    serve(sys.argv[1])
    runpy.run_module("milvaion_trio", run_name="__main__", alter_sys=True)
