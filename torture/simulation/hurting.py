"""The faults themselves: what each of them does to a life or its disk, and how it ends.

Separate from the script, which says when.
"""

from typing import Final

import trio

from torture.simulation.cable import Cable
from torture.simulation.disks import COMMIT, Disk
from torture.simulation.lives import WorkerLife
from torture.simulation.plan import Fault

__all__ = ["hurt"]

SLOW_COMMIT: Final = 1.5
"""Seconds that a slow disk takes for a write."""

_HOLDS: Final = {
    Fault.HOLD_CONFIRMS: "holds_confirms",
    Fault.HOLD_ACKS: "holds_acks",
    Fault.HOLD_DELIVERIES: "holds_deliveries",
}


def hurt(life: WorkerLife, fault: Fault, seconds: float, count: int, restores: trio.Nursery) -> None:
    """Do this to a life; what lasts for some seconds is undone by a task in `restores`."""
    cable = life.cable
    match fault:
        case Fault.SEVER:
            cable.sever("publishing", "consuming")
        case Fault.SEVER_PUBLISHING:
            cable.sever("publishing")
        case Fault.SEVER_CONSUMING:
            cable.sever("consuming")
        case Fault.REFUSE:
            cable.refusals = count
        case Fault.SLOW_DISK | Fault.FULL_DISK | Fault.DAMAGE:
            if life.disk is not None:
                _hurt_disk(life.disk, fault, seconds, restores)
        case Fault.DRAIN:
            life.drain()
        case Fault.STOP:
            life.stop()
        case Fault.CRASH:
            life.crash()
        case Fault.UNREACHABLE:
            cable.refuses = True
            cable.sever("publishing", "consuming")
            restores.start_soon(_restore, cable, fault, seconds)
        case Fault.HOLD_CONFIRMS | Fault.HOLD_ACKS | Fault.HOLD_DELIVERIES:
            setattr(cable, _HOLDS[fault], True)
            restores.start_soon(_restore, cable, fault, seconds)
        case Fault.BLOCK:
            cable.block("the simulation says low on memory")
            restores.start_soon(_restore, cable, fault, seconds)


def _hurt_disk(disk: Disk, fault: Fault, seconds: float, restores: trio.Nursery) -> None:
    match fault:
        case Fault.SLOW_DISK:
            disk.takes = SLOW_COMMIT
        case Fault.FULL_DISK:
            disk.is_full = True
        case Fault.DAMAGE:
            disk.is_damaged = True
            return
    restores.start_soon(_restore_disk, disk, fault, seconds)


async def _restore_disk(disk: Disk, fault: Fault, seconds: float) -> None:
    await trio.sleep(seconds)
    if fault is Fault.SLOW_DISK:
        disk.takes = COMMIT
    else:
        disk.is_full = False


async def _restore(cable: Cable, fault: Fault, seconds: float) -> None:
    await trio.sleep(seconds)
    match fault:
        case Fault.UNREACHABLE:
            cable.refuses = False
        case Fault.HOLD_ACKS:
            cable.release_acks()
        case Fault.BLOCK:
            cable.block("")
        case _:
            setattr(cable, _HOLDS[fault], False)
            cable.look_again()
