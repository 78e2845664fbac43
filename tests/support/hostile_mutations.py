"""More hostile messages than anybody writes down: the corpus, changed at random from a seed (RELIABILITY.md 5.3).

Separate from the corpus, whose cases each have one ending that is right: of a mutant only the kinds of endings are
known. What the broker itself would refuse from a publisher (CC, `expiration`, `user_id`) is left alone.
"""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final
from uuid import UUID

from attrs import evolve
from tests.support.amqp_codec import Field
from tests.support.hostile import CASES, NUMBER_HEADERS, SHORT_TEXTS, TEXT_HEADERS, TYPED, HostileCase, table_of

from milvaion_trio.model.ids import OccurrenceId

__all__ = ["mutants"]

MOST_CHANGES: Final = 4
LARGEST: Final = 200_000
"""Bytes of a parent: larger ones are in the corpus, and a thousand of them would only fill the network."""
JUNK: Final = ("", "\0", "\ud800", "\u2028\u202e", "\U0001f600", "../../etc/passwd", "os:system", "%s{}", "x" * 50_000)
VALUES: Final[tuple[object, ...]] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    1.5,
    1e308,
    "",
    "7",
    "0001-01-01T00:00:00Z",
    [],
    {},
    *JUNK,
)
ODD_NAMES: Final = ("x-death", "x-first-death-queue", "\udcff\udcfe", "", "n" * 255)
NO_PARENTS: Final = {"headers of 100 kB", "ids that differ"}
"""The latter without its first id would be a run of another occurrence."""
PARENTS: Final = tuple(case for case in CASES if len(case.body) <= LARGEST and case.name not in NO_PARENTS)

Mutation = Callable[[HostileCase, Random], HostileCase]


def mutants(random: Random, count: int) -> Iterator[HostileCase]:
    """So many messages, each with an occurrence id of its own where it still has one.

    `expected` is the parent's: a mutant runs, is refused or is set aside, and nothing else.
    """
    for number in range(count):
        parent = random.choice(PARENTS)
        mutant = _born(parent, f"mutant {number} of {parent.name}", random)
        for _ in range(random.randint(1, MOST_CHANGES)):
            mutant = random.choice(MUTATIONS)(mutant, random)
        yield mutant


def _born(parent: HostileCase, name: str, random: Random) -> HostileCase:
    """The parent under an id of its own, spelled as the parent spelled its."""
    own = OccurrenceId(str(UUID(int=random.getrandbits(128), version=4)))
    old = str(parent.occurrence_id)

    def renamed(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.replace(old.encode(), own.encode())
        return value.replace(old, own).replace(old.upper(), own.upper()) if isinstance(value, str) else value

    return evolve(
        parent,
        name=name,
        occurrence_id=own,
        headers={name: (letter, renamed(value)) for name, (letter, value) in parent.headers.items()},
        properties={name: renamed(value) for name, value in parent.properties.items()},
    )


# --- bodies ---------------------------------------------------------------------------------------------------------


def _bytes_changed(case: HostileCase, random: Random) -> HostileCase:
    body = bytearray(case.body or b" ")
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(body))
        match random.randrange(4):
            case 0:
                body[place] = random.randrange(256)
            case 1:
                body[place:place] = random.randbytes(random.randint(1, 8))
            case 2:
                body[place:place] = body[place : place + 40]
            case _:
                del body[place + 1 :]
    return evolve(case, body=bytes(body))


def _member_changed(case: HostileCase, random: Random) -> HostileCase:
    """A member dropped, of another type or spelling, twice, or deep inside others."""
    try:
        members = json.loads(case.body)
        name = random.choice(list(members))
        value = members.pop(name)
    except (ValueError, RecursionError, TypeError, IndexError, AttributeError):
        return _bytes_changed(case, random)  # no object, so there are no members
    again = ""
    match random.randrange(6):
        case 0:
            pass
        case 1:
            members[name] = random.choice(VALUES)
        case 2:
            members["".join(random.choice((letter.upper(), letter.lower())) for letter in name)] = value
        case 3:
            members[name] = value
            again = f", {json.dumps(name.swapcase() if random.random() < 0.5 else name)}: {json.dumps(value)}"
        case 4:
            members[name] = value
            levels = random.choice((1, 60, 64, 5_000))
            again = f', "deep": {"[" * levels}{"]" * levels}'
        case _:
            members[name] = value
            members[random.choice(JUNK)] = random.choice(VALUES)
    try:
        text = json.dumps(members, ensure_ascii=random.random() < 0.5)
    except RecursionError:
        return _bytes_changed(case, random)
    body = text[:-1] + again + "}"
    return evolve(case, body=body.encode("utf-8", "surrogatepass"))


# --- headers and properties -----------------------------------------------------------------------------------------


def _header_changed(case: HostileCase, random: Random) -> HostileCase:
    headers: dict[str, Field] = dict(case.headers)
    name = random.choice((*NUMBER_HEADERS, *TEXT_HEADERS, *ODD_NAMES))
    if name in headers and random.random() < 0.2:
        del headers[name]
    else:
        headers[name] = _any_field(random)
    return evolve(case, headers=headers)


def _any_field(random: Random) -> Field:
    match random.randrange(5):
        case 0:
            return table_of(random.choice((1, 8, 300, 2000)), random.choice("FA"))
        case 1:
            return "S", random.randbytes(random.choice((1, 16, 3000)))
        case 2:
            return "A", [random.choice(list(TYPED.values())) for _ in range(random.randint(0, 5))]
        case _:
            return random.choice(list(TYPED.values()))


def _property_changed(case: HostileCase, random: Random) -> HostileCase:
    properties = dict(case.properties)
    match random.randrange(4):
        case 0:
            properties["timestamp"] = random.getrandbits(random.choice((8, 32, 40, 64)))
        case 1:
            properties.pop(random.choice(list(properties)) if properties else "", None)
        case 2:
            properties["priority"] = random.randrange(256)
        case _:
            properties[random.choice(SHORT_TEXTS)] = random.randbytes(random.choice((0, 1, 36, 255)))
    return evolve(case, properties=properties)


MUTATIONS: Final[tuple[Mutation, ...]] = (_bytes_changed, _member_changed, _header_changed, _property_changed)
