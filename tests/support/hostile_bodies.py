"""Bodies of job messages that nobody should send, and what a worker makes of each (RELIABILITY.md 5.2).

Separate from `hostile`, where they become messages beside those whose headers or properties are wrong.
"""

import json
from typing import Final, Literal, TypeAlias
from uuid import UUID

__all__ = ["BODIES", "EMPTY_GUID", "JOB_ID", "Expected", "job"]

Expected: TypeAlias = Literal["runs", "refused", "quarantined"]

JOB_ID: Final = str(UUID(int=0xBAD))
EMPTY_GUID: Final = str(UUID(int=0))


def job(**members: object) -> bytes:
    """An ordinary body with other members; `...` takes one away."""
    ordinary = {"id": JOB_ID, "displayName": "Probe", "jobNameInWorker": "Probe", "executeAt": "2026-04-02T09:15:00Z"}
    return json.dumps({name: value for name, value in {**ordinary, **members}.items() if value is not ...}).encode()


def raw_member(text: str) -> bytes:
    """An ordinary body with one more member, as it is written here."""
    return job()[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


def nested(levels: int) -> str:
    """Arrays inside each other."""
    return "[" * levels + "]" * levels


BODIES: Final[dict[str, tuple[bytes, Expected]]] = {
    "nothing wrong": (job(), "runs"),
    "blanks around": (b" \r\n" + job() + b"\n\n", "runs"),
    "unknown members": (job(nonsense=[{"a": None}], __class__="os.system"), "runs"),
    "names in capitals": (job().replace(b"jobNameInWorker", b"JOBNAMEINWORKER"), "runs"),
    "id in capitals": (job(id="ABCDEF00-0000-0000-0000-000000000001"), "runs"),
    # nothing can be told of it
    "empty": (b"", "quarantined"),
    "broken": (job()[:-1], "quarantined"),
    "something behind": (job() + b"x", "quarantined"),
    "two documents": (job() + job(), "quarantined"),
    "null": (b"null", "quarantined"),
    "an array": (b"[" + job() + b"]", "quarantined"),
    "a text": (json.dumps(job().decode()).encode(), "quarantined"),
    "a number": (b"7", "quarantined"),
    "a pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "quarantined"),
    "comments": (raw_member('"a": 1 /* b */'), "quarantined"),
    "no job id": (job(id=...), "quarantined"),
    "job id null": (job(id=None), "quarantined"),
    "job id empty": (job(id=""), "quarantined"),
    "job id the empty guid": (job(id=EMPTY_GUID), "quarantined"),
    "job id a number": (job(id=7), "quarantined"),
    "job id in braces": (job(id=f"{{{JOB_ID}}}"), "quarantined"),
    "job id with a line end": (job(id=f"{JOB_ID}\n"), "quarantined"),
    "job id in other digits": (job(id=JOB_ID.replace("0", "\u0660")), "quarantined"),
    # encodings
    "not UTF-8": (job().replace(b"Probe", b"Pr\xffbe"), "quarantined"),
    "overlong UTF-8": (raw_member('"a": "?"').replace(b"?", b"\xc0\x80"), "quarantined"),
    "surrogates in UTF-8": (raw_member('"a": "\ud800"'), "quarantined"),
    "UTF-16": (job().decode().encode("utf-16"), "quarantined"),
    "UTF-16 without BOM": (job().decode().encode("utf-16-le"), "quarantined"),
    "UTF-32": (job().decode().encode("utf-32"), "quarantined"),
    "BOM": (b"\xef\xbb\xbf" + job(), "quarantined"),
    "NUL between": (job().replace(b",", b",\0"), "quarantined"),
    "NUL in a text": (raw_member('"a": "\0"'), "quarantined"),
    "NUL behind": (job() + b"\0", "quarantined"),
    "NUL escaped": (job(displayName="a\0b", tags="\0"), "runs"),
    "lone surrogates escaped": (job(displayName="\ud800", description="\udfff\ud800"), "runs"),
    "names of surrogates": (raw_member(r'"\ud800": 1'), "runs"),
    "names of different surrogates": (raw_member(r'"\ud800": 1, "\ud801": 2'), "quarantined"),
    "control characters": (job(displayName="\x1b[2J\r\n\u2028\u202e{}%s"), "runs"),
    # numbers and nesting
    "NaN": (raw_member('"a": NaN'), "quarantined"),
    "Infinity": (raw_member('"a": -Infinity'), "quarantined"),
    "1e999": (raw_member('"a": 1e999'), "quarantined"),
    "an int of 5,000 digits": (raw_member(f'"a": {"9" * 5000}'), "quarantined"),
    "an int of 65 bits": (raw_member(f'"a": {2**64}'), "quarantined"),
    "nested 100,000 levels": (raw_member(f'"a": {nested(100_000)}'), "quarantined"),
    "nested too deep": (raw_member(f'"a": {nested(64)}'), "quarantined"),
    "nested as deep as allowed": (raw_member(f'"a": {nested(63)}'), "runs"),
    "brackets never closed": (b"[" * 100_000, "quarantined"),
    "brackets in a text": (job(description="[" * 100_000), "runs"),
    "a name twice": (raw_member('"a": 1, "a": 2'), "quarantined"),
    "job id twice": (raw_member(f'"id": "{JOB_ID}"'), "quarantined"),
    "job id twice, in another case": (raw_member(f'"Id": "{JOB_ID}"'), "quarantined"),
    # sizes
    "1.5 MB of data": (job(jobData=json.dumps("x" * 1_500_000)), "runs"),
    "1.5 MB of junk": (b"x" * 1_500_000, "quarantined"),
    "20,000 members": (job(**{f"m{number}": number for number in range(20_000)}), "runs"),
    "a long name": (job(displayName="n" * 10_000, tags="t" * 10_000), "runs"),
    # well-formed, of other types
    "unknown job": (job(jobNameInWorker="Nonsense"), "refused"),
    "no job name": (job(jobNameInWorker=...), "refused"),
    "job name null": (job(jobNameInWorker=None), "refused"),
    "job name a path": (job(jobNameInWorker="../../etc/passwd\0"), "refused"),
    "job name an import": (job(jobNameInWorker="os:system"), "refused"),
    "job name a number": (job(jobNameInWorker=7), "refused"),
    "job name of surrogates": (job(jobNameInWorker="\ud800"), "refused"),
    "job name of 1 MB": (job(jobNameInWorker="n" * 1_000_000), "refused"),
    "display name a number": (job(displayName=7), "refused"),
    "version a text": (job(version="3"), "refused"),
    "version of 33 bits": (job(version=2**32), "refused"),
    "version a fraction": (job(version=1.0), "refused"),
    "date that is none": (job(executeAt="soon"), "refused"),
    "date null": (job(executeAt=None), "refused"),
    "flag a text": (job(isActive="true"), "refused"),
    "list a text": (job(jobVersions="none"), "refused"),
    "object a list": (job(autoDisableSettings=[]), "refused"),
    "time limit a text": (job(executionTimeoutSeconds="5"), "refused"),
    "time limit of 32 bits": (job(executionTimeoutSeconds=2**31), "refused"),
    "time limit of 31 bits": (job(executionTimeoutSeconds=2**31 - 1), "runs"),
    "time limit below zero": (job(executionTimeoutSeconds=-(2**31)), "runs"),
    # data
    "no data": (job(), "runs"),
    "data empty": (job(jobData=""), "runs"),
    "data null": (job(jobData="null"), "runs"),
    "data not JSON": (job(jobData="{broken"), "refused"),
    "data an object": (job(jobData={"number": 1}), "refused"),
    "data NaN": (job(jobData="[NaN]"), "refused"),
    "data with NUL": (job(jobData='"\\u0000"'), "runs"),
    "data with a raw NUL": (job(jobData='"\0"'), "refused"),
    "data of surrogates": (job(jobData=r'"\ud800"'), "runs"),
    "data nested 100,000 levels": (job(jobData="[" * 100_000), "refused"),
    "data with a name twice": (job(jobData='{"a":1,"a":2}'), "refused"),
    "picky: fitting data": (job(jobNameInWorker="PickyProbe", jobData='{"number":1}'), "runs"),
    "picky: no data": (job(jobNameInWorker="PickyProbe"), "refused"),
    "picky: data empty": (job(jobNameInWorker="PickyProbe", jobData=""), "refused"),
    "picky: data null": (job(jobNameInWorker="PickyProbe", jobData="null"), "refused"),
    "picky: data of a wrong type": (job(jobNameInWorker="PickyProbe", jobData='{"number":"1"}'), "refused"),
    "picky: data lacking": (job(jobNameInWorker="PickyProbe", jobData='{"name":"a"}'), "refused"),
    "picky: data an array": (job(jobNameInWorker="PickyProbe", jobData="[1]"), "refused"),
}
