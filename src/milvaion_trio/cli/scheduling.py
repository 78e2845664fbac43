"""What the `schedule` commands ask for, done with a book: by a dev worker for other terminals, or in a cluster."""

import json
import time
from collections.abc import Awaitable, Callable

from milvaion_trio.cli.cluster import CONNECT_TIMEOUT, Cluster
from milvaion_trio.cli.control import Done, Scheduling
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.schedule_rows import facts_of
from milvaion_trio.client import Client
from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.policy.scheduling import is_over
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.scheduler.desk import ScheduleDesk, planned
from milvaion_trio.transports import coordination_for

__all__ = ["carry_out", "carry_out_in_cluster"]

NO_BOOK = "The settings name no Redis (Worker:Redis:ConnectionString), and the schedules of a cluster are kept there."


async def carry_out(
    request: Scheduling,
    desk: ScheduleDesk,
    find: Callable[[str], Destination],
    publish: Callable[[Publication], Awaitable[object]],
    show: Callable[[str], object],
) -> Done:
    """Do it, show the schedules that it is about, a JSON object each, and return what to say.

    Raises `CommandFailed`, `NoSuchSchedule` and what publishing raises. If cancelled, it may be done.
    """
    name = request.schedule_id or ""
    match request.act:
        case "list" | "next":
            entries = await desk.entries() if request.act == "list" else [await desk.entry(name)]
            for entry in entries:
                show(json.dumps(facts_of(entry, desk.now(), request.count)))
            return Done()
        case "add":
            try:
                schedule = planned(find(request.job or ""), request.keywords)
                is_news = await desk.put(schedule)
            except SettingsError as error:  # whose own text is about a worker that does not start
                raise CommandFailed("\n".join(error.problems)) from error
            show(json.dumps(facts_of(await desk.entry(schedule.id), desk.now(), request.count)))
            return Done(text=schedule.id, note=None if is_news else f"{schedule.id} was there already, just so")
        case "pause":
            await desk.pause(name)
            return Done(text=name, note=f"{name} is paused: its ticks do not run until it is resumed")
        case "resume":
            await desk.resume(name)
            if is_over(await desk.entry(name)):
                return Done(text=name, note=f"{name} is not paused, and stays over: no time of it is to come")
            return Done(text=name, note=f"{name} goes on; what was due meanwhile does not run")
        case "remove":
            entry = await desk.entry(name)
            await desk.remove(name)
            is_declared = entry.schedule.origin != "client"
            comes_back = "; a worker that declares it brings it back when it starts" if is_declared else ""
            return Done(text=name, note=f"{name} is removed{comes_back}")
        case "trigger":
            publication = await desk.by_hand(name)
            await publish(publication)
            return Done(occurrence_id=headers.occurrence_id(publication.message))
    raise CommandFailed(f"Nobody can {request.act!r} a schedule.")


async def carry_out_in_cluster(
    cluster: Cluster, request: Scheduling, group: str | None, show: Callable[[str], object]
) -> Done:
    """Do it with the Redis of the settings; a new schedule is for the group of workers, that of the settings unless
    given. Raises as `carry_out`. If cancelled, it may be done.
    """
    coordination = coordination_for(cluster.settings)
    if cluster.settings.redis is None or coordination is None:
        raise CommandFailed(NO_BOOK)
    client = Client.from_settings(cluster.settings, worker_id=group, connect_timeout=CONNECT_TIMEOUT)  # connects later
    desk = ScheduleDesk(coordination, lambda: time.time_ns() // 1_000_000)
    try:
        async with coordination.open():
            return await carry_out(request, desk, client.destination, cluster.publish, show)
    except LinkLost as lost:
        unknown = "" if request.act in ("list", "next") else "; nobody knows whether it was done"
        raise CommandFailed(f"{str(lost).rstrip('.')}{unknown}.") from lost
