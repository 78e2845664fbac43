"""Handing events to observers. An observer that raises is reported once and dropped: it must not stop a job."""

import logging
from collections.abc import Iterable

from milvaion_trio.model.events import Event, Observer

__all__ = ["Observers"]

_log = logging.getLogger("milvaion_trio.runtime")


class Observers:
    """The callables that are told what happens, in the order they were added."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Tell this one too from now on."""
        self._observers.append(observer)

    def tell(self, event: Event) -> None:
        """Call every observer with the event."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                self._observers.remove(observer)
                _log.exception("observer %r failed on %s and gets no further events", observer, type(event).__name__)
