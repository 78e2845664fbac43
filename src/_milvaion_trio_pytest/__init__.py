"""Pytest fixtures for tests of jobs and workers; pytest finds this module by itself (entry point `pytest11`).

Outside of `milvaion_trio`, as pytest imports it at every start, and a module inside would bring all of the package
along: it imports nothing but pytest until a fixture is used.
The fixtures are plain ones: they need neither pytest-trio nor a running Trio.

With pytest-trio (`trio_mode = true`), in real time or, with its fixture `autojump_clock`, in virtual time:

    async def test_a_mail_is_sent(milvaion_worker, autojump_clock):
        worker = milvaion_worker("email-worker")
        worker.add(send_email)

        async with under_test(worker) as kit:
            occurrence_id = kit.enqueue(send_email, {"to": "ada@example.org"})
            await kit.run_until_idle()

        assert kit.occurrence(occurrence_id).result == "sent"

Without it, `virtual` runs the async part of a test: `assert virtual(run_job, send_email, data).succeeded`.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from milvaion_trio import Worker
    from milvaion_trio.broker.embedded import EmbeddedBroker

__all__ = ["milvaion_broker", "milvaion_worker"]


@pytest.fixture
def milvaion_broker() -> "EmbeddedBroker":
    """An empty broker of this test, in its process. Give it to workers and clients, look into its queues."""
    from milvaion_trio.broker.embedded import EmbeddedBroker

    return EmbeddedBroker()


@pytest.fixture
def milvaion_worker(milvaion_broker: "EmbeddedBroker") -> "Callable[..., Worker]":
    """A function that makes workers which share the test's broker and its cancel signals.

    It takes what `Worker` takes: `milvaion_worker("email-worker")`, `milvaion_worker(settings=WorkerSettings(…))`.
    """
    from functools import partial

    from milvaion_trio import Worker
    from milvaion_trio.signals.local import LocalSignals

    return partial(Worker, broker=milvaion_broker, signals=LocalSignals())
