"""Keys made from a job's data: `account-{account}`, as jobs say what they exclude and what is unique.

Separate from both uses, as clients and workers must make the same key of the same data.
"""

import hashlib
import string
from collections.abc import Sequence
from typing import Final, Self

from attrs import frozen

from milvaion_trio.model.errors import InvalidMessage, MilvaionError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.json_text import JsonValue, read, write
from milvaion_trio.policy.annotations import alternatives, is_record, without_metadata
from milvaion_trio.policy.data_values import folded
from milvaion_trio.policy.record_fields import record_fields

__all__ = ["LONGEST_KEY", "KeyTemplate", "KeyUnknown", "as_key"]

LONGEST_KEY: Final = 200
"""Characters; of a longer key the beginning and a hash are used, as data may have any length."""
OCCURRENCE: Final = "occurrence_id"
"""The one part that is not taken from the data."""


class KeyUnknown(MilvaionError):
    """The data of a message has not what a job's key is made from."""


@frozen
class KeyTemplate:
    """A text with the names of fields in braces."""

    text: str
    _parts: tuple[tuple[str, str | None], ...]
    """Plain text, and the name that follows it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a template apart; raises `ValueError` with a sentence for people."""
        try:
            found = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"its braces do not fit together ({error}); a brace itself is written twice") from None
        parts: list[tuple[str, str | None]] = []
        for plain, name, form, conversion in found:
            if name is not None and (not name.isidentifier() or form or conversion):
                shown = "{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
                raise ValueError(f"{shown} is no field of the data; write its name alone, as in {{account}}")
            parts.append((plain, name))
        return cls(text, tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that it takes from the data."""
        return tuple(name for _, name in self._parts if name is not None and name != OCCURRENCE)

    @property
    def has_occurrence(self) -> bool:
        """Whether the key is another one for each occurrence."""
        return any(name == OCCURRENCE for _, name in self._parts)

    def missing_in(self, annotation: object) -> list[str]:
        """Names that no data of this type can have; none where the type does not say which fields there are."""
        kinds = [kind for kind in alternatives(without_metadata(annotation)) if kind is not type(None)]
        if not kinds or not all(map(is_record, kinds)):
            return []
        known = {
            folded(spelled)
            for kind in kinds
            for each in record_fields(kind)
            if each.is_read
            for spelled in (each.name, each.attribute)
        }
        return [name for name in self.names if folded(name) not in known]

    def fill_from_text(self, job_name: str, data: str | None, occurrence_id: OccurrenceId) -> str:
        """The key, for data as it stands in a message. Raises `KeyUnknown`."""
        try:
            value = read(data, case_matters=True, keep_digits=True) if data and self.names else None
        except InvalidMessage as error:
            raise KeyUnknown(f"The key {self.text!r} of {job_name} cannot be made: {error.problem}") from None
        return self.fill(job_name, value, occurrence_id)

    def fill(self, job_name: str, data: JsonValue, occurrence_id: OccurrenceId) -> str:
        """The key, numbers as the message has them. Raises `KeyUnknown` where not all fields are there as plain values.

        `ValueError` for a number that no message can carry.
        """
        values = {OCCURRENCE: str(occurrence_id)}
        members = data if isinstance(data, dict) else {}
        for name in self.names:
            wanted = folded(name)
            value = next((member for spelled, member in members.items() if folded(spelled) == wanted), None)
            if value is None or isinstance(value, dict | list):
                raise KeyUnknown(self._why(job_name, name, value, tuple(members)))
            values[name] = value if isinstance(value, str) else write(value)
        key = "".join(plain + ("" if name is None else values[name]) for plain, name in self._parts)
        if not key.strip():
            raise KeyUnknown(f"The key {self.text!r} of {job_name} is empty with this data.")
        return as_key(key)

    def _why(self, job_name: str, name: str, value: JsonValue, members: Sequence[str]) -> str:
        if value is not None:
            kind = "a list" if isinstance(value, list) else "an object"
            found = f"{name} is {kind} in the data; a key is made of texts, numbers and true or false"
        else:
            has = ", ".join(members[:20]) or "no fields"
            found = f"the data has no {name} (it has {has})"
        return f"The key {self.text!r} of {job_name} cannot be made: {found}. Dispatch it with that field."


def as_key(key: str) -> str:
    """The key itself, or for a very long one another text, the same for the same key."""
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest) - 1]}~{digest}"
