"""`milvaion-trio dev`: a worker on the embedded broker, with everything it does told as it happens."""

import shlex
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from attrs import define, evolve, field
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli import narration
from milvaion_trio.cli.data_example import UNKNOWN, data_option
from milvaion_trio.cli.dev_data import DATA_FOLDER, keep_in, kept
from milvaion_trio.cli.dev_server import DevServer
from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.logging_setup import set_up_logging
from milvaion_trio.cli.message_lines import message_line
from milvaion_trio.cli.narration import Mood, Remark
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption, WorkerArgument, load, overrides
from milvaion_trio.cli.reload import LifelineOption, ReloadDirOption, ReloadOption, reloading
from milvaion_trio.cli.serving import serve_and_end
from milvaion_trio.cli.sockets import listening, socket_place
from milvaion_trio.cli.terminal import QUIET, STYLES, error_console, output_console, write_line
from milvaion_trio.logs import log_event
from milvaion_trio.model import events, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.transports import coordination_for
from milvaion_trio.worker import Worker

__all__ = ["dev"]


def dev(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    messages: Annotated[
        bool,
        Parameter(
            negative="",
            help="Print every message that the worker publishes as a JSON line on stdout, and all else on stderr.",
        ),
    ] = False,
    data: Annotated[
        Path,
        Parameter(metavar="FOLDER", help="Keep everything there, so that it goes on where it was after a restart."),
    ] = DATA_FOLDER,
    no_data: Annotated[
        bool, Parameter(name="--no-data", negative="", help="Keep nothing: what still waits ends with the process.")
    ] = False,
    socket: SocketOption = None,
    reload: ReloadOption = False,
    reload_dir: ReloadDirOption = None,
    lifeline: LifelineOption = None,
) -> int:
    """Run a worker without any server, and tell what happens in it.

    The worker gets an embedded broker in place of its own, whatever its settings name; of a settings file it takes what
    concerns its jobs. From a second terminal give it jobs with enqueue and take them back with cancel.

    It keeps its queues, schedules and history in the folder of --data. However it ends, the next one goes on: with what
    waits, what was to be tried again, and what ran when it was killed. From a second terminal in the same folder look
    with history, occurrences show, workers and dlq list; the history can also be read when no worker runs.

    SIGINT (Ctrl-C) or SIGTERM drains: running jobs may end. A second one cancels them, a third one leaves at once.

    With --reload a supervisor runs the worker as a child process and watches the Python and the settings files. After
    a change the worker drains and starts again; one that cannot start waits for the next change. Signals are handed on,
    and the exit code is that of the last child.

    Exit codes: 0 drained, 1 the start failed, 2 the command line or the settings are wrong, 130 left at once.

        milvaion-trio dev app.jobs:worker --reload
        milvaion-trio dev app.jobs:worker --messages | jq .body
        milvaion-trio dev app.jobs:worker --no-data
    """
    supervised = reloading(reload, reload_dir, config, lifeline)
    if supervised is not None:
        return supervised
    set_up_logging()
    worker = load(target, config, overrides(settings))
    worker.signals = LocalSignals()
    reporting = evolve(worker.settings.reporting, local_occurrences=True)
    scheduler = evolve(worker.settings.scheduler, report=False)
    worker.settings = evolve(
        worker.settings, rabbitmq=None, redis=None, reporting=reporting, scheduler=scheduler, max_jobs_per_process=0
    )
    if no_data:
        worker.broker = EmbeddedBroker()
        worker.coordination = coordination_for(worker.settings)
    else:
        keep_in(worker, data)
    console = error_console() if messages else output_console()
    trio.run(partial(_serve, worker, console, messages=messages, socket=socket))
    return ExitCode.DONE


async def _serve(worker: Worker, console: Console, *, messages: bool, socket: Path | None) -> None:
    broker = worker.broker
    if not isinstance(broker, EmbeddedBroker):
        raise AssertionError("`dev` gave it one")
    server = DevServer(worker, broker)
    journal = _Journal(console, worker, broker)
    # The journal tells what the log would tell, in words for a person.
    others = tuple(observer for observer in worker.observers if observer is not log_event)
    worker.observers = (*others, journal.happened, server.happened)
    broker.on_publish += [journal.published, server.published]
    if messages:
        broker.on_publish.append(lambda publication: _print_message(server, publication))
    place = socket_place(socket)
    async with listening(place, given=socket is not None) as listener:
        async with kept(worker), trio.open_nursery() as nursery:
            journal.found()
            await nursery.start(serve_and_end, worker, nursery.cancel_scope)
            journal.introduce(place if socket is not None else None)
            nursery.start_soon(server.serve, listener)


def _print_message(server: DevServer, publication: Publication) -> None:
    if server.is_reported(publication):
        write_line(message_line(publication))


@define(eq=False)
class _Journal:
    """What happens, a line each: when, which job, the head of its occurrence's id, what."""

    console: Console
    worker: Worker
    broker: EmbeddedBroker
    _names: dict[OccurrenceId, str] = field(factory=dict, init=False)
    """The jobs of the occurrences that have started and not ended."""

    def found(self) -> None:
        """Say what an earlier process has left."""
        if waiting := self._waiting():
            messages = "1 message that waits" if waiting == 1 else f"{waiting} messages that wait"
            self._print(Remark(f"goes on with {messages} in {self.broker.folder}", Mood.WAITING))
        own = {job.queue for job in self.worker.registry.jobs}
        for queue, depth in self._depths().items():
            if queue not in own:
                messages = "1 message waits" if depth == 1 else f"{depth} messages wait"
                words = f"{messages} in {queue}, for a job that this worker does not have: was it renamed?"
                self._print(Remark(words, Mood.BAD))

    def introduce(self, socket: Path | None) -> None:
        """Say what serves here and what to do with it."""
        names = self.worker.registry.names
        self._print(Remark(f"ready, with the jobs {', '.join(names)}" if names else "ready, without any job"))
        place = ["--socket", shlex.quote(str(socket))] if socket is not None else []
        # The command stands last and alone, so that it can be copied.
        hint = (
            f"Ctrl-C drains. In a second terminal: {' '.join(['milvaion-trio enqueue', *self._example(), *place])}"
            if names
            else "Decorate a function with @worker.job() and start again. Ctrl-C leaves."
        )
        self.console.print(Text(hint, style=QUIET))

    def _example(self) -> list[str]:
        """A job with the data it needs: the first one for which an example is known."""
        options = [(job.name, data_option(job)) for job in self.worker.registry.jobs]
        name, data = next((each for each in options if each[1] != UNKNOWN), options[0])
        return [shlex.quote(name), *([data] if data else []), "--wait"]

    def happened(self, event: events.Event) -> None:
        """Tell an event."""
        if isinstance(event, events.WorkerStopped) and (waiting := self._waiting()):
            messages, s = ("1 message", "s") if waiting == 1 else (f"{waiting} messages", "")
            folder = self.broker.folder
            kept = (
                f"wait{s} in {folder} for the next start" if folder else f"still wait{s} and end{s} with this process"
            )
            self._print(Remark(f"{messages} {kept}", Mood.WAITING))
        remark = narration.remark(event, self.worker.settings.shutdown.drain_timeout)
        if remark is None:
            return
        if remark.occurrence_id is not None and remark.job_name is not None:
            if isinstance(event, events.JobConcluded):  # what was returned may still have lines to come, and runs again
                self._names.pop(remark.occurrence_id, None)
            else:
                self._names[remark.occurrence_id] = remark.job_name
        if isinstance(event, events.JobStarted):  # the whole id once, to cancel it with
            remark = evolve(remark, text=f"{remark.text}  {event.occurrence_id}")
        self._print(remark)

    def _waiting(self) -> int:
        """The messages of jobs that are queued or wait for their time."""
        return self.broker.delayed + sum(self._depths().values())

    def _depths(self) -> dict[str, int]:
        """The queues of jobs in which messages wait, also of jobs that are gone."""
        queues = [name for name in self.broker.queues if name.startswith(topology.JOB_QUEUE_PREFIX)]
        return {name: depth for name in queues if (depth := self.broker.queue(name).depth)}

    def published(self, publication: Publication) -> None:
        """Tell what jobs log."""
        for remark in narration.logged(publication):
            name = self._names.get(remark.occurrence_id) if remark.occurrence_id is not None else None
            self._print(evolve(remark, job_name=name))

    def _print(self, remark: Remark) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(None if remark.at is None else remark.at.unix_ms / 1000))
        head = remark.occurrence_id[:8] if remark.occurrence_id is not None else ""
        name = remark.job_name or ("" if head else self.worker.settings.worker_id)
        self.console.print(
            Text.assemble(
                (f"{clock}  ", QUIET), f"{name:<18} ", (f"{head:<8}  ", QUIET), (remark.text, STYLES[remark.mood])
            )
        )
