"""Every await point of a worker's life, cancelled once: nothing is lost, nothing is left behind."""

from collections.abc import Callable

import pytest
import trio
from attrs import define, field
from tests.support.workers import guid, job_message
from trio.lowlevel import Task
from trio.testing import MockClock

from milvaion_trio import JobContext, PermanentFailure, RetryLater, Snooze, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.occurrence import FINAL
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.model.wire import decode_status
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.testing.clock import clock_ns


@define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope before the n-th step that any task takes, and tells so."""

    step: int
    struck: Callable[[], None]
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    steps: int = 0
    is_armed: bool = False

    def before_task_step(self, task: Task) -> None:
        if self.is_armed:
            self.steps += 1
            if self.steps == self.step:
                self.scope.cancel()
                self.struck()


@define(eq=False)
class Story:
    """A worker with jobs of all endings, what was dispatched to it, and what became of it."""

    broker: EmbeddedBroker = field(factory=EmbeddedBroker)
    signals: LocalSignals = field(factory=LocalSignals)
    dispatched: set[OccurrenceId] = field(factory=set)
    concluded: list[OccurrenceId] = field(factory=list)
    runs: list[OccurrenceId] = field(factory=list)

    def worker(self) -> Worker:
        settings = WorkerSettings(
            worker_id="tests",
            max_parallel_jobs=4,
            shutdown=ShutdownSettings(drain_timeout=5, cleanup_timeout=1, flush_timeout=1),
        )
        worker = Worker(settings=settings, broker=self.broker, signals=self.signals, observers=(), clock_ns=clock_ns)

        @worker.job(max_retries=1, base_retry_delay=1, timeout=2, max_parallel=3)
        async def work(ctx: JobContext, data: str) -> str:
            self.runs.append(ctx.occurrence_id)
            ctx.log.info("began")
            await trio.sleep(0.5)
            await self.ending(ctx, data)
            return data

        return worker

    async def ending(self, ctx: JobContext, data: str) -> None:
        first = ctx.attempt == 1 and len([run for run in self.runs if run == ctx.occurrence_id]) == 1
        match data:
            case "fails once" if first:
                raise ValueError(data)
            case "fails":
                raise ValueError(data)
            case "permanent":
                raise PermanentFailure(data)
            case "later" if first:
                raise RetryLater(0.5)
            case "snooze" if first:
                raise Snooze(0.5)
            case "times out" | "is cancelled":
                try:
                    await trio.sleep(60)
                finally:
                    async with ctx.cleanup(0.5):
                        await trio.sleep(0.2)

    def watch(self, publication: Publication) -> None:
        if publication.routing_key == topology.STATUS_QUEUE:
            status = decode_status(publication.message.body)
            if status.status in FINAL:
                self.concluded.append(status.occurrence_id)

    def dispatch(self, worker: Worker) -> None:
        queue = worker.registry.jobs[0].queue
        endings = ["is cancelled", "returns", "fails once", "fails", "permanent", "later", "snooze", "times out"]
        for number, ending in enumerate(endings, 1):
            message = job_message("work", job_data=f'"{ending}"', occurrence_id=guid(number), timestamp=number)
            self.dispatched.add(guid(number))
            self.broker.publish_nowait(Publication(message, queue))
        self.broker.publish_nowait(Publication(job_message("nobody", occurrence_id=guid(90)), queue))
        self.dispatched.add(guid(90))

    async def play(self, worker: Worker) -> None:
        """Serve, dispatch, cancel one, lose the connections once, and drain when all is done."""
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.serve)
            self.dispatch(worker)
            await trio.sleep(0.7)
            self.signals.cancel(Cancellation(occurrence_id=guid(1)))
            await trio.sleep(0.2)
            self.broker.drop_connection()
            await trio.sleep(1)
            await worker.idle()
            worker.drain()


def play(step: int, *, broker_dies: bool) -> bool:
    """Play the story with a cancellation at that step, and see what is left; whether it struck."""
    story = Story()

    def struck() -> None:
        if broker_dies:
            story.broker.refuse_connections = True
            story.broker.drop_connection()

    instrument = CancelAtStep(step, struck)

    async def main() -> None:
        worker = story.worker()
        story.broker.on_publish.append(story.watch)
        before = tasks()
        with instrument.scope:
            instrument.is_armed = True
            await story.play(worker)
        instrument.is_armed = False
        story.broker.refuse_connections = False

        assert tasks() == before, f"step {step}: tasks were left behind: {tasks() - before}"
        queues = [story.broker.queue(name) for name in story.broker.queues]
        held = [queue for queue in queues if queue.unacked or queue.consumers]
        assert not held, f"step {step}: somebody still holds {held}"
        # Whatever has no final status yet is in the broker, and still good: the next worker ends it.
        second = story.worker()
        async with trio.open_nursery() as nursery:
            await nursery.start(second.serve)
            await second.idle()
            second.drain()
        lost = story.dispatched - set(story.concluded)
        assert not lost, f"step {step}: lost {lost}"

    trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[instrument])
    return instrument.steps >= step


def tasks() -> set[Task]:
    """All tasks that there are."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, waiting = set[Task](), [root]
    while waiting:
        task = waiting.pop()
        found.add(task)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@pytest.mark.parametrize(
    ("broker_dies", "first"),
    [
        (False, 1),
        (True, 2),
        pytest.param(False, 2, marks=pytest.mark.long),
        pytest.param(True, 1, marks=pytest.mark.long),
    ],
)
def test_a_worker_loses_nothing_wherever_it_is_cancelled(broker_dies: bool, first: int) -> None:
    """Every occurrence gets its final status, from this worker or the next; nobody holds a message or leaves a task.

    Also when the broker goes away in the same moment, so that nothing can be flushed. Every second step: one of the two
    in every run of the tests, both in the long one.
    """
    step = first
    while play(step, broker_dies=broker_dies):
        step += 2

    assert step > 100, "the story is too short to be one"
