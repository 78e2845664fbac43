"""The world of one seed: hosts that are started again, an API that dispatches, and a script of faults.

It carries a plan out and returns the trace. What the trace means is for `checks` to say.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.ids import JobId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import Cancellation, JobMessage
from milvaion_trio.model.wire import encode_job
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.signals.local import LocalSignals
from torture.simulation.cable import HEADER, Cable, about
from torture.simulation.determinism import Patience, run_in_order_of
from torture.simulation.disks import Disk
from torture.simulation.fates import STAMPS_FROM, Fate, Kind
from torture.simulation.hurting import hurt
from torture.simulation.lives import WORKER_ID, WorkerLife, worker_for
from torture.simulation.plan import CALM_AT, WORLD, Fault, Plan, Point, Step, StepKind
from torture.simulation.surroundings import ErrorsNoted, folder_for, outboxes_of_lives
from torture.simulation.trace import Trace, identity

__all__ = ["carried_out"]

LONGEST_CALM: Final = 3600.0
"""Seconds without faults within which everything must have ended."""

MOST_ROUNDS: Final = 400_000
"""Of Trio's scheduler; the busiest seeds take a tenth."""

TRAPPED_FOR: Final = 5.0
"""Seconds that the fault of a trap lasts, if it lasts."""

RESTART_GAPS: Final = (0.0, 1.0, 5.0, 30.0)

_JOB_ID: Final = JobId("00000000-0000-4000-8000-0000000000b0")


def carried_out(plan: Plan) -> Trace:
    """Run the plan in virtual time and return what happened."""
    patience = Patience(MOST_ROUNDS)
    with folder_for(plan) as folder, outboxes_of_lives(), ErrorsNoted(str(folder)) as errors:
        return run_in_order_of(plan.seed, _carry_out, plan, folder, patience, errors, instruments=(patience,))


async def _carry_out(plan: Plan, folder: Path, patience: Patience, errors: ErrorsNoted) -> Trace:
    world = World(plan, folder)
    patience.give_up = world.give_up
    errors.trace = world.trace
    system_tasks = _system_tasks()
    await world.run()
    world.trace.note("world", "end", "", f"{_system_tasks() - system_tasks} tasks left")
    return world.trace


def _system_tasks() -> int:
    """Nurseries own all other tasks, so that only these can be left."""
    root = trio.lowlevel.current_root_task()
    return 0 if root is None else sum(len(nursery.child_tasks) for nursery in root.child_nurseries)


@define(eq=False)
class Host:
    """Where one worker lives after the other."""

    number: int
    draw: Random
    disk: Disk | None
    lives: int = 0
    life: WorkerLife | None = None
    seen: dict[Point, int] = field(factory=dict)
    """How often a life of it came by each point."""


@define(eq=False)
class World:
    """Everything of one seed."""

    plan: Plan
    folder: Path
    """For the disks of the hosts."""
    trace: Trace = field(init=False)
    broker: EmbeddedBroker = field(factory=EmbeddedBroker, init=False)
    signals: LocalSignals = field(factory=LocalSignals, init=False)
    _hosts: list[Host] = field(init=False)
    _traps: dict[tuple[int, Point, int], Fault] = field(init=False)
    _is_over: bool = field(default=False, init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _restores: trio.Nursery = field(init=False)
    _kills: Counter[int] = field(factory=Counter, init=False)
    _sent: dict[int, Publication] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.trace = Trace(trio.current_time)
        self._hosts = [self._host(number) for number in range(self.plan.hosts)]
        self._traps = {(trap.host, trap.point, trap.nth): trap.fault for trap in self.plan.traps}

    async def run(self) -> None:
        """Carry the plan out, wait for quiet, and let everybody leave. If cancelled, everybody is dead."""
        await self._declare()
        with self._scope:
            async with trio.open_nursery() as hosts, trio.open_nursery() as self._restores:
                for host in self._hosts:
                    hosts.start_soon(self._inhabit, host)
                for step in self.plan.steps:
                    await trio.sleep_until(max(step.at, 0.0))
                    self._take(step)
                await trio.sleep_until(CALM_AT)
                await self._quiet()
                self._is_over = True
                for host in self._hosts:
                    if host.life is not None:
                        self._look_inside(host.life)
                        host.life.drain()
        for name in self.broker.queues:
            view = self.broker.queue(name)
            is_work = name.startswith(topology.JOB_QUEUE_PREFIX) or name == topology.HOP_QUEUE
            if view.unacked or (is_work and view.depth):
                self.trace.note("world", "left in", name, f"{view.depth} messages, {view.unacked} unsettled")

    def give_up(self) -> None:
        """End at once: the tasks wake each other for ever."""
        self.trace.note("world", "livelock")
        for host in self._hosts:
            if host.life is not None:
                host.life.crash()
        self._is_over = True
        self._scope.cancel()

    # --- hosts ------------------------------------------------------------------------------------------------------

    def _host(self, number: int) -> Host:
        disk = None
        if self.plan.with_disk:
            disk = Disk(self.folder / f"h{number}", lambda: self.trace.note(f"h{number}", "disk lost"))
        return Host(number, Random(f"host {self.plan.seed} {number}"), disk)

    async def _declare(self) -> None:
        """Make the queues, as a worker that ran once has: what is dispatched before never was."""
        worker = worker_for(self.plan, "first", self.broker, self.signals)
        worker.prepare()
        self.broker.declare_nowait(topology_of(worker.registry.jobs))
        await trio.lowlevel.checkpoint()

    async def _inhabit(self, host: Host) -> None:
        while not self._is_over:
            name = f"h{host.number}.{host.lives}"
            host.lives += 1
            life = host.life = self._born(host, name)
            await life.live()
            host.life = None
            if host.disk is not None:
                host.disk.let_go(lose=life.is_dead and host.draw.random() < self.plan.loses_disk)
            if not self._is_over:
                await trio.sleep(host.draw.choice(RESTART_GAPS))

    def _born(self, host: Host, name: str) -> WorkerLife:
        def note(what: str, subject: str, detail: str, body: bytes) -> None:
            life.note(what, subject, detail, body)

        cable = Cable(self.broker, self.plan.lag, note, lambda point: life.reach(point))
        life = WorkerLife(
            name=name,
            plan=self.plan,
            trace=self.trace,
            cable=cable,
            worker=worker_for(self.plan, name, cable, self.signals),
            spring=partial(self._spring, host),
            disk=host.disk,
            kills=self._kills,
        )
        return life

    def _spring(self, host: Host, life: WorkerLife, point: Point) -> None:
        nth = host.seen[point] = host.seen.get(point, 0) + 1
        fault = self._traps.get((host.number, point, nth))
        if fault is not None and not self._is_over:
            self.trace.note("world", "trap", life.name, f"{fault} {point}")
            hurt(life, fault, TRAPPED_FOR, 1, self._restores)

    # --- the script -------------------------------------------------------------------------------------------------

    def _take(self, step: Step) -> None:
        match step.kind:
            case StepKind.DISPATCH | StepKind.AGAIN:
                self._dispatch(self.plan.by_number[step.occurrence])
            case StepKind.COPY:
                sent = self._sent[step.occurrence]
                self.trace.note("api", "copied", about(sent.message))
                self.broker.publish_nowait(sent)
            case StepKind.CANCEL:
                self._cancel(step.occurrence)
            case StepKind.FAULT:
                self._fault(step)

    def _dispatch(self, fate: Fate) -> None:
        occurrence = identity(fate.number)
        body = encode_job(
            JobMessage(
                id=_JOB_ID,
                display_name=fate.job,
                job_name_in_worker="Nobodys" if fate.kind is Kind.UNKNOWN else fate.job,
                job_data='{"number": "x"}' if fate.kind is Kind.WRONG_DATA else f'{{"number": {fate.number}}}',
                execution_timeout_seconds=fate.limit,
                execute_at=Instant.from_unix_ns(STAMPS_FROM * 10**9),
                is_active=True,
            )
        )
        if fate.kind is Kind.BROKEN:
            body = f'{{"Id":"{_JOB_ID}","JobNameInWorker":"{fate.job}","ExecutionTimeoutSeconds":"soon"}}'.encode()
        message = Message(
            body=body,
            headers={headers.OCCURRENCE_ID: occurrence, HEADER: f"kept {fate.number}"},
            message_id=f"dispatch:{occurrence}",
            correlation_id=occurrence,
            timestamp=STAMPS_FROM + int(trio.current_time()),
        )
        pattern = topology.routing_pattern(WORKER_ID, fate.job)
        publication = Publication(message, topology.routing_key(pattern), topology.JOBS_EXCHANGE)
        self._sent.setdefault(fate.number, publication)
        self.trace.note("api", "dispatched", about(message), f"{fate.job} {fate.kind.name}")
        self.broker.publish_nowait(publication)

    def _cancel(self, number: int) -> None:
        alive = sum(not life.is_dead for life in self._lives(WORLD))
        cancellation = Cancellation(occurrence_id=identity(number), reason="the script says so")
        heard = "all" if self.signals.cancel(cancellation) >= alive else "some"
        self.trace.note("api", "cancelled", identity(number), f"heard by {heard}")

    def _fault(self, step: Step) -> None:
        fault = step.fault
        if fault is None:
            return
        whose = "everybody" if step.host == WORLD else f"host {step.host}"
        self.trace.note("world", "fault", whose, f"{fault} for {step.seconds:g} s, count {step.count}")
        if fault is Fault.DEAF:
            self._restores.start_soon(self._deaf, step.seconds)
        else:
            for life in self._lives(step.host):
                hurt(life, fault, step.seconds, step.count, self._restores)

    def _lives(self, number: int) -> Iterator[WorkerLife]:
        for host in self._hosts:
            if number in (host.number, WORLD) and host.life is not None:
                yield host.life

    async def _deaf(self, seconds: float) -> None:
        with self.signals.unreachable():
            await trio.sleep(seconds)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        until = trio.current_time() + LONGEST_CALM
        while not self._is_quiet():
            if trio.current_time() >= until:
                self.trace.note("world", "never quiet", "", ", ".join(self._unrest()))
                return
            await trio.sleep(10)

    def _is_quiet(self) -> bool:
        return not self._restores.child_tasks and not any(self._unrest())

    def _unrest(self) -> Iterator[str]:
        if self.broker.delayed:
            yield f"{self.broker.delayed} delayed"
        for name in self.broker.queues:
            view = self.broker.queue(name)
            is_work = name.startswith(topology.JOB_QUEUE_PREFIX) or name == topology.HOP_QUEUE
            if view.unacked or (is_work and view.ready):
                yield f"{name}: {len(view.ready)} ready, {view.unacked} unsettled"
        for host in self._hosts:
            house = None if host.life is None else host.life.house
            if house is None or house.publishing.current is None or house.consuming.current is None:
                yield f"host {host.number} is not up"
            elif not house.runs.is_settled:
                yield f"host {host.number} has unsettled deliveries"
            elif pending := _pending(house.outbox):
                yield f"host {host.number} has {pending} rows"

    def _look_inside(self, life: WorkerLife) -> None:
        """Note what a worker without work still holds on to."""
        house = life.house
        if house is None:
            return
        held = {
            "runs in the ledger": len(house.runs.ledger),
            "running": house.runs.running,
            "slots": house.dispatcher.worker_slots.taken,
            "waiting for slots": house.dispatcher.waiting,
            "at the hop": house.hops.in_hand,
        }
        if any(held.values()):
            self.trace.note("world", "held", life.name, str(held))


def _pending(outbox: object) -> int:
    backlog = getattr(outbox, "_backlog", None)
    return 0 if backlog is None else int(backlog.pending)
