"""A worker to hang jobs on, for tests that need no settings of their own, and an outbox in trouble."""

from collections.abc import Callable

import pytest

from milvaion_trio import Worker
from milvaion_trio.outbox.memory import MemoryOutbox


@pytest.fixture
def worker() -> Worker:
    return Worker("tests", observers=())


@pytest.fixture
def outbox_trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Brings the first outbox of this test into trouble, also before there is one, or with "" out of it."""
    tellers: list[Callable[[str], None]] = []
    now = ""

    def on_trouble(_: MemoryOutbox, tell: Callable[[str], None]) -> None:
        if not tellers:
            tellers.append(tell)
            if now:
                tell(now)

    def tell_all(trouble: str) -> None:
        nonlocal now
        now = trouble
        for tell in tellers:
            tell(trouble)

    monkeypatch.setattr(MemoryOutbox, "on_trouble", on_trouble)
    return tell_all
