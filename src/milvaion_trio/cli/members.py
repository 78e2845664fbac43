"""Reading JSON objects that somebody else wrote, member by member, so that every mistake is named."""

from collections.abc import Mapping
from typing import NoReturn

from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.policy.backoff import LONGEST_DELAY

__all__ = ["DELAY_WORDS", "Members", "is_delay"]

DELAY_WORDS = f"a number of seconds from 0 to {LONGEST_DELAY:.0f} (30 days)"


def is_delay(seconds: float) -> bool:
    """Whether a message may wait that long; NaN may not."""
    return 0 <= seconds <= LONGEST_DELAY


class Members:
    """The members of a JSON object that somebody else wrote: each is taken once, with its type, and none may be left.

    Every method raises `CommandFailed` that names the member and says what it must be.
    """

    def __init__(self, what: str, members: Mapping[str, object]) -> None:
        self._what = what
        self._left = dict(members)

    def text(self, name: str) -> str:
        """A text that must be there."""
        value = self._left.pop(name, None)
        return value if isinstance(value, str) else self._refuse(name, value, "a text")

    def text_or_null(self, name: str) -> str | None:
        """A text, or `None` where it is absent or null."""
        value = self._left.pop(name, None)
        return value if value is None or isinstance(value, str) else self._refuse(name, value, "a text or null")

    def whole_number(self, name: str) -> int | None:
        """A whole number, or `None` where it is absent or null."""
        value = self._left.pop(name, None)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        return self._refuse(name, value, "a whole number")

    def seconds(self, name: str) -> float | None:
        """How long a message waits, or `None` where it is absent or null."""
        value = self._left.pop(name, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and is_delay(value)):
            return value
        return self._refuse(name, value, DELAY_WORDS)

    def flag(self, name: str) -> bool:
        """True or false; false where it is absent."""
        value = self._left.pop(name, False)
        return value if isinstance(value, bool) else self._refuse(name, value, "true or false")

    def mapping(self, name: str) -> Mapping[str, object]:
        """An object; an empty one where it is absent."""
        value = self._left.pop(name, {})
        return value if isinstance(value, dict) else self._refuse(name, value, "an object")

    def check_empty(self) -> None:
        """Refuse what nobody has taken."""
        if self._left:
            raise CommandFailed(f"The {self._what} has a member {min(self._left)!r} that nobody reads.")

    def _refuse(self, name: str, value: object, expected: str) -> NoReturn:
        raise CommandFailed(f"The member {name!r} of the {self._what} is {value!r}; it must be {expected}.")
