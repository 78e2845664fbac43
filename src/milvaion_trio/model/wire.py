"""The wire's messages as bytes, and back (WIRE.md 0 to 3 and 5.3).

Decoders take what System.Text.Json takes: names in any case, unknown members ignored, absent ones at .NET's defaults,
but no value of another type. They raise `InvalidMessage` and nothing else.
Encoders write what a .NET program writes and clean every text, so that no message of ours can hang the API.

Both work from tables made once from the fields of `model.messages`; one cattrs converter knows how to read each type.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, get_args, get_origin

import attrs
import cattrs

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId, parse_guid
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue, quote, read, write
from milvaion_trio.model.messages import (
    EMPTY_GUID,
    Cancellation,
    DeadLetter,
    ExternalEvent,
    ExternalJobRegistration,
    ExternalOccurrence,
    JobConfig,
    JobMessage,
    LogBatch,
    LogRecord,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerMetadata,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import (
    MAX_EXCEPTION,
    MAX_LOG_DEPTH,
    MAX_LOG_MESSAGE,
    MAX_RESULT,
    clean_json,
    clean_text,
)

__all__ = [
    "Casing",
    "Dialect",
    "decode_cancellation",
    "decode_dead_letter",
    "decode_external_occurrence",
    "decode_external_registration",
    "decode_heartbeat",
    "decode_job",
    "decode_logs",
    "decode_registration",
    "decode_status",
    "encode_cancellation",
    "encode_dead_letter",
    "encode_external_occurrence",
    "encode_external_registration",
    "encode_heartbeat",
    "encode_job",
    "encode_logs",
    "encode_registration",
    "encode_status",
]

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any, Any], Any]
"""Takes a JSON value and, as cattrs hooks do, a type that it ignores."""
Writer: TypeAlias = Callable[[Any], str]


class Dialect(enum.Enum):
    """The generation of Milvaion that is talked to (WIRE.md 14). Reading needs no dialect."""

    V1_1 = "1.1"
    """Log batches; a status' `WorkerId` is the group's."""
    V1_0 = "1.0"
    """Single log entries; a status' `WorkerId` is the instance's."""


class Casing(enum.Enum):
    """The two ways in which a job message is written."""

    PASCAL = "PascalCase, nulls are written"
    """Worker to worker: a retry copy."""
    CAMEL = "camelCase, nulls are left out"
    """Dispatcher to worker."""


# --- reading values -------------------------------------------------------------------------------------------------


class _Misfit(ValueError):
    """A value that does not fit its member; the path to it grows on the way out."""

    def __init__(self, expected: str, value: object) -> None:
        self.path = ""
        self.expected = expected
        self.value = value

    def within(self, place: str) -> "_Misfit":
        self.path = place + self.path
        return self


def _checked(value: Any, kind: type[T], expected: str) -> T:
    if type(value) is not kind:  # not isinstance: True is no integer here
        raise _Misfit(expected, value)
    return value


def _text(value: Any, _: Any) -> str:
    # .NET's texts may always be null; a field that may not takes it as empty.
    return "" if value is None else _checked(value, str, "a text")


def _flag(value: Any, _: Any) -> bool:
    return _checked(value, bool, "true or false")


def _int32(value: Any, _: Any) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise _Misfit("an integer of 32 bits", value)
    return value


def _int64_or_null(value: Any, _: Any) -> int | None:
    return None if value is None else _checked(value, int, "an integer")


def _guid(value: Any, _: Any) -> str:
    guid = parse_guid(value)
    if guid is None and value != EMPTY_GUID:
        raise _Misfit("a guid of 36 characters", value)
    return guid or EMPTY_GUID


def _instant(value: Any, _: Any) -> Instant:
    text = _checked(value, str, "a date")
    try:
        return Instant.parse(text)
    except ValueError:
        raise _Misfit("a date like 2026-04-02T09:15:30.1234567Z", value) from None


def _texts_by_name(value: Any, _: Any) -> Mapping[str, str]:
    texts = {} if value is None else _checked(value, dict, "an object")
    for name, text in texts.items():
        if type(text) is not str:
            raise _Misfit("a text", text).within(f"[{name[:40]!r}]")
    return texts


def _object_or_null(value: Any, _: Any) -> Any:
    return None if value is None else _checked(value, dict, "an object")


def _anything(value: Any, _: Any) -> Any:
    return value


def _enum_reader(kind: type[enum.IntEnum]) -> Reader:
    members = {int(member): member for member in kind}
    return lambda value, _: members.get(_int32(value, None), value)


def _nullable_reader(kind: Any) -> Reader:
    read_value = _CONVERTER.get_structure_hook(get_args(kind)[0])
    return lambda value, _: None if value is None else read_value(value, None)


def _tuple_reader(kind: Any) -> Reader:
    read_item = _CONVERTER.get_structure_hook(get_args(kind)[0])

    def read_items(value: Any, _: Any) -> Any:
        items = []
        for index, item in enumerate([] if value is None else _checked(value, list, "an array")):
            try:
                items.append(read_item(item, None))
            except _Misfit as misfit:
                raise misfit.within(f"[{index}]") from None
        return tuple(items)

    return read_items


_ABSENT: dict[Any, Any] = {
    OccurrenceId: EMPTY_GUID,
    JobId: EMPTY_GUID,
    WorkerId: "",
    InstanceId: "",
    str: "",
    str | None: None,
    int: 0,
    Instant: MINIMUM,
    OccurrenceStatus | int: OccurrenceStatus.QUEUED,
    ExternalEvent | int: ExternalEvent.STARTING,
}
""".NET's defaults, for fields that have none of their own."""

_READY: dict[Any, type] = {str: str, str | None: str, WorkerId: str, InstanceId: str, bool: bool}
"""Values of these types need no reader: most members are texts, and a call for each would cost more than the rest."""


def _class_reader(kind: Any) -> Reader:
    """A reader that looks each member up as it comes; a name in an unusual case costs a second look."""
    members: dict[str, tuple[str, Any, Reader]] = {}
    for field in attrs.fields(kind):
        reader = _int64_or_null if field.name == "duration_ms" else _CONVERTER.get_structure_hook(field.type)
        members[_pascal(field.name)] = (field.name, _READY.get(field.type), reader)
    has_old_name = kind in (StatusUpdate, LogRecord)
    if has_old_name:
        members["CorrelationId"] = ("correlation_id", None, _guid)
    folded: dict[str, tuple[str, Any, Reader]] = {}
    if kind not in (WorkerMetadata, JobConfig):  # the one place where .NET insists on the case (WIRE.md 3.6)
        members |= {_camel(name): member for name, member in members.items()}
        folded = {name.lower(): member for name, member in members.items()}
    absent = {f.name: _ABSENT[f.type] for f in attrs.fields(kind) if f.default is attrs.NOTHING and f.type in _ABSENT}

    def read_object(value: Any, _: Any) -> Any:
        found: dict[str, Any] = {}
        unknown = 0
        name = ""
        try:
            for name, item in _checked(value, dict, "an object").items():
                member = members[name] if name in members else folded.get(name.lower())
                if member is None:
                    unknown += 1
                    continue
                attribute, ready, reader = member
                found[attribute] = item if type(item) is ready else reader(item, None)
        except _Misfit as misfit:
            raise misfit.within(f".{name}" if name else "") from None
        if len(found) + unknown != len(value):
            raise _Misfit("an object whose names differ in more than their case", list(value))
        if has_old_name and "correlation_id" in found:
            found.setdefault("occurrence_id", found.pop("correlation_id"))
        return kind(**(found if absent.keys() <= found.keys() else absent | found))

    return read_object


def _pascal(attribute: str) -> str:
    return "OSVersion" if attribute == "os_version" else attribute.title().replace("_", "")


def _camel(member: str) -> str:
    return member[0].lower() + member[1:]


def _metadata_text(value: Any, _: Any) -> Any:
    if value is None:
        return WorkerMetadata()
    try:
        return _read_metadata(read(_checked(value, str, "a text")), None)
    except InvalidMessage as invalid:
        raise _Misfit("JSON text", value) from invalid


def _log_records(value: Any, _: Any) -> Any:
    return _read_log_records([item for item in _checked(value, list, "an array") if not _is_without_log(item)], None)


def _is_without_log(record: Any) -> bool:
    return type(record) is dict and _member(record, "log") is None


def _is_nullable(kind: Any) -> bool:
    return get_origin(kind) is UnionType and get_args(kind)[1:] == (NoneType,)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


_EXACT_READERS: dict[Any, Reader] = {
    str: _text,
    WorkerId: _text,
    InstanceId: _text,
    OccurrenceId: _guid,
    JobId: _guid,
    bool: _flag,
    int: _int32,
    Instant: _instant,
    OccurrenceStatus | int: _enum_reader(OccurrenceStatus),
    ExternalEvent | int: _enum_reader(ExternalEvent),
    Mapping[str, str]: _texts_by_name,
    Mapping[str, JsonValue] | None: _object_or_null,
    JsonValue: _anything,
    tuple[LogRecord, ...]: _log_records,
    WorkerMetadata: _metadata_text,
}

_CONVERTER = cattrs.Converter(detailed_validation=False)
# The last rule is asked first; for builtin types cattrs has hooks of its own, which only a direct one replaces.
_CONVERTER.register_structure_hook_factory(attrs.has, _class_reader)
_CONVERTER.register_structure_hook_factory(_is_nullable, _nullable_reader)
_CONVERTER.register_structure_hook_factory(_is_tuple, _tuple_reader)
_CONVERTER.register_structure_hook_factory(_EXACT_READERS.__contains__, lambda kind: _EXACT_READERS[kind])
for _builtin in (str, bool, int):
    _CONVERTER.register_structure_hook(_builtin, _EXACT_READERS[_builtin])

_read_log_records = _tuple_reader(tuple[LogRecord, ...])
_read_metadata = _class_reader(WorkerMetadata)
_read_batch: Callable[[Any, Any], LogBatch] = _CONVERTER.get_structure_hook(LogBatch)


def _decoder(kind: type[T], what: str) -> Callable[[bytes], T]:
    reader: Callable[[Any, Any], T] = _CONVERTER.get_structure_hook(kind)

    def decode(body: bytes) -> T:
        return _fitted(reader, read(body, case_matters=True), what)

    return decode


def _fitted(reader: Callable[[Any, Any], T], value: JsonValue, what: str) -> T:
    try:
        return reader(value, None)
    except _Misfit as misfit:
        place = misfit.path.removeprefix(".") or "the body"
        shown = repr(misfit.value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise InvalidMessage(f"{what}: {place} is {shown}, but must be {misfit.expected}.") from misfit


# --- decoding -------------------------------------------------------------------------------------------------------

decode_job = _decoder(JobMessage, "job message")
"""A dispatch or a retry copy. Whether its id can be used is for the caller to see: absent, it is the empty guid."""

decode_heartbeat = _decoder(WorkerHeartbeat, "worker heartbeat")
decode_registration = _decoder(WorkerRegistration, "worker registration")
decode_dead_letter = _decoder(DeadLetter, "dead letter")
"""Also takes a dispatch that was dead-lettered as it was (WIRE.md 4.5)."""
decode_external_registration = _decoder(ExternalJobRegistration, "external job registration")
decode_external_occurrence = _decoder(ExternalOccurrence, "external occurrence")

_decode_status = _decoder(StatusUpdate, "status update")


def decode_status(body: bytes) -> StatusUpdate:
    """A status update of either generation; in that of 1.0 both `worker_id` and `instance_id` are the instance's."""
    status = _decode_status(body)
    return status if status.instance_id else attrs.evolve(status, instance_id=InstanceId(status.worker_id))


def decode_logs(body: bytes) -> LogBatch:
    """A batch or a single entry, of either generation; entries without a log are left out, as the API does."""
    value = read(body, case_matters=True)
    if isinstance(value, dict) and not (isinstance(logs := _member(value, "logs"), list) and logs):
        value = {"Logs": [value]}
    return _fitted(_read_batch, value, "logs")


def decode_cancellation(body: bytes) -> Cancellation:
    """A cancel signal. It only needs a guid to cancel; what else is wrong with it does no harm."""
    value = read(body)
    if not isinstance(value, dict):
        raise InvalidMessage("cancellation: the body is no object.")
    occurrence_id = parse_guid(_member(value, "occurrenceid")) or parse_guid(_member(value, "correlationid"))
    if occurrence_id is None:
        raise InvalidMessage("cancellation: neither OccurrenceId nor CorrelationId is a guid.")
    reason = _member(value, "reason")
    return Cancellation(
        occurrence_id=OccurrenceId(occurrence_id),
        job_id=parse_guid(_member(value, "jobid")),
        reason=reason if isinstance(reason, str) else "",
    )


def _member(value: Mapping[str, JsonValue], folded_name: str) -> JsonValue:
    return next((item for name, item in value.items() if name.lower() == folded_name), None)


# --- writing values -------------------------------------------------------------------------------------------------


def _cleaned(text: str) -> str:
    return quote(clean_text(text))


def _cleaned_to(limit: int) -> Writer:
    return lambda text: quote(clean_text(text, limit))


@lru_cache(maxsize=1024)
def _identifier(text: str) -> str:
    return quote(clean_text(text))


@lru_cache(maxsize=16)
def _worker_id(text: str) -> str:
    # A longer one does not fit the API's column, and the API would repeat its batch for ever (WIRE.md 13.2, A2).
    return quote(clean_text(text)[:100])


def _date(instant: Instant) -> str:
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
    OccurrenceId: _identifier,
    JobId: _identifier,
    WorkerId: _worker_id,
    InstanceId: _identifier,
    bool: lambda flag: "true" if flag else "false",
    int: int.__repr__,  # also of enums, where repr() would give the name
    Instant: _date,
    OccurrenceStatus | int: int.__repr__,
    ExternalEvent | int: int.__repr__,
    tuple[str, ...]: _texts,
    Mapping[str, str]: _named_texts,
    Mapping[str, JsonValue]: _json,
    JsonValue: _json,
}

_LIMITS = {"exception": MAX_EXCEPTION, "result": MAX_RESULT, "message": MAX_LOG_MESSAGE, "reason": MAX_LOG_MESSAGE}


def _class_writer(
    kind: Any, members: Iterable[tuple[str, str]] | None = None, casing: Casing = Casing.PASCAL, **special: Writer
) -> Writer:
    """A writer of these members, given as wire name and attribute; without them, of all fields.

    `special` has the writers of members that are not written as their type says.
    """
    pairs = list(members or _members(kind))
    values_of = attrgetter(*[attribute for _, attribute in pairs])
    types = {field.name: field.type for field in attrs.fields(kind)}
    writers = [special.get(name) or _field_writer(attribute, types[attribute], casing) for name, attribute in pairs]
    if casing is Casing.CAMEL:
        pairs = [(_camel(member), attribute) for member, attribute in pairs]
    table = [(f'"{member}":', writer) for (member, _), writer in zip(pairs, writers, strict=True)]

    def write_all(value: Any) -> str:
        found = zip(table, values_of(value), strict=True)
        parts = [prefix + ("null" if item is None else writer(item)) for (prefix, writer), item in found]
        return f"{{{','.join(parts)}}}"

    def write_present(value: Any) -> str:
        found = zip(table, values_of(value), strict=True)
        return f"{{{','.join([prefix + writer(item) for (prefix, writer), item in found if item is not None])}}}"

    return write_present if casing is Casing.CAMEL else write_all


def _members(kind: Any, *left_out: str) -> list[tuple[str, str]]:
    return [(_pascal(field.name), field.name) for field in attrs.fields(kind) if field.name not in left_out]


def _field_writer(attribute: str, kind: Any, casing: Casing) -> Writer:
    if attribute in _LIMITS:
        return _cleaned_to(_LIMITS[attribute])
    if _is_nullable(kind) or kind == Mapping[str, JsonValue] | None:
        kind = get_args(kind)[0]
    if kind in _WRITERS:
        return _WRITERS[kind]
    if _is_tuple(kind):
        item_writer = _class_writer(get_args(kind)[0], casing=casing)
        return lambda items: f"[{','.join([item_writer(item) for item in items])}]"
    return _class_writer(kind, casing=casing)


# --- encoding -------------------------------------------------------------------------------------------------------

_JOB_WRITERS = {casing: _class_writer(JobMessage, casing=casing) for casing in Casing}


def encode_job(job: JobMessage, casing: Casing = Casing.PASCAL) -> bytes:
    """A job message. Its data is never cut."""
    return _JOB_WRITERS[casing](job).encode()


_STATUS_MEMBERS = [("OccurrenceId", "occurrence_id"), ("CorrelationId", "occurrence_id"), *_members(StatusUpdate)[1:]]
_STATUS_WRITERS = {
    Dialect.V1_1: _class_writer(StatusUpdate, _STATUS_MEMBERS),
    Dialect.V1_0: _class_writer(
        StatusUpdate,
        [(member, "instance_id" if member == "WorkerId" else attribute) for member, attribute in _STATUS_MEMBERS],
        WorkerId=_worker_id,
    ),
}


def encode_status(status: StatusUpdate, dialect: Dialect = Dialect.V1_1) -> bytes:
    """A status update with both generations' name of the occurrence; in 1.0 its `WorkerId` is the instance's."""
    return _STATUS_WRITERS[dialect](status).encode()


_write_record = _class_writer(LogRecord)
_write_old_record = _class_writer(
    LogRecord, [("OccurrenceId", "occurrence_id"), ("CorrelationId", "occurrence_id"), *_members(LogRecord)[1:]]
)


def encode_logs(records: Sequence[LogRecord], sent_at: Instant, dialect: Dialect = Dialect.V1_1) -> list[bytes]:
    """The messages that carry these entries: one batch, or in 1.0 one message for each entry."""
    if dialect is Dialect.V1_0:
        return [_write_old_record(record).encode() for record in records]
    if not records:
        return []
    logs = ",".join([_write_record(record) for record in records])
    return [f'{{"Logs":[{logs}],"BatchTimestamp":{_date(sent_at)},"Count":{len(records)}}}'.encode()]


_write_heartbeat = _class_writer(WorkerHeartbeat)


def encode_heartbeat(heartbeat: WorkerHeartbeat) -> bytes:
    """A worker heartbeat, the same for both generations: 1.0 ignores `IsStopping`."""
    return _write_heartbeat(heartbeat).encode()


def _registration_writer(left_out: Sequence[str] = (), left_out_of_metadata: Sequence[str] = ()) -> Writer:
    write_metadata = _class_writer(WorkerMetadata, _members(WorkerMetadata, *left_out_of_metadata))
    return _class_writer(
        WorkerRegistration,
        _members(WorkerRegistration, *left_out),
        Metadata=lambda metadata: quote(write_metadata(metadata)),
    )


_REGISTRATION_WRITERS = {
    Dialect.V1_1: _registration_writer(),
    # The interval stays: a newer API drops instances that do not tell it.
    Dialect.V1_0: _registration_writer(["job_result_definitions"], ["is_external", "external_scheduler"]),
}


def encode_registration(registration: WorkerRegistration, dialect: Dialect = Dialect.V1_1) -> bytes:
    """A registration; in 1.0 without the members that came later."""
    return _REGISTRATION_WRITERS[dialect](registration).encode()


_write_dead_letter = _class_writer(DeadLetter)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter that keeps the rules of WIRE.md 4.5, on which the life of the API's handler depends."""
    name = clean_text(letter.job_name_in_worker)[:200]
    safe = attrs.evolve(
        letter,
        display_name=clean_text(letter.display_name or name)[:200],
        job_name_in_worker=name,
        job_data=_storable(letter.job_data),
    )
    return _write_dead_letter(safe).encode()


def _storable(job_data: str | None) -> str | None:
    """The data as a jsonb column takes it: JSON, without the escapes of NUL and lone surrogates, or null."""
    if not job_data or job_data.isspace():
        return None
    try:
        value = read(job_data, case_matters=True)
    except InvalidMessage:
        return _cleaned(job_data)  # kept as a JSON string, for whoever looks into the dead letter
    return write(clean_json(value, depth=MAX_DEPTH)) if "\\u" in job_data else job_data


_write_cancellation = _class_writer(
    Cancellation,
    [
        ("CorrelationId", "occurrence_id"),
        ("JobId", "job_id"),
        ("OccurrenceId", "occurrence_id"),
        ("Reason", "reason"),
    ],
)


def encode_cancellation(cancellation: Cancellation) -> bytes:
    """A cancel signal, for the channel that workers listen to."""
    return _write_cancellation(cancellation).encode()


_write_external_registration = _class_writer(ExternalJobRegistration)
_write_external_occurrence = _class_writer(ExternalOccurrence)


def encode_external_registration(registration: ExternalJobRegistration) -> bytes:
    """A job of a scheduler that only reports."""
    return _write_external_registration(registration).encode()


def encode_external_occurrence(occurrence: ExternalOccurrence) -> bytes:
    """A run of such a job."""
    return _write_external_occurrence(occurrence).encode()
