"""Every typical mistake, made as a user makes it, ends with one message: what happened, what is allowed, what to do.

The whole text of each is held here, with ports and folders filled in, and the pages of the documentation quote these.
"""

import json
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from attrs import evolve, field, frozen
from tests.support import servers
from tests.support.amqp import connect
from tests.support.commands import Ended, command, environment, finish, run_command, start
from tests.support.servers import HOST, RedisServer, free_port

from milvaion_trio import BrokerUnreachable, SettingsError, Worker, WorkerSettings
from milvaion_trio.cli.sockets import socket_place
from milvaion_trio.model.settings import RabbitMQSettings

MAIL = """
from milvaion_trio import Worker

worker = Worker("mail-worker")


@worker.job("SendEmailJob")
async def send_email(to: str) -> str:
    return to
"""
WORKER = "from milvaion_trio import Worker\n\nworker = Worker('mail-worker')\n\n"


@frozen
class Request:
    """One command line, where it is typed, and what is different in its environment."""

    arguments: Sequence[str]
    cwd: Path
    changes: Mapping[str, str]

    def run(self) -> Ended:
        """To its end."""
        return run_command(*self.arguments, cwd=self.cwd, env=environment(**self.changes))


@frozen(kw_only=True)
class Mistake:
    """Files to write, a command to type, and how it ends."""

    code: int
    says: str
    """All of stderr; of log lines without the time."""
    type: str = "run mail:worker --log-level warning"
    files: Mapping[str, str] = field(factory=dict)
    environment: Mapping[str, str] = field(factory=dict)


def job(line: str, body: str = "async def send_email(to: str) -> str: ...", **more: str) -> Mapping[str, str]:
    """A worker file with this decorator."""
    return {"mail.py": f"{WORKER}@worker.job({line})\n{body}\n", **more}


def settings(worker: object, **sections: object) -> Mapping[str, str]:
    """The settings file of a .NET worker."""
    return {"appsettings.json": json.dumps({"Worker": worker, **sections}, indent=2)}


def toml(text: str) -> Mapping[str, str]:
    """A settings file of ours."""
    return {"milvaion.toml": text}


def cluster(
    redis: str = "{redis}",
    seconds: int = 1,
    jobs: tuple[str, ...] = (),
    more: Mapping[str, object] | None = None,
    **rabbitmq: object,
) -> Mapping[str, str]:
    """A settings file that leads to the test run's servers, with these changes."""
    place = {"Host": HOST, "Port": "{rabbitmq}", "VirtualHost": "{vhost}", **rabbitmq}
    worker = {"StartupConnectionTimeoutSeconds": seconds, "RabbitMQ": place, "Redis": {"ConnectionString": redis}}
    return settings({"WorkerId": "mail-worker", **worker, **(more or {})}, JobConsumers={name: {} for name in jobs})


EMBEDDED = "This worker runs on the embedded broker: its queues are in this process and end with it.\n"
QUEUE = "scheduled_jobs_queue.mail-worker.sendemail.wildcard"
FROM_FILE = "Host and Port are from appsettings.json."
MORE_TIME = "Worker:StartupConnectionTimeoutSeconds allows more time (0: for ever)."
PLACE = "(Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)"
DEAF = "WARNING milvaion_trio.runtime: cancel signals cannot be heard: Redis at "
GO_ON = "; jobs go on, listening again as soon as possible"

IN_SETTINGS = {
    "typo in milvaion.toml": Mistake(
        files=toml("max_paralel_jobs = 5\n"),
        code=2,
        says="error: milvaion.toml, line 1: max_paralel_jobs is no setting; did you mean max_parallel_jobs?",
    ),
    "typo in a section of milvaion.toml": Mistake(
        files=toml('[rabitmq]\nhost = "x"\nport = 1\n'),
        code=2,
        says="error: milvaion.toml, line 2: rabitmq is no setting; did you mean rabbitmq?",
    ),
    "typo in a variable": Mistake(
        environment={"MILVAION_TRIO__WORKER__MAX_PARALEL_JOBS": "5"},
        code=2,
        says="error: environment: MILVAION_TRIO__WORKER__MAX_PARALEL_JOBS is no setting; "
        "did you mean MILVAION_TRIO__WORKER__MAX_PARALLEL_JOBS?",
    ),
    "typo behind --set": Mistake(
        type="run mail:worker --set max_paralel_jobs=5",
        code=2,
        says="error: command line: --set max_paralel_jobs is no setting; did you mean max_parallel_jobs?",
    ),
    "typo in a decorator": Mistake(
        files=job("'SendEmailJob', max_retrys=3"),
        code=2,
        says="error: send_email: a job has no setting 'max_retrys'; did you mean 'max_retries'?",
    ),
    "typo in an option": Mistake(
        type="run mail:worker --brust",
        code=2,
        says="error: Unknown option: --brust. Did you mean --burst? See milvaion-trio run --help.",
    ),
    "wrong type in appsettings.json": Mistake(
        files=settings({"MaxParallelJobs": "five", "Heartbeat": {"IntervalSeconds": 0}}),
        code=2,
        says="error: 2 problems in the settings or jobs, nothing was started:\n"
        '  - appsettings.json: Worker:MaxParallelJobs is "five"; it must be a whole number, 1 or more.\n'
        "  - appsettings.json: Worker:Heartbeat:IntervalSeconds is 0; it must be a number, 0.001 or more.",
    ),
    "wrong type in milvaion.toml": Mistake(
        files=toml('[rabbitmq]\nport = "5672"\n'),
        code=2,
        says='error: milvaion.toml, line 2: rabbitmq.port is "5672"; it must be a whole number, 1 to 65535, '
        "without quotes.",
    ),
    "wrong type in a variable over a file": Mistake(
        files=settings({"MaxParallelJobs": 5}),
        environment={"Worker__MaxParallelJobs": "five"},
        code=2,
        says='error: environment: Worker__MaxParallelJobs is "five"; it must be a whole number, 1 or more.',
    ),
    "wrong type behind --set": Mistake(
        type="run mail:worker --set max_parallel_jobs=five",
        code=2,
        says='error: command line: --set max_parallel_jobs is "five"; it must be a whole number, 1 or more.',
    ),
    "wrong types in a decorator": Mistake(
        files=job("'SendEmailJob', max_retries='3', max_parallel=0"),
        code=2,
        says="error: 2 problems in the settings or jobs, nothing was started:\n"
        "  - send_email: max_retries is '3'; it must be a whole number, 0 or more, or None.\n"
        "  - send_email: max_parallel is 0; it must be a whole number, 1 or more, or None.",
    ),
    "no number behind an option": Mistake(
        type="run mail:worker --drain-timeout soon",
        code=2,
        says='error: Invalid value for --drain-timeout: unable to convert "soon" into float. '
        "See milvaion-trio run --help.",
    ),
    "settings for a job with another name": Mistake(
        files=settings({"Redis": {}}, JobConsumers={"SendMailJob": {"MaxRetries": 1}}),
        code=2,
        says="error: The settings name a job 'SendMailJob' that this worker does not have "
        "(appsettings.json: JobConsumers:SendMailJob); did you mean 'SendEmailJob'?",
    ),
    "settings file that is not there": Mistake(
        type="run mail:worker --config appsetings.json",
        code=2,
        says="error: appsetings.json: there is no such file.",
    ),
    "empty settings file": Mistake(
        files={"appsettings.json": ""},
        code=2,
        says="error: appsettings.json: line 1, column 1: the file is empty; write {} for no settings.",
    ),
    "settings file with a missing comma": Mistake(
        files={"appsettings.json": '{\n  "Worker": {\n    "WorkerId": "a"\n    "MaxParallelJobs": 1\n  }\n}'},
        code=2,
        says="error: appsettings.json: line 4, column 5: Expecting ',' delimiter.",
    ),
    "no server in the string for Redis": Mistake(
        files=settings({"Redis": {"ConnectionString": "localhost:63x9"}}),
        code=2,
        says="error: Worker:Redis:ConnectionString: part 1 is no server: its port must be a number from 1 to 65535.",
    ),
    "empty password": Mistake(
        files=cluster("localhost", Port=1, Password=""),
        code=2,
        says="error: The password of user 'guest' cannot be used: it must not be empty (Worker:RabbitMQ:Password).",
    ),
}

IN_CODE = {
    "two jobs with one queue": Mistake(
        files=job("'SendEmail'", "async def one() -> None: ...\n\n@worker.job('SendEmailJob')\nasync def two(): ..."),
        code=2,
        says=f"{EMBEDDED}error: 'SendEmail' and 'SendEmailJob' share the queue {QUEUE}, so each gets messages of the "
        "other. Rename one (a trailing `Job` does not count) or give it routing_patterns of its own.",
    ),
    "no job at all": Mistake(
        files={"mail.py": WORKER},
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{EMBEDDED}WARNING milvaion_trio: worker ready: INSTANCE, but it has no jobs; decorate a function with "
        "@worker.job(), or call worker.discover(PACKAGE)",
    ),
    "no such module": Mistake(
        type="run mial:worker",
        code=2,
        says="error: There is no module 'mial' here ({folder}) or among the installed packages.",
    ),
    "a file instead of a module": Mistake(
        type="run mail.py:worker",
        code=2,
        says="error: 'mail.py:worker' names a file, not a module: write mail:worker.",
    ),
    "no such variable": Mistake(
        type="dev mail:app",
        code=2,
        says="error: The module mail has no 'app'. Did you mean mail:worker?",
    ),
    "no worker named": Mistake(
        type="dev mail",
        code=2,
        says="error: 'mail' names no worker. Write MODULE:WORKER, e.g. app.jobs:worker.",
    ),
    "a syntax error": Mistake(
        files={"mail.py": "from milvaion_trio import Worker\n\nworker = Worker('mail-worker'\n"},
        code=2,
        says="error: The module mail cannot be imported: SyntaxError: '(' was never closed (mail.py, line 3)",
    ),
    "an import of what is not installed": Mistake(
        files={"mail.py": "import requests_of_mine\n"},
        code=2,
        says="error: The module mail imports requests_of_mine, which is not installed.\n"
        "It was raised in {folder}/mail.py, line 1.",
    ),
    "decorator without parentheses": Mistake(
        files={"mail.py": f"{WORKER}@worker.job\nasync def send_email(to: str) -> str: ...\n"},
        code=2,
        says="error: Write @worker.job() with parentheses.",
    ),
    "def that should be async": Mistake(
        files=job("'SendEmailJob', run='task'", "def send_email(to: str) -> str: ..."),
        code=2,
        says=f"{EMBEDDED}error: 'SendEmailJob' has run=\"task\" but is no `async def`; "
        'write async def, or run="thread".',
    ),
    "async def in a thread": Mistake(
        files=job("'SendEmailJob', run='thread'"),
        code=2,
        says=f'{EMBEDDED}error: \'SendEmailJob\' has run="thread" but is an `async def`; write def, or run="task".',
    ),
    "a job with yield": Mistake(
        files=job("'SendEmailJob'", "async def send_email(to: str):\n    yield to"),
        code=2,
        says=f"{EMBEDDED}error: 'SendEmailJob' contains `yield`; a job returns its result.",
    ),
    "two parameters for the data": Mistake(
        files=job("'SendEmailJob'", "async def send_email(to: str, subject: str) -> str: ..."),
        code=2,
        says=f"{EMBEDDED}error: SendEmailJob: send_email: to and subject are neither the context nor of a provided "
        "type, but only one parameter can take the data. Make one class of them, or provide the types of the others.",
    ),
}

AT_SERVERS = {
    "typos in appsettings.json": Mistake(
        files=cluster(seconds=30, more={"MaxParalelJobs": 5, "RabitMQ": {"Host": "x", "Port": 1}}),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says="WARNING milvaion_trio: appsettings.json: Worker:MaxParalelJobs is no setting and is ignored; did you "
        "mean Worker:MaxParallelJobs?\n"
        "WARNING milvaion_trio: appsettings.json: Worker:RabitMQ is no setting and is ignored; did you mean "
        "Worker:RabbitMQ?",
    ),
    "no RabbitMQ": Mistake(
        files=cluster(Port="{nothing}"),
        code=1,
        says=f"WARNING milvaion_trio: no link: publishing to amqp://{HOST}:{{nothing}}/{{vhost}} (nothing can be "
        f"reached at {HOST}:{{nothing}} (Connection refused); does RabbitMQ run there {PLACE}?), trying again\n"
        f"error: Could not reach amqp://{HOST}:{{nothing}}/{{vhost}} within 1 s; the last attempt ended with: nothing "
        f"can be reached at {HOST}:{{nothing}} (Connection refused); does RabbitMQ run there {PLACE}? {MORE_TIME} "
        f"{FROM_FILE}",
    ),
    "no such host": Mistake(
        files=cluster(Host="no-such-host.invalid"),
        type="run mail:worker --log-level error",
        code=1,
        says="error: Could not reach amqp://no-such-host.invalid:{rabbitmq}/{vhost} within 1 s; the last attempt "
        f"ended with: nothing can be reached at no-such-host.invalid:{{rabbitmq}} (UNKNOWN); does RabbitMQ run there "
        f"{PLACE}? {MORE_TIME} {FROM_FILE}",
    ),
    "wrong password": Mistake(
        files=cluster(Password="wrong"),
        code=1,
        says=f"error: RabbitMQ at {HOST}:{{rabbitmq}} refused the login of user 'guest' (Worker:RabbitMQ:Username, "
        "Worker:RabbitMQ:Password): the name or the password is wrong. Username is the default, Password is from "
        "appsettings.json.",
    ),
    "wrong password in a variable over the file": Mistake(
        files=cluster(Password="guest"),
        environment={"Worker__RabbitMQ__Password": "wrong"},
        code=1,
        says=f"error: RabbitMQ at {HOST}:{{rabbitmq}} refused the login of user 'guest' (Worker:RabbitMQ:Username, "
        "Worker__RabbitMQ__Password): the name or the password is wrong. Username is the default, Password is from "
        "Worker__RabbitMQ__Password.",
    ),
    "no such virtual host": Mistake(
        files=cluster(VirtualHost="/{vhost}"),
        code=1,
        says=f"error: RabbitMQ at {HOST}:{{rabbitmq}} does not let user 'guest' into virtual host '/{{vhost}}' "
        "(Worker:RabbitMQ:VirtualHost): vhost /{vhost} not found; make it with rabbitmqctl add_vhost /{vhost}, or name "
        "another one: few begin with a slash, so perhaps '{vhost}' is meant. VirtualHost is from appsettings.json.",
    ),
    "not allowed into the virtual host": Mistake(
        files=cluster(Username="{stranger}", Password="pw"),
        code=1,
        says=f"error: RabbitMQ at {HOST}:{{rabbitmq}} does not let user '{{stranger}}' into virtual host '{{vhost}}' "
        "(Worker:RabbitMQ:VirtualHost): access to vhost '{vhost}' refused for user '{stranger}'; allow it with "
        "rabbitmqctl set_permissions -p {vhost} {stranger} '.*' '.*' '.*'. VirtualHost is from appsettings.json.",
    ),
    "not allowed to declare": Mistake(
        files=cluster(Username="{reader}", Password="pw"),
        code=2,
        says="error: The user of Worker:RabbitMQ:Username may not declare what a worker needs: exchange 'jobs.topic', "
        "exchange 'dlx_scheduled_jobs', queue 'job_status_updates_queue', queue 'worker_logs_queue', queue "
        "'worker_registration_queue', queue 'worker_heartbeat_queue', queue 'failed_jobs_queue', queue "
        f"'mtrio.quarantine.v1', queue 'mtrio.hop.v1', queue '{QUEUE}'. RabbitMQ says: ACCESS_REFUSED - access to "
        "exchange 'jobs.topic' in vhost '{vhost}' refused for user '{reader}'. Give the user configure, write and "
        "read permission for them: rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*' allows everything in a "
        "virtual host.",
    ),
    "a queue declared otherwise": Mistake(
        files=cluster(VirtualHost="{taken}"),
        code=2,
        says=f"error: Queue '{QUEUE}' exists, but was declared in another way: PRECONDITION_FAILED - inequivalent arg "
        f"'x-dead-letter-exchange' for queue '{QUEUE}' in vhost '{{taken}}': received the value 'dlx_scheduled_jobs' "
        "of type 'longstr' but current is none. Declare it the same way everywhere, or delete it (its messages go with "
        "it) and start again.",
    ),
    "a web server at RabbitMQ's port": Mistake(
        files=cluster(Port="{web}"),
        code=1,
        says=f"error: what listens at {HOST}:{{web}} is a web server; RabbitMQ's port for AMQP is 5672 unless "
        f"configured otherwise {PLACE}. {FROM_FILE}",
    ),
    "TLS at RabbitMQ's port": Mistake(
        files=cluster(Port="{tls}"),
        code=1,
        says=f"error: what listens at {HOST}:{{tls}} speaks TLS, and this worker plain text; switch TLS on "
        "(Worker:RabbitMQ:Tls), or name RabbitMQ's port for plain text, 5672 unless configured otherwise "
        "(Worker:RabbitMQ:Host, Worker:RabbitMQ:Port). Tls is the default, Host and Port are from appsettings.json.",
    ),
    "Redis at RabbitMQ's port": Mistake(
        files=cluster(Port="{redis_port}"),
        code=1,
        says=f"error: Could not reach amqp://{HOST}:{{redis_port}}/{{vhost}} within 1 s; the last attempt ended with: "
        f"{HOST}:{{redis_port}} did not answer as RabbitMQ does within 1 s; is it well, and is it RabbitMQ that "
        f"listens there {PLACE}? {MORE_TIME} {FROM_FILE}",
    ),
    "no Redis": Mistake(
        files=cluster(f"{HOST}:{{nothing}}", seconds=30),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{DEAF}{HOST}:{{nothing}}: Connection refused; see the setting Worker:Redis:ConnectionString{GO_ON}",
    ),
    "no password for Redis": Mistake(
        files=cluster(f"{HOST}:{{closed}}", seconds=30),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{DEAF}{HOST}:{{closed}}: Authentication required; see the setting Worker:Redis:ConnectionString and "
        f"Worker:Redis:Password{GO_ON}",
    ),
    "wrong password for Redis": Mistake(
        files=cluster(f"{HOST}:{{closed}},password=wrong", seconds=30),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{DEAF}{HOST}:{{closed}}: invalid username-password pair or user is disabled; see the setting "
        f"Worker:Redis:ConnectionString and Worker:Redis:Password{GO_ON}",
    ),
    "RabbitMQ at the port of Redis": Mistake(
        files=cluster(f"{HOST}:{{rabbitmq}}", seconds=30),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{DEAF}{HOST}:{{rabbitmq}}: Connection reset by peer (is it Redis that listens there?); see the setting "
        f"Worker:Redis:ConnectionString{GO_ON}",
    ),
    "a web server at the port of Redis": Mistake(
        files=cluster(f"{HOST}:{{web}}", seconds=30),
        type="run mail:worker --log-level warning --burst",
        code=0,
        says=f"{DEAF}{HOST}:{{web}}: Protocol Error: b'HTTP/1.1 400 Bad Request' (is it Redis that listens there?); "
        f"see the setting Worker:Redis:ConnectionString{GO_ON}",
    ),
    "a job that nobody has, enqueued": Mistake(
        files=cluster(seconds=30, jobs=("SendEmailJob",)),
        type="enqueue SendMailJob --config appsettings.json",
        code=1,
        says="error: There is no queue 'scheduled_jobs_queue.mail-worker.sendmail.wildcard', so none takes messages "
        "with the key 'mail-worker.sendmail.job' of jobs.topic: no worker with this job has ever declared it. Nothing "
        "was enqueued. Check worker id, job name and routing pattern, and start that worker once. Did you mean "
        "SendEmailJob, which the settings name?",
    ),
    "enqueue with a wrong password": Mistake(
        files=cluster(Password="wrong"),
        type="enqueue SendEmailJob --config appsettings.json",
        code=1,
        says=f"error: amqp://{HOST}:{{rabbitmq}}/{{vhost}} (appsettings.json) cannot be used: RabbitMQ at "
        f"{HOST}:{{rabbitmq}} refused the login of user 'guest' (Worker:RabbitMQ:Username, Worker:RabbitMQ:Password): "
        "the name or the password is wrong. Nothing was enqueued.",
    ),
}

MISTAKES = IN_SETTINGS | IN_CODE | AT_SERVERS


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for workers that a test serves itself, whose outbox is where they are started."""
    monkeypatch.chdir(tmp_path)


def test_mistakes_in_settings(tmp_path: Path) -> None:
    check(IN_SETTINGS, tmp_path, {})


def test_mistakes_in_code(tmp_path: Path) -> None:
    check(IN_CODE, tmp_path, {})


def test_mistakes_at_the_servers(tmp_path: Path) -> None:
    """RabbitMQ and Redis are real; what else may listen at their ports is played."""
    vhost, taken = servers.new_vhost(), servers.new_vhost()
    stranger, reader = f"stranger-{vhost}", f"reader-{vhost}"
    make_users(vhost, stranger, reader)
    trio.run(declare_otherwise, taken)
    web, tls = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), answering(b"\x15\x03\x03\x00\x02\x02\x46")
    with RedisServer(password="pw") as closed, web as web_port, tls as tls_port:
        values = {
            "rabbitmq": servers.rabbitmq().port,
            "vhost": vhost,
            "taken": taken,
            "stranger": stranger,
            "reader": reader,
            "redis": f"{HOST}:{servers.redis().port}",
            "redis_port": servers.redis().port,
            "closed": closed.port,
            "nothing": free_port(),
            "web": web_port,
            "tls": tls_port,
        }
        check(AT_SERVERS, tmp_path, values)


def test_the_ordinary_command_line_says_the_same(tmp_path: Path) -> None:
    """The others run in forks of one process, which saves a second each."""
    mistake = IN_SETTINGS["typo in a variable"]
    request = written(mistake, tmp_path, {})

    ended = subprocess.run(
        command(*request.arguments),
        cwd=tmp_path,
        env=environment(**request.changes),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (mistake.code, "", f"{mistake.says}\n")


def check(mistakes: Mapping[str, Mistake], folder: Path, values: Mapping[str, object]) -> None:
    """Make all of them, and compare what was said word by word."""
    requests = []
    for number, mistake in enumerate(mistakes.values()):
        place = folder / str(number)
        place.mkdir()
        requests.append(written(mistake, place, values))
    wrong = []
    for (name, mistake), request, ended in zip(mistakes.items(), requests, run_commands(requests), strict=True):
        expected = (mistake.code, f"{filled(mistake.says, {**values, 'folder': request.cwd})}\n".removeprefix("\n"))
        if (ended.code, plain(ended.err)) != expected or "Traceback" in ended.err:
            wrong.append(f"{name}: {ended.code}, expected {expected[0]}\n{plain(ended.err)}--- expected\n{expected[1]}")
    assert not wrong, "\n".join(["", *wrong])


def run_commands(requests: Sequence[Request]) -> list[Ended]:
    """All of them, some at a time."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(Request.run, requests))


def written(mistake: Mistake, folder: Path, values: Mapping[str, object]) -> Request:
    """Its files, in that folder, and what is typed there."""
    for name, text in {"mail.py": MAIL, **mistake.files}.items():
        (folder / name).write_text(filled(text, values), encoding="utf-8")
    changes = {"XDG_RUNTIME_DIR": str(folder), **mistake.environment}
    return Request(filled(mistake.type, values).split(), folder, changes)


def filled(text: str, values: Mapping[str, object]) -> str:
    """The text with values for the names in braces; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], name[0])), text)


def plain(text: str) -> str:
    """Without times, made-up names, what differs between systems, and the news that no Milvaion server runs here."""
    lines = [line for line in text.splitlines() if ": nobody reads " not in line]
    text = "".join(f"{line}\n" for line in lines)
    text = re.sub(r"(?m)^\S+Z (\w+) +", r"\1 ", text)
    text = re.sub(r"mail-worker-[0-9a-f]{8}", "INSTANCE", text)
    return re.sub("Name or service not known|Temporary failure in name resolution", "UNKNOWN", text)


def make_users(vhost: str, stranger: str, reader: str) -> None:
    """One that may do nothing, one that may only look."""
    servers.rabbitmq().control(
        "eval",
        f'[rabbit_auth_backend_internal:add_user(U, <<"pw">>, <<"tests">>) || U <- [<<"{stranger}">>, <<"{reader}">>]],'
        f'rabbit_auth_backend_internal:set_permissions(<<"{reader}">>, <<"{vhost}">>, <<"^$">>, <<".*">>, <<".*">>,'
        ' <<"tests">>).',
    )


async def declare_otherwise(vhost: str) -> None:
    """What somebody else made before us. If cancelled, it may be there."""
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_queue(QUEUE, {"x-max-length": ("I", 5)})


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on this port that says one thing to whatever it hears first."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the test is over
                return
            with connection:
                connection.recv(100)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(1000):
                    pass

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


# --- in a program of one's own ----------------------------------------------------------------------------------------


def test_in_a_program_it_is_one_exception_with_the_same_text() -> None:
    """From `trio.run(worker.serve)`: never a group."""
    settings = WorkerSettings(worker_id="mail-worker", startup_connection_timeout=1)
    misspelt = Worker(settings=settings)
    port = free_port()
    lonely = Worker(settings=evolve(settings, rabbitmq=RabbitMQSettings(host=HOST, port=port)))

    @misspelt.job("SendEmail")
    async def send_email() -> None: ...

    @misspelt.job("SendEmailJob")
    async def send_email_too() -> None: ...

    with pytest.raises(SettingsError) as twins:
        trio.run(misspelt.serve)
    with pytest.raises(BrokerUnreachable) as unreachable:
        trio.run(lonely.serve)

    assert twins.value.problems == (IN_CODE["two jobs with one queue"].says.partition("error: ")[2],)
    expected = AT_SERVERS["no RabbitMQ"].says.partition("error: ")[2].replace("appsettings.json", "the code")
    assert str(unreachable.value) == filled(expected, {"nothing": port, "vhost": ""})


def test_a_refused_login_is_a_refusal_there() -> None:
    """At once or nearly: DESIGN.md 2 has 30 s for a broker that is not there, and nothing for one that says no."""
    rabbitmq = RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, password="wrong")
    worker = Worker(settings=WorkerSettings(worker_id="mail-worker", startup_connection_timeout=30, rabbitmq=rabbitmq))

    async def timed() -> float:
        began = trio.current_time()
        with pytest.raises(BrokerUnreachable) as refused, trio.fail_after(25):
            await worker.serve()
        assert refused.value.is_refusal
        assert "refused the login of user 'guest'" in str(refused.value)
        return trio.current_time() - began

    assert trio.run(timed) < 15


def test_data_without_a_json_form_is_refused_where_it_is_enqueued() -> None:
    """Before anything is published; the path leads to the value."""
    worker = Worker("mail-worker", observers=())

    @worker.job("SendEmailJob")
    async def send_email(to: str) -> None: ...

    async def enqueue() -> None:
        async with worker.client() as client:
            await client.enqueue(send_email, {"to": ["ada@example.org", object()]})

    with pytest.raises(TypeError) as refused:
        trio.run(enqueue)

    assert str(refused.value) == (
        "the value.to[1] is of type object, which has no JSON form. Use attrs classes, dataclasses, mappings, lists, "
        "texts, numbers, dates or UUIDs."
    )


# --- with a dev worker ------------------------------------------------------------------------------------------------

DEV = f"""{WORKER}
import asyncio
import trio


@worker.job("AsyncioJob", max_retries=0)
async def asyncio_job() -> None:
    await asyncio.sleep(1)


@worker.job("PlainJob", max_retries=0)
def plain_job() -> object:
    return trio.sleep(1)


@worker.job("SendEmailJob", max_retries=0)
async def send_email(to: str) -> object:
    return object()
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A place for sockets, with a path that is short enough for them."""
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        yield Path(folder)


TOLD = {
    "enqueue AsyncioJob --wait": "ended Failed: RuntimeError: no running event loop; This is asyncio code in a job "
    'that runs on Trio: declare the job with run="asyncio". (mail.py, line 12, in asyncio_job)',
    "enqueue PlainJob --wait": "ended Failed: TypeError: a plain `def` returned a coroutine; write `async def`, and "
    "await it in there",
    "enqueue SendEmailJob --data 7 --wait": "ended Failed: InvalidJobData: The data of this SendEmailJob message does "
    "not fit the job: $: found the number 7, expected a text",
    "enqueue SendEmailJob --wait": "ended Failed: InvalidJobData: The data of this SendEmailJob message does not fit "
    "the job: $: there is no data, expected a text",
    "enqueue SendMailJob": "error: This worker knows no job called 'SendMailJob'. It knows: AsyncioJob, PlainJob, "
    "SendEmailJob. Did you mean SendEmailJob?",
    "enqueue SendEmailJob --data {{to:1}}": "error: --data cannot be read. This is not JSON as Milvaion reads it: "
    "Expecting property name enclosed in double quotes: line 1 column 2 (char 1). Quote it for the shell, e.g. --data "
    "'{\"to\": 1}'.",
    "dev mail:worker": "error: Another dev worker listens on {socket}. Stop it with Ctrl-C "
    "there, or give this one a place of its own with --socket PATH, and the commands for it the same.",
}


def test_mistakes_beside_a_dev_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    """What jobs do wrong, and a second `dev` where one holds the socket."""
    (tmp_path / "mail.py").write_text(DEV)
    changes = {"XDG_RUNTIME_DIR": str(runtime)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    place = socket_place(None)
    process = start(["dev", "mail:worker"], cwd=tmp_path, env=environment(**changes))
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        typed = [filled(line, {}).replace("{{", "{").replace("}}", "}").split() for line in TOLD]
        ended = run_commands([Request(line, tmp_path, changes) for line in typed])
    finally:
        process.terminate()
        told = finish(process)

    said = [re.sub(r"^[0-9a-f-]{36} ", "", one.err) for one in ended]
    assert said == [f"{filled(text, {'socket': place})}\n" for text in TOLD.values()]
    assert {one.code for one in ended} == {1, 2}
    assert told.code == 0
