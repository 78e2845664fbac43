"""Messages that nobody should send, and what a worker makes of each (RELIABILITY.md 0.3, 5.1, 5.2; WIRE.md 2.3).

A case is sent to the queue of the jobs that `add_probes` registers. Nothing it does may disturb other jobs:
it runs once, or is refused (Failed and a dead letter made anew), or is quarantined, when it does not say whose it is.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from attrs import evolve, field, frozen
from tests.support.amqp import Channel
from tests.support.amqp_codec import Field, HeaderPayload, Headers, Properties, header_payload, read_header_payload
from tests.support.hostile_bodies import BODIES, EMPTY_GUID, JOB_ID, Expected, job

from milvaion_trio import JobContext, Worker
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.ids import OccurrenceId

__all__ = [
    "CASES",
    "JOB_ID",
    "POISONOUS",
    "Expected",
    "HostileCase",
    "Picky",
    "add_probes",
    "decoded_message",
    "publish_case",
    "read_properties",
]


@frozen(kw_only=True)
class HostileCase:
    """One message. With all it needs and nothing wrong, but for what the name says."""

    name: str
    expected: Expected
    body: bytes
    headers: Headers
    properties: Properties
    occurrence_id: OccurrenceId
    """What it would run as; its own for every case."""

    @property
    def property_list(self) -> tuple[int, bytes]:
        """The flags and the bytes of the properties."""
        return header_payload(self.properties, self.headers)


@frozen
class Picky:
    """What the second probe wants as data."""

    number: int
    name: str = field(default="")


def add_probes(worker: Worker, runs: list[str]) -> None:
    """Two jobs, `Probe` and `PickyProbe`, that write down as which occurrence they run."""

    @worker.job("Probe")
    async def probe(ctx: JobContext, data: object = None) -> str:
        runs.append(ctx.occurrence_id)
        return "ran"

    @worker.job("PickyProbe")
    async def picky_probe(ctx: JobContext, data: Picky) -> str:
        runs.append(ctx.occurrence_id)
        return f"ran with {data.number}"


async def publish_case(client: Channel, case: HostileCase, routing_key: str, exchange: str = "") -> bool:
    """Publish it; false when unroutable. Cancelled: see `Channel`."""
    return await client.publish_raw(exchange, routing_key, *case.property_list, case.body)


def read_properties(case: HostileCase) -> HeaderPayload:
    """The properties as the plain client reads them."""
    flags, data = case.property_list
    head = bytes(4) + len(case.body).to_bytes(8, "big") + flags.to_bytes(2, "big")
    return read_header_payload(head + data)


def decoded_message(case: HostileCase) -> Message:
    """The message as a transport hands it out: header values without letters, texts that are none absent."""
    content = read_properties(case)
    timestamp = content.properties.get("timestamp")

    def text(name: str) -> str | None:
        value = content.properties.get(name)
        return value if isinstance(value, str) else None

    return Message(
        body=case.body,
        headers={name: _value(value) for name, value in content.headers.items()},
        message_id=text("message_id"),
        correlation_id=text("correlation_id"),
        content_type=text("content_type"),
        timestamp=timestamp if isinstance(timestamp, int) else None,
    )


def _value(value: Field) -> object:
    letter, content = value
    if letter == "F" and isinstance(content, Mapping):
        return {name: _value(item) for name, item in content.items()}
    if letter == "A" and isinstance(content, list):
        return [_value(item) for item in content]
    return content


# --- headers --------------------------------------------------------------------------------------------------------

TYPED: Final[dict[str, Field]] = {
    "text": ("S", "abc"),
    "digits": ("S", "2"),
    "empty text": ("S", ""),
    "no UTF-8": ("S", b"\xff\xfe\xfd"),
    "bytes": ("x", b"\xff\xff\xff\x7f"),
    "few bytes": ("x", b"\x01"),
    "true": ("t", True),
    "byte": ("B", 255),
    "negative": ("I", -1),
    "smallest": ("l", -(2**63)),
    "31 bits": ("I", 2**31 - 1),
    "63 bits": ("l", 2**63 - 1),
    "fraction": ("d", 1.5),
    "huge": ("d", 1.7e308),
    "decimal": ("D", Decimal((0, (9,), -255))),
    "date": ("T", 1775121301),
    "date after 9999": ("T", 2**64 - 1),
    "void": ("V", None),
    "table": ("F", {"a": ("I", 1)}),
    "array": ("A", [("I", 1), ("V", None)]),
}
"""NaN and infinity are not among them: the broker itself answers with 541 (RELIABILITY.md 5.2)."""
NUMBER_HEADERS: Final = ("x-retry-count", "MaxRetries", "x-mtrio-snoozes")
TEXT_HEADERS: Final = ("OccurrenceId", "CorrelationId", "JobType", "WorkerId", "x-mtrio-dispatch", "x-mtrio-problem")


def table_of(levels: int, letter: str) -> Field:
    """A field with so many tables, or arrays, inside each other."""
    data = b""
    for _ in range(levels):
        data = (b"\1a" if letter == "F" else b"") + letter.encode() + len(data).to_bytes(4, "big") + data
    return letter, data


def death(queue: str, reason: str, count: int = 1) -> Field:
    texts: dict[str, Field] = {"queue": ("S", queue), "reason": ("S", reason), "exchange": ("S", "")}
    return "F", {**texts, "count": ("l", count), "routing-keys": ("A", [("S", queue)]), "time": ("T", 1)}


DEATHS: Final[dict[str, Headers]] = {
    "of every queue": {"x-death": ("A", [death("q", reason, 2**62) for reason in ("expired", "rejected", "maxlen")])},
    "a text": {"x-death": ("S", "long ago")},
    "not of tables": {"x-death": ("A", [("S", "a"), ("I", 1)])},
    "of empty tables": {"x-death": ("A", [("F", {})])},
    "first and last": {f"x-{which}-death-{what}": ("I", 7) for which in ("first", "last") for what in ("queue", "x")},
}
SHORT_TEXTS: Final = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "message_id",
    "type",
    "app_id",
    "cluster_id",
)


# --- the cases ------------------------------------------------------------------------------------------------------


def _poisonous() -> Iterator[HostileCase]:
    """Four kinds that kill the connection of a client library that reads them strictly (RELIABILITY.md 0.3)."""
    yield _ordinary("poison: header name not UTF-8", headers={"\udcff\udcfe": ("S", "a")})
    yield _ordinary("poison: inner header name not UTF-8", headers={"a": ("F", {"\udcff": ("S", "a")})})
    for name in SHORT_TEXTS:
        yield _ordinary(f"poison: {name} not UTF-8", properties={name: b"\xff\xfe"})
    for timestamp in (253402300800, 2**63, 2**64 - 1):  # from the first second of the year 10000
        yield _ordinary(f"poison: timestamp {timestamp}", properties={"timestamp": timestamp})
        yield _ordinary(f"poison: date {timestamp} in a header", headers={"a": ("T", timestamp)})
    yield _ordinary("poison: tables nested 2,000 deep", headers={"a": table_of(2000, "F")})
    yield _ordinary("poison: arrays nested 2,000 deep", headers={"a": table_of(2000, "A")})
    no_id = _without(_ordinary("poison: the only id not UTF-8"), "OccurrenceId")
    yield evolve(no_id, properties={**no_id.properties, "correlation_id": b"\xff"}, expected="quarantined")


def _with_headers() -> Iterator[HostileCase]:
    for kind, value in TYPED.items():
        for name in NUMBER_HEADERS:
            yield _ordinary(f"{name}: {kind}", headers={name: value})
        for name in TEXT_HEADERS:
            yield _ordinary(f"{name}: {kind}", headers={name: value})
    for kind, headers in DEATHS.items():
        yield _ordinary(f"x-death: {kind}", headers=headers)
    yield _ordinary("headers of 100 kB", headers={"a": ("S", "x" * 100_000)})
    yield _ordinary("2,000 headers", headers={f"h{number}": ("I", number) for number in range(2000)})
    yield _ordinary("header name empty", headers={"": ("S", "")})
    yield _ordinary("header names of 255 bytes", headers={"n" * 255: ("S", "")})


def _with_ids() -> Iterator[HostileCase]:
    both = ("OccurrenceId", "correlation_id")
    yield _without(_ordinary("id only as property"), "OccurrenceId")
    yield _without(_ordinary("id only as header"), "correlation_id")
    yield evolve(_without(_ordinary("no ids"), *both), expected="quarantined")
    yield evolve(_without(_ordinary("no properties"), *both), properties={}, expected="quarantined")
    for name, value in {"empty guid": EMPTY_GUID, "no guid": "7", "empty": ""}.items():
        case = _ordinary(f"ids: {name}", headers={"OccurrenceId": ("S", value)}, properties={"correlation_id": value})
        yield evolve(case, expected="quarantined")
        yield _ordinary(f"id of header: {name}", headers={"OccurrenceId": ("S", value)})
    older = _without(_ordinary("id only as CorrelationId"), *both)
    yield evolve(older, headers={"CorrelationId": ("S", older.occurrence_id)})
    binary = _without(_ordinary("id as bytes"), *both)
    yield evolve(binary, headers={"OccurrenceId": ("x", binary.occurrence_id.encode())})
    capitals = _without(_ordinary("id in capitals"), *both)
    yield evolve(capitals, headers={"OccurrenceId": ("S", capitals.occurrence_id.upper())})
    other = {"CorrelationId": ("S", JOB_ID)}
    yield _ordinary("ids that differ", headers=other, properties={"correlation_id": JOB_ID})


def _with_properties() -> Iterator[HostileCase]:
    yield _ordinary("content type a pickle", properties={"content_type": "application/x-python-pickle"})
    yield _ordinary("content encoding gzip", properties={"content_encoding": "gzip"})
    yield _ordinary("priority 255, delivery mode 1", properties={"priority": 255, "delivery_mode": 1})
    yield _ordinary("timestamp 0", properties={"timestamp": 0})
    yield _ordinary("texts of 255 bytes", properties={"message_id": "m" * 255, "reply_to": "\0" * 255})


def _ordinary(
    name: str, *, headers: Headers | None = None, properties: Properties | None = None, body: bytes | None = None
) -> HostileCase:
    # The id from the name, so that a case keeps it whatever other cases there are.
    occurrence = OccurrenceId(str(uuid5(UUID(JOB_ID), name)))
    return HostileCase(
        name=name,
        expected="runs",
        body=job() if body is None else body,
        headers={"OccurrenceId": ("S", occurrence), **(headers or {})},
        properties={"correlation_id": occurrence, "delivery_mode": 2, "timestamp": 1775121301, **(properties or {})},
        occurrence_id=occurrence,
    )


def _without(case: HostileCase, *names: str) -> HostileCase:
    return evolve(
        case,
        headers={name: value for name, value in case.headers.items() if name not in names},
        properties={name: value for name, value in case.properties.items() if name not in names},
    )


POISONOUS: Final = tuple(_poisonous())
CASES: Final = (
    *(evolve(_ordinary(f"body: {name}", body=body), expected=what) for name, (body, what) in BODIES.items()),
    *_with_ids(),
    *_with_headers(),
    *_with_properties(),
    *POISONOUS,
)
"""All of them, `POISONOUS` too."""
