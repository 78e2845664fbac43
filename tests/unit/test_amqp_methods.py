"""Methods as bytes, judged by pamqp where it does what RabbitMQ does."""

import itertools

import pytest
from pamqp import frame
from pamqp.base import Frame

from milvaion_trio.broker.amqp.events import ProtocolError
from milvaion_trio.broker.amqp.methods import METHODS, frame_of, method_of

VALUES = {
    "octet": 7,
    "short": 700,
    "long": 70_000,
    "longlong": 2**40,
    "shortstr": "text",
    "longstr": "longer",
    "table": {},
}
KINDS = [kind for kind in METHODS.values() if kind.name != "Basic.RecoverAsync"]
"""pamqp warns of that one; a server never sends it."""


def filled(kind: type[Frame], bits: int) -> Frame:
    """A method in which everything says something."""
    method = kind()
    positions = itertools.count()
    for name in method.attributes():
        of = method.amqp_type(name)
        setattr(method, name, bool(bits >> next(positions) & 1) if of == "bit" else VALUES[of])
    return method


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("bits", [0, 0b1, 0b10, 0b110, 0b10011, 0b11111])
def test_methods_are_written_and_read_as_pamqp_does(
    kind: type[Frame], bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "validate", lambda _: None)  # it takes some texts and numbers only
    method = filled(kind, bits)

    data = frame_of(3, method)

    assert data == frame.marshal(method, 3)
    assert type(method_of(data[7:-1])) is kind
    assert dict(method_of(data[7:-1])) == dict(method)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_method_that_ends_too_early_is_a_mistake(kind: type[Frame]) -> None:
    payload = frame_of(3, filled(kind, 1))[7:-1]

    for length in range(len(payload)):
        with pytest.raises(ProtocolError, match="too early"):
            method_of(payload[:length])


@pytest.mark.parametrize("text", ["ä" * 128, "\ud800"])
def test_a_text_that_fits_no_short_string_is_refused(text: str) -> None:
    method = METHODS[0x32000A]()
    setattr(method, "queue", text)  # noqa: B010  # pamqp's types do not say which method it is

    with pytest.raises(ProtocolError, match=r"Queue.Declare: queue .* is no text of up to 255 bytes"):
        frame_of(1, method)
