"""A round of the comparison, on real servers: it gives figures or a reason, and no process outlives it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import evolve
from benchmarks.peers import processes
from benchmarks.peers.environments import ROOT
from benchmarks.peers.roster import ECHO, SOCKETS, Entry
from benchmarks.peers.stage import Ground, RoundFailed
from benchmarks.peers.throughput import throughput
from tests.support.processes import is_alive
from tests.support.servers import RedisServer, rabbitmq, redis

HANGS = "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); "


@pytest.fixture
def ground() -> Ground:
    return Ground(rabbitmq(), redis(), patience=30.0)


def broken(worker: str) -> Entry:
    return evolve(ECHO, worker=("-c", worker))


def test_a_round_counts_every_job_and_leaves_none(ground: Ground) -> None:
    measured = throughput(ground, ECHO, 10_000)

    assert measured["left_in_queue"] == 0
    assert measured["jobs_per_second"] > 0
    assert measured["worker_cpu_us"] > 0
    assert measured["broker_cpu_us"] > 0
    assert 1 < measured["resident_mb"] < 100


def test_the_bare_socket_reports_every_job_twice_and_acknowledges_all(ground: Ground) -> None:
    """What it gives is the most a worker could do that does the same, so it must do the same."""
    measured = throughput(ground, SOCKETS[0], 3_000)

    assert (measured["statuses_per_job"], measured["left_in_queue"]) == (2.0, 0)


@pytest.mark.parametrize(("written", "counted"), [(3000, 1.0), (1200, 0.4)])
def test_states_are_counted_and_those_of_other_rounds_are_not(written: int, counted: float) -> None:
    """On a Redis of its own, as it is emptied."""
    keeps = (
        "import os, socket, runpy; port = int(os.environ['BENCH_STATES'].split(':')[2].split('/')[0]);"
        "redis = socket.create_connection(('127.0.0.1', port));"
        f"redis.sendall(b''.join(b'SET job:%d:%d done\\r\\n' % (os.getpid(), n) for n in range({written})));"
        "runpy.run_module('benchmarks.peers.programs.echo', run_name='__main__')"
    )
    entry = evolve(broken(keeps), keeps_states=True)
    with RedisServer() as private:
        ground = Ground(rabbitmq(), private, patience=30.0)
        with ground.stage(entry) as stage:
            assert stage.servers == [rabbitmq().pid, private.pid]
        throughput(ground, entry, 3_000)

        assert throughput(ground, entry, 3_000)["statuses_per_job"] == counted


def test_a_worker_that_ends_is_no_round_and_says_why(ground: Ground) -> None:
    with pytest.raises(RoundFailed, match=r"the worker ended after 0 of 30 jobs; .*no such thing"):
        throughput(ground, broken("raise SystemExit('no such thing')"), 300)


def test_a_worker_that_hangs_is_ended_with_all_it_started(ground: Ground) -> None:
    """Also what ignores the signal that asks it to leave."""
    ground.patience = 4.0

    with pytest.raises(RoundFailed, match="the time was over after 0 of 30 jobs") as failed:
        throughput(ground, broken(HANGS + "time.sleep(600)"), 300)
    child = int(str(failed.value).rpartition("; ")[2])
    assert not is_alive(child)


@pytest.mark.parametrize(("is_on_one_core", "cores"), [(True, 1), (False, len(os.sched_getaffinity(0)))])
def test_a_row_on_one_core_has_one(ground: Ground, is_on_one_core: bool, cores: int) -> None:
    says = "import os; raise SystemExit(f'has {len(os.sched_getaffinity(0))} of them')"

    with pytest.raises(RoundFailed, match=f"has {cores} of them"):
        throughput(ground, evolve(broken(says), is_on_one_core=is_on_one_core), 10)


def test_a_program_that_cannot_enqueue_says_why(ground: Ground) -> None:
    with pytest.raises(RoundFailed, match="No module named"):
        throughput(ground, evolve(ECHO, program="missing"), 10)


def test_a_worker_does_not_outlive_a_harness_that_is_killed(tmp_path: Path) -> None:
    script = (
        "from benchmarks.peers.stage import Stage; from benchmarks.peers.roster import ECHO; import attrs, sys, time;"
        "from pathlib import Path; from types import SimpleNamespace;"
        f"entry = attrs.evolve(ECHO, worker=('-c', 'import time; time.sleep(600)'));"
        f"stage = Stage(entry, SimpleNamespace(url='', pid=1), Path(sys.executable), Path({str(tmp_path)!r}), 0.0);"
        "stage.start(); print(stage.worker.pid, flush=True); time.sleep(600)"
    )
    harness = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert harness.stdout is not None
    with harness.stdout:
        worker = int(harness.stdout.readline())

    assert is_alive(worker)
    harness.kill()
    harness.wait()
    assert processes.until(lambda: not is_alive(worker), time.monotonic() + 30)


def test_a_family_is_all_that_a_process_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    leader = subprocess.Popen([sys.executable, "-c", script])

    assert processes.until(lambda: len(processes.family(leader.pid)) == 2, time.monotonic() + 30)
    members = processes.family(leader.pid)
    assert processes.cpu_seconds(members) > 0
    assert processes.end(leader)
    assert [pid for pid in members if is_alive(pid)] == []


def test_who_does_not_leave_is_killed() -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    leader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"on\n"

    with leader.stdout:
        assert not processes.end(leader, patience=0.2)
    assert leader.returncode == -9
