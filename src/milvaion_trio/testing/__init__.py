"""What jobs and workers are tested with: in this process, on an embedded broker, hours in milliseconds.

run_job     one attempt of one job, and how it ended
under_test  a whole worker, to enqueue to, to cancel in, and to read the messages of
virtual     `trio.run` with a clock that jumps ahead as soon as everybody waits
"""

from milvaion_trio.testing.clock import VIRTUAL_START as VIRTUAL_START
from milvaion_trio.testing.clock import virtual as virtual
from milvaion_trio.testing.job_run import JobRun as JobRun
from milvaion_trio.testing.job_run import run_job as run_job
from milvaion_trio.testing.recorder import OccurrenceView as OccurrenceView
from milvaion_trio.testing.recorder import Published as Published
from milvaion_trio.testing.recorder import WaitingRetry as WaitingRetry
from milvaion_trio.testing.worker_kit import WorkerUnderTest as WorkerUnderTest
from milvaion_trio.testing.worker_kit import under_test as under_test

__all__ = [
    "run_job",
    "JobRun",
    "under_test",
    "WorkerUnderTest",
    "OccurrenceView",
    "Published",
    "WaitingRetry",
    "virtual",
    "VIRTUAL_START",
]
