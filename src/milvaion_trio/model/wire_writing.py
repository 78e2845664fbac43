"""Messages written as System.Text.Json writes them: a writer per class, made once from its fields.

Every text is cleaned on its way out, so that no message of ours can hang the API.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias, get_args

import attrs

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue, quote, read, write
from milvaion_trio.model.messages import ExternalEvent
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import (
    MAX_EXCEPTION,
    MAX_LOG_DEPTH,
    MAX_LOG_MESSAGE,
    MAX_RESULT,
    clean_json,
    clean_text,
)
from milvaion_trio.model.wire_fields import Casing, camel_name, is_nullable, is_tuple, pascal_name

__all__ = [
    "Writer",
    "class_writer",
    "date_text",
    "identifier_text",
    "members_of",
    "members_with_old_name",
    "storable",
    "worker_id_text",
]

Writer: TypeAlias = Callable[[Any], str]


def class_writer(
    kind: Any, members: Iterable[tuple[str, str]] | None = None, casing: Casing = Casing.PASCAL, **special: Writer
) -> Writer:
    """A writer of these members, given as wire name and attribute; without them, of all fields.

    `special` has the writers of members that are not written as their type says.
    """
    pairs = list(members or members_of(kind))
    values_of = attrgetter(*[attribute for _, attribute in pairs])
    types = {field.name: field.type for field in attrs.fields(kind)}
    writers = [special.get(name) or _field_writer(attribute, types[attribute], casing) for name, attribute in pairs]
    if casing is Casing.CAMEL:
        pairs = [(camel_name(member), attribute) for member, attribute in pairs]
    table = [(f'"{member}":', writer) for (member, _), writer in zip(pairs, writers, strict=True)]
    template = f"{{{','.join([f'{prefix}%s' for prefix, _ in table])}}}"  # no member's name holds a percent sign

    def write_all(value: Any) -> str:
        found = zip(writers, values_of(value), strict=True)
        return template % tuple(["null" if item is None else writer(item) for writer, item in found])

    def write_present(value: Any) -> str:
        found = zip(table, values_of(value), strict=True)
        return f"{{{','.join([prefix + writer(item) for (prefix, writer), item in found if item is not None])}}}"

    return write_present if casing is Casing.CAMEL else write_all


def members_of(kind: Any, *left_out: str) -> list[tuple[str, str]]:
    """Wire name and attribute of all fields but those left out."""
    return [(pascal_name(field.name), field.name) for field in attrs.fields(kind) if field.name not in left_out]


def members_with_old_name(kind: Any) -> list[tuple[str, str]]:
    """All fields, the first of which is the occurrence's id, with its name in 1.0 right after it."""
    first, *rest = members_of(kind)
    return [first, ("CorrelationId", first[1]), *rest]


def _field_writer(attribute: str, kind: Any, casing: Casing) -> Writer:
    if attribute in _LIMITS:
        return _cleaned_to(_LIMITS[attribute])
    if is_nullable(kind) or kind == Mapping[str, JsonValue] | None:
        kind = get_args(kind)[0]
    if kind in _WRITERS:
        return _WRITERS[kind]
    if is_tuple(kind):
        item_writer = class_writer(get_args(kind)[0], casing=casing)
        return lambda items: f"[{','.join([item_writer(item) for item in items])}]"
    return class_writer(kind, casing=casing)


def _cleaned(text: str) -> str:
    return quote(clean_text(text))


def _cleaned_to(limit: int) -> Writer:
    return lambda text: quote(clean_text(text, limit))


@lru_cache(maxsize=1024)
def identifier_text(text: str) -> str:
    """An id; those of running jobs come again and again."""
    return quote(clean_text(text))


@lru_cache(maxsize=16)
def worker_id_text(text: str) -> str:
    """The name of a worker group."""
    # A longer one does not fit the API's column, and the API would repeat its batch for ever (WIRE.md 13.2, A2).
    return quote(clean_text(text)[:100])


def date_text(instant: Instant) -> str:
    """A date as a JSON string."""
    return f'"{instant.text}"'


def _texts(texts: Iterable[str]) -> str:
    return f"[{','.join([_cleaned(text) for text in texts])}]"


def _named_texts(texts: Mapping[str, str]) -> str:
    members = {_cleaned(name): _cleaned(text) for name, text in texts.items()}  # names may become equal
    return f"{{{','.join([f'{name}:{text}' for name, text in members.items()])}}}"


def _json(value: Any) -> str:
    # Cleaning costs as much as writing, and a short flat value that could be written shows whether it needs any.
    try:
        text = write(value)
    except ValueError:
        return write(clean_json(value, MAX_LOG_MESSAGE))
    if len(text) <= MAX_LOG_MESSAGE and text.count("[") + text.count("{") <= MAX_LOG_DEPTH and r"\u0000" not in text:
        return text
    return write(clean_json(value, MAX_LOG_MESSAGE))


_WRITERS: dict[Any, Writer] = {
    str: _cleaned,
    OccurrenceId: identifier_text,
    JobId: identifier_text,
    WorkerId: worker_id_text,
    InstanceId: identifier_text,
    bool: lambda flag: "true" if flag else "false",
    int: int.__repr__,  # also of enums, where repr() would give the name
    Instant: date_text,
    OccurrenceStatus | int: int.__repr__,
    ExternalEvent | int: int.__repr__,
    tuple[str, ...]: _texts,
    Mapping[str, str]: _named_texts,
    Mapping[str, JsonValue]: _json,
    JsonValue: _json,
}

_LIMITS = {"exception": MAX_EXCEPTION, "result": MAX_RESULT, "message": MAX_LOG_MESSAGE, "reason": MAX_LOG_MESSAGE}


def storable(job_data: str | None) -> str | None:
    """The data as a jsonb column takes it: JSON, without the escapes of NUL and lone surrogates, or null."""
    if not job_data or job_data.isspace():
        return None
    try:
        value = read(job_data, case_matters=True, keep_digits=True)
    except InvalidMessage:
        return _cleaned(job_data)  # kept as a JSON string, for whoever looks into the dead letter
    return write(clean_json(value, depth=MAX_DEPTH)) if "\\u" in job_data else job_data
