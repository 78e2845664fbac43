"""One command of the command line, run by a process that `fork_server` forks: `fork_client.py SOCKET ARGUMENT…`.

To whoever started this program it is that process: it passes on its files, folder and environment, the signals it
gets, and the end. Only a stop (SIGSTOP) cannot be passed on. It imports little, since it is started for every command.
"""

import json
import os
import signal
import socket
import struct
import sys

_LENGTH = struct.Struct("!I")
_PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}


def main(path: str, *arguments: str) -> None:
    """Have the command run, and end as it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until there is somebody to pass them on to
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    request = json.dumps({"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "group": os.getpgrp()})
    text = request.encode()
    socket.send_fds(server, [_LENGTH.pack(len(text))], [0, 1, 2])
    server.sendall(text)
    pid = _answer(server)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    _end(os.waitstatus_to_exitcode(_answer(server)))


def _answer(server: socket.socket) -> int:
    (number,) = _LENGTH.unpack(server.recv(_LENGTH.size, socket.MSG_WAITALL))
    return int(number)


def _end(code: int) -> None:
    if code < 0:
        if code not in (-signal.SIGKILL, -signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
