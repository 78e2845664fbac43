"""The simulation of whole workers: it finds nothing, it finds what is planted, and a seed says the same anywhere."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torture.simulation.planted import PLANTED, planted
from torture.simulation.seeds import play, play_all

import torture

SEEDS = 60
SHARE = 30
"""Of them in one test, so that several processes share the work."""

TALKATIVE = (2, 3, 5, 8, 9, 11)
"""Seeds with and without disks, with crashes, traps and long delays."""

FOUND_AT = {
    "ack-before-confirm": 0,
    "no-concluded-check": 1,
    "no-adoption": 3,
    "order-broken": 161,
    "old-retry-count": 0,
    "forgotten-before-confirm": 8,
    "published-before-written": 1,
}
"""A seed that finds each planted bug; `python -m torture run T24 --seed 0 --sabotage NAME` finds the first one."""


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_no_seed_fails(first: int) -> None:
    """Nothing is lost, nothing is told twice or out of order, and all comes to rest, whatever happens meanwhile."""
    figures = play_all(range(first, first + SHARE))

    assert figures.findings == []
    assert figures.seeds == SHARE
    assert len(figures.faults) > 10


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    """A simulation that cannot fail proves nothing."""
    seed = FOUND_AT[bug]

    with planted(bug):
        _, _, problems = play(seed)

    assert problems
    assert not play(seed)[2]


def test_a_seed_tells_the_same_story_in_any_process() -> None:
    """Byte for byte, also where sets and dicts have another order and other seeds were played before."""
    here = _digests(TALKATIVE)

    assert _digests_elsewhere(TALKATIVE, hash_seed="1") == here
    assert _digests_elsewhere(tuple(reversed(TALKATIVE)), hash_seed="2") == here[::-1]


def _digests(seeds: Sequence[int]) -> list[str]:
    return [hashlib.sha256("\n".join(play(seed)[1].lines()).encode()).hexdigest() for seed in seeds]


def _digests_elsewhere(seeds: Sequence[int], *, hash_seed: str) -> list[str]:
    code = f"from tests.torture.test_simulation import _digests; print(*_digests({tuple(seeds)}))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(torture.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
