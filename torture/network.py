"""Workers whose network can be hurt, and what their links have to say about it afterwards.

Separate from the scenarios, several of which put a proxy between worker and server and ask the same of the links.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeAlias

import trio
from tests.support.proxy import Proxy, open_proxy

from milvaion_trio.broker.link import NORMAL_END
from torture.collecting import collect, left_in_queues, resources_of
from torture.effects import Effect
from torture.evidence import Evidence, Fault
from torture.expectations import Act
from torture.play import Play

__all__ = [
    "LINKS",
    "Claim",
    "RETURN",
    "behind_proxy",
    "detection_limit",
    "detections",
    "judged",
    "leave",
    "links_come_back",
    "links_stay",
    "silence_is_noticed",
    "steadily",
]

Claim: TypeAlias = Callable[[Evidence], Iterable[str]]
"""What violates a promise of one scenario, as the invariants are of all."""
LINKS: Final = ("publishing", "consuming")
RETURN: Final = 15.0
"""Seconds from the end of a fault until all links are there again (RELIABILITY.md 6, I10)."""


@contextmanager
def judged(play: Play, claims: Mapping[str, Claim]) -> Iterator[None]:
    """Judge what was played inside by these, too, also where it could not be played to its end."""
    try:
        yield
    finally:
        evidence = collect(play, {}, [], [])
        for name, claim in claims.items():
            for about in claim(evidence):
                play.complain(name, about)
        silences = [fault for fault in play.faults if "heartbeat" in fault.facts]
        times = [seconds for fault in silences for seconds in detections(evidence, fault).values() if seconds]
        if times:
            play.facts["links_given_up_after"] = {"least": round(min(times), 1), "most": round(max(times), 1)}


async def leave(play: Play) -> None:
    """Let the workers leave, and the API read all that came. If cancelled, some may still run.

    Not before they have had what came back after the last fault: its acks may have been lost with a link.
    """
    with trio.move_on_after(RETURN):
        while await _messages_left(play):  # noqa: ASYNC110  # a broker tells only who asks
            await trio.sleep(0.1)
    play.allow(resources=resources_of(play))
    await play.workers.leave()
    with suppress(AssertionError):  # what it does not take is judged from the evidence
        await play.here.api.until_idle()


async def _messages_left(play: Play) -> int:
    left, _ = await left_in_queues(play)
    return sum(messages for messages, _ in left.values())


@asynccontextmanager
async def behind_proxy(play: Play, *names: str, **told: Any) -> AsyncIterator[Proxy]:
    """Workers that reach the broker through a proxy; when the context is left, they have left in an orderly way.

    If cancelled, or left by an error, they may still run.
    """
    async with open_proxy(play.here.rabbitmq.port, seed=play.seed) as proxy:
        play.tell(rabbitmq_port=proxy.port, **told)
        await play.workers.start(*names)
        await play.registered()
        yield proxy
        await leave(play)


async def steadily(play: Play, acts: Iterator[Act], seconds: float) -> None:
    """Dispatch these over so many seconds, one after the other. If cancelled, some were."""
    pause = seconds / max(1, play.size.jobs)
    due = trio.current_time()
    for act in acts:
        await trio.sleep_until(due)
        await play.dispatch(act)
        due += pause


def detection_limit(heartbeat: float) -> float:
    """Seconds within which a link that carries nothing is given up (DESIGN.md 4)."""
    return 3 * (heartbeat + 1) + heartbeat / 2


def detections(evidence: Evidence, fault: Fault) -> Mapping[str, float | None]:
    """By worker and link that was there when the fault began: seconds until it was given up, `None` for never."""
    up: dict[str, float] = {}
    found: dict[str, float | None] = {}
    for line in _links(evidence):
        name = f"{line.worker} {line.facts['link']}"
        if line.at < fault.began:
            up[name] = line.at if line.what == "link-up" else 0.0
        elif line.what == "link-lost" and up.get(name) and name not in found:
            found[name] = line.at - fault.began
    return {name: found.get(name) for name, since in up.items() if since}


# --- claims: what violates them, as for the invariants --------------------------------------------------------------


def silence_is_noticed(evidence: Evidence) -> Iterator[str]:
    """Every link over which nothing comes is given up within three heartbeats and a little."""
    for fault in evidence.faults:
        heartbeat = fault.facts.get("heartbeat")
        if not isinstance(heartbeat, int):
            continue
        limit, noticed = detection_limit(heartbeat), detections(evidence, fault)
        if not noticed:
            yield f"no link was there when {fault.kind} began"
        for link, seconds in noticed.items():
            if seconds is None or seconds > limit:
                after = "never noticed" if seconds is None else f"noticed after {seconds:.1f} s"
                yield f"{fault.kind} ({_shown(fault)}) was {after} by {link}, at most {limit:g} s are allowed"


def links_come_back(evidence: Evidence) -> Iterator[str]:
    """All links are there soon after each fault, if no other fault follows at once."""
    lines = _links(evidence)
    faults = sorted(evidence.faults, key=lambda fault: fault.began)
    for number, fault in enumerate(faults):
        until = faults[number + 1].began if number + 1 < len(faults) else float("inf")
        if until < fault.ended + RETURN:
            continue
        for name in {line.worker for line in lines}:
            for link in LINKS:
                last = [
                    line
                    for line in lines
                    if line.worker == name and line.facts["link"] == link and line.at < fault.ended + RETURN
                ]
                if last and last[-1].what == "link-lost":
                    yield f"{name} has no {link} link {RETURN:g} s after the end of {fault.kind} ({_shown(fault)})"


def links_stay(evidence: Evidence) -> Iterator[str]:
    """No link is given up before the worker leaves."""
    for line in _links(evidence):
        if line.what == "link-lost":
            yield f"{line.worker} lost its {line.facts['link']} link: {line.facts['why']}"


def _links(evidence: Evidence) -> list[Effect]:
    """Without the ends that the worker wanted."""
    lines = [line for line in evidence.effects if line.what in {"link-up", "link-lost"}]
    return sorted((line for line in lines if line.facts.get("why") != NORMAL_END), key=lambda line: line.at)


def _shown(fault: Fault) -> str:
    at = time.strftime("%H:%M:%S", time.gmtime(fault.began))
    return ", ".join([at, *(f"{name} {value}" for name, value in fault.facts.items())])
