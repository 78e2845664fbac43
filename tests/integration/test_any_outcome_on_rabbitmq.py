"""Whatever jobs return, log and raise, on a real RabbitMQ: the API can store it, and the next job runs.

One NUL character would make it repeat a batch for ever (WIRE.md 0.1, 13.2).
"""

import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import trio
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.cluster import cluster, serving

from milvaion_trio import JobContext, JobResult, PermanentFailure
from milvaion_trio.model.events import Event, LinkDown, LinkUp

MEGABYTE: Final = 1_000_000


class Raising:
    """An object of which nothing can be asked."""

    def __str__(self) -> str:
        raise OSError("no str")

    def __repr__(self) -> str:
        raise OSError("no repr")

    def __iter__(self) -> Iterator[object]:
        raise OSError("no iter")


class Lying(str):
    """A text whose methods lie."""

    def __str__(self) -> str:
        return "a lie \0"

    def encode(self, *_: object) -> bytes:
        return b"\xff"


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def containing_itself() -> dict[str, object]:
    value: dict[str, object] = {}
    value["self"] = value
    return value


VALUES: Final[dict[str, Callable[[], object]]] = {
    "nothing": lambda: None,
    "empty text": lambda: "",
    "NUL": lambda: "a\0b",
    "lone surrogates": lambda: "\ud800 and \udfff",
    "surrogates in a text of 1 MB": lambda: "\ud800" * MEGABYTE,
    "1 MB": lambda: "x" * MEGABYTE,
    "1 MB of four bytes each": lambda: "\U0001f600" * (MEGABYTE // 4),
    "control characters": lambda: "".join(map(chr, range(0xA0))) + "\u2028\u202e\ufeff\ufffe\uffff",
    "JSON text": lambda: '{"a": "\\u0000"}',
    "broken JSON text": lambda: '{"a": "\\u00',
    "a text that lies": lambda: Lying("text"),
    "NaN": lambda: math.nan,
    "infinities": lambda: {"up": math.inf, "down": [-math.inf]},
    "decimal NaN": lambda: [Decimal("NaN"), Decimal("sNaN"), Decimal("1E+1000"), Decimal("-Infinity")],
    "65 bits": lambda: 2**64,
    "20,000 digits": lambda: 10**20_000,
    "bytes": lambda: b"\x00\xff",
    "dates": lambda: [datetime.min, datetime.max, timedelta.max],
    "an object": object,
    "a function": lambda: nested,
    "a generator": lambda: (number for number in range(3)),
    "an object that raises": Raising,
    "objects that raise": lambda: {"a": [Raising()]},
    "an error": lambda: ValueError("a\0b"),
    "itself inside": containing_itself,
    "nested 10,000 deep": lambda: nested(10_000),
    "nested 60 deep": lambda: nested(60),
    "NUL in a name": lambda: {"a\0b": {"\ud800": "\0"}},
    "names that become equal": lambda: {chr(0xD800): 1, chr(0xD801): 2, chr(0xFFFD): 3},
    "names that are no texts": lambda: {None: 1, (1, 2): 2, 1.5: 3, Raising(): 4},
    "20,000 members": lambda: {f"m{number}": number for number in range(20_000)},
    "1 MB of members": lambda: ["x" * 1000] * 1000,
    "a set of mixed": lambda: {1, "a", None, b"\0"},
    "a result of a result": lambda: JobResult.success(JobResult.success("\0")),
}


def chained(length: int) -> Exception:
    error = first = ValueError("0")
    for number in range(1, length):
        error.__cause__ = ValueError(str(number))
        error = error.__cause__
    return first


def biting_its_tail() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def with_notes() -> Exception:
    error = ValueError("noted")
    error.add_note("\0" * 1000)
    error.__notes__ += [None, Raising()]  # type: ignore[list-item]  # nobody checks
    return error


ERRORS: Final[dict[str, Callable[[], BaseException]]] = {
    "NUL": lambda: ValueError("a\0b"),
    "lone surrogates": lambda: ValueError("\ud800 and \udfff"),
    "1 MB": lambda: OSError("x" * MEGABYTE),
    "1 MB of four bytes each": lambda: OSError("\U0001f600" * (MEGABYTE // 4)),
    "control characters": lambda: ValueError("".join(map(chr, range(0xA0))) + "\u2028"),
    "no text": ValueError,
    "many arguments": lambda: ValueError(*range(10_000)),
    "arguments that raise": lambda: ValueError(Raising()),
    "a class of a strange name": lambda: type("Strange \u202e\x1b[2J", (Exception,), {})("x"),
    "a class whose str raises": lambda: type("Mute", (Exception,), {"__str__": Raising.__str__})("x"),
    "a word that the API looks for": lambda: ValueError("zombie"),
    "a chain of 1,000": lambda: chained(1000),
    "a chain that bites its tail": biting_its_tail,
    "notes": with_notes,
    "a group": lambda: ExceptionGroup("many", [ValueError("\0")] * 1000),
    "groups in groups": lambda: ExceptionGroup("a", [ExceptionGroup("b", [ValueError("c\0"), PermanentFailure("d")])]),
    "permanent": lambda: PermanentFailure("a\0b" * 100_000),
    "permanent without a text": PermanentFailure,
    "leaving": lambda: SystemExit("\0"),
    "StopIteration": StopIteration,
    "no memory": lambda: MemoryError("\0"),
}

RESULTS: Final = {
    "nothing": "Returns finished without a return value",
    "empty text": "",
    "NUL": "a\ufffdb",
    "lone surrogates": "\ufffd and \ufffd",
    "JSON text": '{"a": "\\u0000"}',
    "NaN": "nan",
    "NUL in a name": '{"a\\uFFFDb":{"\\uFFFD":"\\uFFFD"}}',
    "a result of a result": "\ufffd",
}
"""What some of the values look like at the API."""
LINES: Final = 5
"""That a job logs about a value."""


async def test_whatever_jobs_return_log_and_raise() -> None:
    """Every job ends as it did, once; over one connection; and none disturbs another."""
    links: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, LinkUp | LinkDown):
            links.append(f"{event.link} {type(event).__name__}")

    quick = ApiSettings(status_interval=0.02, log_interval=0.1)
    with trio.fail_after(60):
        async with cluster(api_settings=quick) as c:
            worker = c.worker("tests")
            worker.observers = (hear,)  # not the log, which would be long

            @worker.job("Returns")
            async def returns(kind: str) -> object:
                return VALUES[kind]()

            @worker.job("Logs")
            async def logs(ctx: JobContext, kind: str) -> None:
                value = VALUES[kind]()
                text: str = value  # type: ignore[assignment]  # what users do
                ctx.log.info(text)
                ctx.log.error("value", value=value)
                ctx.log.warning("inside", **{"a\0\ud800": [{"b": value}]})
                ctx.log.debug(f"{kind}\0\ud800")
                ctx.progress(0.5, text)

            @worker.job("Raises", max_retries=0)
            async def raises(ctx: JobContext, kind: str) -> None:
                ctx.log.info(kind)
                raise ERRORS[kind]()

            async with serving(worker):
                api = c.api
                ended = {
                    (name, kind): await api.dispatch(name, json.dumps(kind))
                    for name, kinds in (("Returns", list(VALUES)), ("Logs", list(VALUES)), ("Raises", list(ERRORS)))
                    for kind in kinds
                }
                await api.until_ended()
                await api.until_idle()

            assert sorted(links) == ["consuming LinkUp", "publishing LinkUp"]
            assert not api.model.notes
            for (name, kind), occurrence_id in ended.items():
                occurrence = api.occurrence(occurrence_id)
                end = OccurrenceStatus.FAILED if name == "Raises" else OccurrenceStatus.COMPLETED
                assert [status.status for status in occurrence.wire] == [OccurrenceStatus.RUNNING, end], (name, kind)
                if name == "Logs":
                    assert len(occurrence.logs) == LINES, kind
            results = {kind: api.occurrence(ended["Returns", kind]).wire[-1].result for kind in RESULTS}
            assert results == RESULTS
            letters = sorted(row.occurrence_id for row in api.failed_occurrences)
            assert letters == sorted(ended["Raises", kind] for kind in ERRORS)
            assert {row.job_name for row in api.failed_occurrences} == {"Raises"}
