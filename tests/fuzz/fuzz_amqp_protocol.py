"""Any bytes from a broker: the AMQP core gives events or a `ProtocolError`, nothing else, and splits do not matter.

Run it with the coverage-guided fuzzer Atheris, which is no dependency: `python -m tests.fuzz.fuzz_amqp_protocol`, with
a folder for its findings if wanted. A few hundred inputs are played by `test_fuzz_targets` on every run.
"""

import sys
from importlib import import_module

from pamqp import commands
from tests.support.amqp_peer import greeting, login, open_channel, opened, tune

from milvaion_trio.broker.amqp.events import AnsweredEvent, Event, ProtocolError
from milvaion_trio.broker.amqp.protocol import Protocol, State

__all__ = ["target"]


def target(data: bytes) -> None:
    """Play one input: its first byte says how far the connection has come, its second how large the reads are."""
    if len(data) < 2:
        return
    stage, size, data = data[0] % 6, data[1] + 1, data[2:]
    whole, broken = _played(_at(stage), data, len(data) or 1)
    pieces, broken_too = _played(_at(stage), data, size)
    assert broken == broken_too
    # What comes with a mistake in one read is lost with it, so that smaller reads may tell more.
    assert broken or _comparable(whole) == _comparable(pieces)
    assert len(pieces) <= len(data) // 8


def _at(stage: int) -> Protocol:
    """A connection that has come so far."""
    if stage < 3:
        protocol = Protocol(login())
        protocol.start()
        protocol.feed((b"", greeting(), greeting() + tune())[stage])
        return protocol
    protocol = opened()
    channel = open_channel(protocol)
    protocol.ask(channel, commands.Queue.Declare(queue="q"))
    protocol.open_channel()
    if stage == 4:
        protocol.end_channel(channel)
    if stage == 5:
        protocol.end()
    return protocol


def _played(protocol: Protocol, data: bytes, size: int) -> tuple[list[Event], bool]:
    """The events, and whether it ended with a mistake; reads are of that many bytes."""
    events: list[Event] = []
    for at in range(0, len(data), size):
        try:
            events += protocol.feed(data[at : at + size])
        except ProtocolError:
            assert protocol.state is State.BROKEN
            return events, True
        protocol.output()
    return events, False


def _comparable(events: list[Event]) -> list[object]:
    """The same events are equal; pamqp's objects are not."""
    return [(event.question, dict(event.method)) if isinstance(event, AnsweredEvent) else event for event in events]


def main() -> None:
    """Fuzz until something is found."""
    try:
        atheris = import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("Atheris is not installed: pip install atheris (it brings libFuzzer along, for CPython on Linux).")
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
