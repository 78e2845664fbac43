"""`outbox` shows what a worker still has to report, and sends it when no worker does."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.amqp import connect
from tests.support.commands import call_command
from tests.support.disks import disk_outbox
from tests.support.reports import FINAL, LOG, A, attempt
from tests.support.settings_files import write_settings

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.ports import Report, ReportKind


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data" / "report-worker.outbox.db"


@pytest.fixture
def config(vhost: str, tmp_path: Path) -> Path:
    return write_settings(tmp_path, vhost, OfflineResilience={"LocalStoragePath": str(tmp_path / "data")})


def waiting(kind: ReportKind, name: str) -> Report:
    message = Message(body=name.encode(), message_id=name, headers={"x-retry-count": 1})
    return Report(kind, Publication(message, topology.STATUS_QUEUE), A)


async def leave_behind(place: Path) -> None:
    """What a worker leaves that ends while the broker is away."""
    outbox = disk_outbox(place)
    async with outbox.open():
        with trio.move_on_after(0.2):
            await outbox.conclude(attempt(), [waiting(LOG, "log"), waiting(FINAL, "final")])


async def test_what_waits_is_listed_in_order_and_stays(config: Path, place: Path) -> None:
    await leave_behind(place)

    shown = await call_command("outbox", "list", "--config", config)
    facts = json.loads((await call_command("outbox", "list", "--json", "--limit", "1", "--config", config)).out)

    assert shown.code == 0
    rows = [line.split() for line in shown.lines if A in line]
    assert [row[1] for row in rows] == ["log", "final"]
    assert f"{place}: 2 reports waiting." in shown.err
    assert facts["path"] == str(place)
    assert facts["waiting"] == 2
    assert [(row["kind"], row["occurrence_id"], row["routing_key"], row["bytes"]) for row in facts["reports"]] == [
        ("log", A, topology.STATUS_QUEUE, 3)
    ]


async def test_what_waits_is_shown_while_a_worker_has_it(config: Path, place: Path) -> None:
    outbox = disk_outbox(place)
    async with outbox.open():
        with trio.move_on_after(0.2):
            await outbox.conclude(attempt(), [waiting(FINAL, "final")])

        facts = json.loads((await call_command("outbox", "list", "--json", "--config", config)).out)
        flushed = await call_command("outbox", "flush", "--config", config)

    assert facts["waiting"] == 1
    assert flushed.code == 1
    assert "belongs to another worker" in flushed.err
    assert "it sends them by itself" in flushed.err


async def test_what_waits_is_sent_once_by_flush(config: Path, place: Path, vhost: str) -> None:
    await leave_behind(place)
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_queue(topology.STATUS_QUEUE)

        flushed = await call_command("outbox", "flush", "--config", config)
        again = await call_command("outbox", "flush", "--config", config)
        deliveries = await client.consume(topology.STATUS_QUEUE)
        arrived = [await deliveries.receive() for _ in range(2)]

    assert (flushed.code, flushed.out) == (0, "sent 2 reports\n")
    assert (again.code, again.out) == (0, "sent 0 reports\n")
    assert [delivery.body for delivery in arrived] == [b"log", b"final"]


async def test_what_the_broker_does_not_take_stays(config: Path, place: Path) -> None:
    """There is no such queue."""
    await leave_behind(place)

    flushed = await call_command("outbox", "flush", "--timeout", "1", "--config", config)
    facts = json.loads((await call_command("outbox", "list", "--json", "--config", config)).out)

    assert flushed.code == 1
    assert f"2 reports could not be sent within 1 s and stay in {place}." in flushed.err
    assert facts["waiting"] == 2


async def test_a_broker_that_is_away_costs_nothing(config: Path, place: Path) -> None:
    await leave_behind(place)

    flushed = await call_command("outbox", "flush", "--config", config, "--set", f"rabbitmq.port={servers.free_port()}")

    assert flushed.code == 1
    assert f"What was not sent is still in {place}." in flushed.err


async def test_where_there_is_no_outbox_nothing_waits_and_nothing_is_made(config: Path, place: Path) -> None:
    shown = await call_command("outbox", "list", "--config", config)
    flushed = await call_command("outbox", "flush", "--config", config)

    assert (shown.code, flushed.code, flushed.out) == (0, 0, "sent 0 reports\n")
    assert f"There is no outbox {place} yet." in shown.err
    assert not place.parent.exists()


async def test_a_foreign_file_is_told_and_left_alone(config: Path, place: Path) -> None:
    place.parent.mkdir()
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("CREATE TABLE theirs (x)")

    shown = await call_command("outbox", "list", "--config", config)

    assert shown.code == 1
    assert f"{place} is no outbox of this version of milvaion-trio." in shown.err


async def test_an_outbox_in_memory_cannot_be_looked_into(config: Path) -> None:
    shown = await call_command("outbox", "list", "--config", config, "--set", "offline_resilience.enabled=false")

    assert shown.code == 2
    assert "error: --set offline_resilience.enabled is false: this worker keeps its outbox in memory" in shown.err
