"""What the demo shows, and what it promises: the order of the jobs, and how each of them must end.

Separate from the jobs, which know nothing of it, and from the command, which only plays it.
"""

from attrs import frozen

from milvaion_trio.cli import demo_jobs as jobs
from milvaion_trio.cli.demo_record import Ending, Fate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.runtime.definition import JobDefinition

__all__ = ["CANCELLED", "STORY", "Scene", "broken_promises"]

_RUNNING, _COMPLETED, _FAILED = OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED, OccurrenceStatus.FAILED


@frozen(kw_only=True)
class Scene:
    """One occurrence: what is enqueued, what it shows, and how it must end."""

    job: JobDefinition[..., object]
    shows: str
    data: object = None
    ending: Ending
    attempts: int = 1
    statuses: tuple[OccurrenceStatus, ...]
    """Everything that must be reported about it, in this order."""
    says: str = ""
    """Part of the result or the error."""


STORY: tuple[Scene, ...] = (
    Scene(
        job=jobs.send_email,
        data=jobs.Email("ada@example.org"),
        shows="logs and tells its progress",
        ending=Ending.COMPLETED,
        statuses=(_RUNNING, _COMPLETED),
        says="sent to ada@example.org",
    ),
    Scene(
        job=jobs.resize_image,
        data={"path": "logo.png", "WIDTH": 640, "height": 480},
        shows="typed data in, typed data out",
        ending=Ending.COMPLETED,
        statuses=(_RUNNING, _COMPLETED),
        says='"path":"logo-small.png"',
    ),
    Scene(
        job=jobs.count_words,
        data="to be or not to be",
        shows="a plain function, in a thread",
        ending=Ending.COMPLETED,
        statuses=(_RUNNING, _COMPLETED),
        says='"be":2',
    ),
    Scene(
        job=jobs.sync_stock,
        shows="fails twice, then recovers",
        ending=Ending.COMPLETED,
        attempts=3,
        statuses=(_RUNNING, _RUNNING, _RUNNING, _COMPLETED),
        says="1204 articles",
    ),
    Scene(
        job=jobs.print_label,
        shows="fails until its retries are used up",
        ending=Ending.DEAD_LETTER,
        attempts=3,
        statuses=(_RUNNING, _RUNNING, _RUNNING, _FAILED),
        says="out of paper",
    ),
    Scene(
        job=jobs.charge_card,
        shows="fails for good at once",
        ending=Ending.DEAD_LETTER,
        statuses=(_RUNNING, _FAILED),
        says="stolen",
    ),
    Scene(
        job=jobs.send_invoice,
        data={"number": "seven", "sum": 12.5},
        shows="gets data that does not fit",
        ending=Ending.DEAD_LETTER,
        statuses=(_RUNNING, _FAILED),
        says="does not fit the job",
    ),
    Scene(
        job=jobs.crawl_site,
        shows="exceeds its time limit of 2 s",
        ending=Ending.TIMED_OUT,
        statuses=(_RUNNING, OccurrenceStatus.TIMED_OUT),
        says="its limit is 2 s",
    ),
    Scene(
        job=jobs.export_video,
        shows="is cancelled by a signal",
        ending=Ending.CANCELLED,
        statuses=(_RUNNING, OccurrenceStatus.CANCELLED),
        says="nobody wants it any more",
    ),
    Scene(
        job=jobs.await_payment,
        shows="snoozes until it can go on",
        ending=Ending.COMPLETED,
        statuses=(_RUNNING, _RUNNING, _RUNNING, _COMPLETED),
        says="paid",
    ),
    Scene(
        job=jobs.build_index,
        shows="still runs when the worker leaves",
        ending=Ending.RETURNED,
        statuses=(_RUNNING,),
    ),
)

CANCELLED = jobs.export_video.name
"""The job whose occurrence the demo cancels."""


def broken_promises(scene: Scene, fate: Fate) -> list[str]:
    """One line for each thing that did not come as promised."""
    promised = {
        "ending": (scene.ending.value, fate.ending.value if fate.ending is not None else "none"),
        "attempts": (scene.attempts, fate.attempts),
        "reported": (_names(scene.statuses), _names(fate.statuses)),
        "dead letters": (int(scene.ending is Ending.DEAD_LETTER), fate.dead_letters),
    }
    broken = [
        f"{scene.job.name}: {what} is {found}, promised was {due}"
        for what, (due, found) in promised.items()
        if due != found
    ]
    if scene.says not in fate.text:
        broken.append(f"{scene.job.name}: it ended with {fate.text!r}, which does not say {scene.says!r}")
    return broken


def _names(statuses: tuple[OccurrenceStatus, ...]) -> str:
    return ", ".join(status.name.lower() for status in statuses)
