"""How the data of a message becomes the value of a job's parameter, with every mistake in it told at once.

Everything is looked up once, when the worker starts: per message there is one call of a compiled reader.
"""

from collections.abc import Iterator
from typing import Final

from attrs import frozen
from cattrs import ClassValidationError, IterableValidationError

from milvaion_trio.model.errors import InvalidJobData, InvalidMessage, SettingsError
from milvaion_trio.model.json_text import read as read_json
from milvaion_trio.policy.annotations import ANYTHING, alternatives, without_metadata, words_for
from milvaion_trio.policy.data_types import DataConverter
from milvaion_trio.policy.data_values import Reading
from milvaion_trio.policy.parameters import REQUIRED, DataParameter

__all__ = ["DataReader"]

_CONVERTER: Final = DataConverter()


@frozen
class DataReader:
    """Turns the data of messages into the value of one job's parameter."""

    job_name: str
    _annotation: object
    _reading: Reading | None
    """`None`: the decoded JSON as it is."""
    _absent: object
    """What absent data gives, or `REQUIRED` where it is a mistake."""

    @classmethod
    def build(cls, job_name: str, parameter: DataParameter) -> "DataReader":
        """Compile the reader; raises `SettingsError` where no JSON could ever become such a value."""
        annotation = without_metadata(parameter.annotation)
        if annotation in ANYTHING:
            return cls(job_name, annotation, None, None if parameter.default is REQUIRED else parameter.default)
        try:
            reading = _CONVERTER.get_structure_hook(annotation)
        except Exception as error:  # fields of user classes are resolved here, which runs their code
            raise SettingsError([f"{job_name}: {parameter.name} cannot be read from JSON: {error}"]) from error
        absent = parameter.default
        if absent is REQUIRED and type(None) in alternatives(annotation):
            absent = None
        return cls(job_name, annotation, reading, absent)

    @classmethod
    def for_type(cls, job_name: str, annotation: object) -> "DataReader":
        """The reader for a type that no parameter names."""
        return cls.build(job_name, DataParameter("data", annotation))

    def read(self, text: str | None) -> object:
        """The value; raises `InvalidJobData` with every mistake, and nothing else whatever the text is."""
        value: object = None
        if text:
            try:
                # Names of a dict may differ in case only; for fields `record_reading` notices it.
                value = read_json(text, case_matters=True, keep_digits=self._reading is not None)
            except InvalidMessage as error:
                raise InvalidJobData(self.job_name, [f"$: {error.problem}"]) from None
        if value is None:
            if self._absent is REQUIRED:
                raise InvalidJobData(self.job_name, [f"$: there is no data, expected {words_for(self._annotation)}"])
            return self._absent
        if self._reading is None:
            return value
        try:
            return self._reading(value, self._annotation)
        except Exception as error:  # validators and converters of user classes raise what they want
            raise InvalidJobData(self.job_name, list(_mistakes(error, "$"))) from None  # all is said


def _mistakes(error: Exception, path: str) -> Iterator[str]:
    """One line per mistake, from the tree of errors in which cattrs collects them."""
    if isinstance(error, ClassValidationError):
        placed, whole = error.group_exceptions()
        for mistake, place in placed:
            if isinstance(mistake, KeyError):
                yield f"{path}.{place.name.lstrip('_')}: is missing, expected {words_for(place.type)}"
            else:
                yield from _mistakes(mistake, f"{path}.{place.name.lstrip('_')}")
    elif isinstance(error, IterableValidationError):
        items, whole = error.group_exceptions()
        for mistake, item in items:
            yield from _mistakes(mistake, f"{path}[{item.index!r}]")
    else:
        words = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        yield f"{path}: {words or type(error).__name__}"
        return
    for mistake in whole:
        yield from _mistakes(mistake, path)
