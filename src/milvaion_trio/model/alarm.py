"""Something that is wrong or not, with those who want to know: a broker that reads nothing, a disk that is full.

Separate because each adapter that has such a state tells it in the same way: at once, and whenever it changes.
"""

from collections.abc import Callable

from attrs import define, field

__all__ = ["Alarm"]


@define(eq=False)
class Alarm:
    """What is wrong, in words; empty while nothing is."""

    text: str = ""
    _listeners: list[Callable[[str], None]] = field(factory=list, init=False)

    def listen(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with every change from now on, and at once if something is wrong already."""
        self._listeners.append(tell)
        if self.text:
            tell(self.text)

    def say(self, text: str) -> None:
        """Tell everybody what is wrong now, or with "" that nothing is."""
        self.text = text
        for tell in self._listeners:
            tell(text)
