"""The targets of the fuzzer hold for a few hundred inputs of every kind, without the fuzzer."""

import random
import subprocess
import sys

import pytest
from tests.fuzz.fuzz_amqp_protocol import target
from tests.support.amqp_peer import CLOSE_OK, OPEN_OK, close, delivery, frame, greeting, method, returned, tune

SEEDS = [
    greeting(),
    tune() + OPEN_OK,
    OPEN_OK,
    delivery(1, 1, b"body", piece=3) + method(1, 60, 80, bytes(9)),
    delivery(2, 1, b"body") + returned(1, b"x" * 300),
    method(1, 50, 11, b"\x01q" + bytes(8)) + method(2, 20, 11, bytes(4)),
    close(1) + close(2) + close(),
    CLOSE_OK + frame(8, 0, b""),
]
"""What a broker says."""


def inputs(seed: int, count: int) -> list[bytes]:
    """Rubbish, and what a broker says with some bytes changed, cut out, put in or left away."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        data = bytearray(b"".join(chance.choices(SEEDS, k=chance.randrange(4))))
        for _ in range(chance.randrange(5)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        if chance.random() < 0.1:
            data = bytearray(chance.randbytes(chance.randrange(200)))
        found.append(bytes([chance.randrange(256), chance.choice([0, 1, 6, 30, 255])]) + bytes(data))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_amqp_core_stands_any_bytes(seed: int) -> None:
    for data in inputs(seed, 150):
        target(data)


def test_the_inputs_reach_both_ends() -> None:
    """Otherwise these tests would prove nothing."""
    for data in (b"", b"\0", b"\0\0"):
        target(data)
    target(b"\3\x05" + delivery(1, 1, b"body", piece=3))


def test_without_the_fuzzer_it_is_said_how_to_get_it() -> None:
    script = "import sys; sys.modules['atheris'] = None; from tests.fuzz import fuzz_amqp_protocol as f; f.main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "pip install atheris" in ended.stderr
