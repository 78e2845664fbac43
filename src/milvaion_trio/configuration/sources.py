"""What one source of settings says, and which source wins.

A source yields `Said` values, paths with texts as they are written; here they become leaves, each of which knows the
setting it is for and where it comes from. Later sources win, leaf by leaf.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from attrs import define, field, frozen

from milvaion_trio.configuration.inert import WithoutEffect
from milvaion_trio.configuration.keys import Found, Place, Setting, find, is_alias, is_of_named, nearest
from milvaion_trio.model.schedule_settings import taken_back
from milvaion_trio.model.settings_rules import may_hold_password, shown_name, words_of

__all__ = ["Leaf", "Origin", "Said", "Source", "Values", "merged"]

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
"""Of an item in a list."""


@frozen
class Said:
    """One text in a source."""

    path: tuple[str, ...]
    text: str | None
    """`None` for what only is there: JSON's null, an empty section."""
    is_quoted: bool = True
    kind: type[object] | None = None
    """What it is where values have types, as in TOML: `str`, `int`, `float`, `bool`, or else `object`; without a text
    an empty `dict` or `list`, which is no null."""
    line: int | None = None
    """Where it stands, if that is known."""
    name: str | None = None
    """How the source calls it, where that is not its path."""


@frozen(kw_only=True)
class Origin:
    """Which source it is, and how it writes paths."""

    name: str
    written: Callable[[tuple[str, ...]], str] = ":".join
    """A path as the source has it."""
    spelled: Callable[[tuple[str, ...]], str] = ":".join
    """A path of the table as the source would have it."""
    is_strict: bool = False
    """Whether an unknown key is a mistake. The files of .NET workers carry keys that nobody reads."""
    is_short: bool = False
    """Whether `Worker` may be left out."""
    is_flat: bool = False
    """Whether every setting has a name of its own there, instead of standing in sections."""


@frozen(kw_only=True)
class Leaf:
    """The text of a setting, and where it comes from."""

    setting: Setting
    place: Place
    number: int | None
    """Of an item in a list; a text that is not in a list, or is all of it, has none."""
    text: str
    source: str
    """Which it is, with the line if that is known."""
    name: str
    is_quoted: bool
    kind: type[object] | None
    is_flat: bool

    @property
    def origin(self) -> str:
        """Source and path, as errors name them."""
        return f"{self.source}: {self.name}"

    @property
    def short_origin(self) -> str:
        """Where to look for somebody who knows what it is about."""
        return self.name if self.is_flat else self.source

    @property
    def shown(self) -> str:
        """The text for errors, unless it is a secret."""
        if self.setting.is_secret or may_hold_password(self.text):
            return "not shown here"
        text = self.text if len(self.text) <= 60 else f"{self.text[:60]}…"
        quoted = json.dumps(text, ensure_ascii=False) if self.is_quoted else text
        return quoted.encode("utf-8", "backslashreplace").decode()  # variables may hold what cannot be printed


@define
class Source:
    """Everything that one source says, and what is wrong with it."""

    origin: Origin
    leaves: dict[tuple[Place, int | None], Leaf] = field(factory=dict)
    sections: dict[Place, str] = field(factory=dict)
    """Sections, jobs and schedules that the source names, even if it says nothing about them; with their names as
    written."""
    named: dict[Place, str] = field(factory=dict)
    """Where it names jobs and schedules."""
    problems: list[str] = field(factory=list)
    warnings: list[str] = field(factory=list)
    notes: list[str] = field(factory=list)
    """What has no effect and is missed by nobody."""
    _unknown_sections: set[str] = field(factory=set, init=False)

    @classmethod
    def of(cls, said: Iterable[Said], origin: Origin) -> "Source":
        """Find the setting for everything that was said."""
        source = cls(origin)
        for one in said:
            source._take(one)
        source._check_lists()
        source.warnings = list(dict.fromkeys(source.warnings))
        source.problems = list(dict.fromkeys(source.problems))
        source.notes = list(dict.fromkeys(source.notes))
        return source

    @classmethod
    def refused(cls, origin: Origin, why: object) -> "Source":
        """One that says nothing but why."""
        return cls(origin, problems=[f"{origin.name}: {why}"])

    @classmethod
    def unreadable(cls, origin: Origin, error: OSError) -> "Source":
        """One of a file that the system does not let us read."""
        return cls.refused(origin, f"the file cannot be read: {error.strerror}.")

    def _take(self, said: Said) -> None:
        found = find(said.path, is_short=self.origin.is_short)
        if not found.path:
            return  # a section of somebody else
        name = shown_name(said.name or self.origin.written(said.path))
        for depth in range(len(found.place)):
            self.sections.setdefault(found.place[: depth + 1], found.path[depth])
        self._note_name(found, said, name)
        match found.meaning, found.rest:
            case Setting() as setting, rest if _is_empty(said) and (not rest or _is_item(setting, rest)):
                what = "list" if said.kind is list else "table"
                must = words_of(setting.annotation) if rest else _words(setting)
                least = ", with at least one item" if setting.is_list and not rest else ""
                self._problem(f"{name} is an empty {what}; it must be {must}{least}.", said.line)
            case Setting() as setting, () if said.kind is None or not setting.is_list or said.text is None:
                self._add(setting, found, said, name)
            case Setting() as setting, () if is_alias(said.path[-1], setting):
                self._add(setting, found, said, name)
            case Setting() as setting, ():
                self._problem(f"{name} is a single value; it must be {_words(setting)}.", said.line)
            case Setting() as setting, rest if _is_item(setting, rest):
                self._add(setting, found, said, name)
            case Setting() as setting, rest:
                upper = shown_name(self.origin.written(said.path[: -len(rest)]))
                self._problem(f"{upper} has names below it; it must be {_words(setting)}.", said.line)
            case WithoutEffect() as key, _:
                if key.is_missed and (said.text or "").strip().lower() not in ("", "false"):
                    self._warning(f"{name} has no effect; {key.why}.", said.line)
                else:
                    self._note(f"{name} has no effect; {key.why}.", said.line)
            case None, ():
                if said.kind is list:
                    self._problem(f"{name} is a list; it must be a section, with names below it.", said.line)
                elif said.text is not None:
                    self._problem(f"{name} is a single value; it must be a section, with names below it.", said.line)
            case None, rest:
                upper = said.name or self.origin.written(said.path[: len(said.path) - len(rest) + 1])
                self._unknown(found, shown_name(upper), name, said.line)

    def _note_name(self, found: Found, said: Said, name: str) -> None:
        if len(found.place) < 2 or not is_of_named(found.path):
            return
        upper = len(said.path) - len(found.rest) - len(found.place) + 2
        shown = name if self.origin.is_flat or said.name else shown_name(self.origin.written(said.path[:upper]))
        self.named.setdefault(found.place[:2], f"{self._where(None)}: {shown}")

    def _add(self, setting: Setting, found: Found, said: Said, name: str) -> None:
        if said.text is None:
            return
        leaf = Leaf(
            setting=setting,
            place=found.place,
            number=int(found.rest[0]) if found.rest else None,
            text=said.text,
            source=self._where(said.line),
            name=name,
            is_quoted=said.is_quoted,
            kind=said.kind,
            is_flat=self.origin.is_flat,
        )
        first = self.leaves.setdefault((leaf.place, leaf.number), leaf)
        if first.text != leaf.text:
            self._contradiction(first, leaf)

    def _check_lists(self) -> None:
        """A list may be told by its only item or item by item, and by both if they agree on the first."""
        for whole in [leaf for (_, number), leaf in self.leaves.items() if number is None and leaf.setting.is_list]:
            items = [leaf for leaf in self.leaves.values() if leaf.place == whole.place and leaf is not whole]
            if items:
                del self.leaves[whole.place, None]
                first = self.leaves.get((whole.place, 0), items[0])
                if (first.number, first.text) != (0, whole.text):
                    self._contradiction(whole, first)

    def _contradiction(self, first: Leaf, second: Leaf) -> None:
        if first.name == second.name:
            self._problem(f"{first.name} is there twice, with different values.")
        else:
            self._problem(f"{first.name} and {second.name} are the same setting, with different values.")

    def _unknown(self, found: Found, upper: str, name: str, line: int | None) -> None:
        meant = nearest(found)
        depth = len(found.path)
        if not self.origin.is_flat and name != upper:  # a section, told once for all that is in it
            if upper in self._unknown_sections:
                return
            self._unknown_sections.add(upper)
            name = upper
            meant = meant[: depth + 1] if meant is not None and meant[:depth] == found.path else meant
        hint = f"; did you mean {shown_name(self.origin.spelled(meant))}?" if meant is not None else "."
        if self.origin.is_strict:
            self._problem(f"{name} is no setting{hint}", line)
        else:
            self._warning(f"{upper} is no setting and is ignored{hint}", line)

    def _problem(self, text: str, line: int | None = None) -> None:
        self.problems.append(f"{self._where(line)}: {text}")

    def _warning(self, text: str, line: int | None) -> None:
        self.warnings.append(f"{self._where(line)}: {text}")

    def _note(self, text: str, line: int | None) -> None:
        self.notes.append(f"{self._where(line)}: {text}")

    def _where(self, line: int | None) -> str:
        return self.origin.name if line is None else f"{self.origin.name}, line {line}"


Values: TypeAlias = Mapping[Place, Mapping[int, Leaf]]
"""What counts, place by place: one leaf, or those of a list by their numbers."""


def merged(sources: Iterable[Source]) -> Values:
    """Later sources over earlier ones; items of a list number by number, as .NET does, or all of it at once."""
    values: dict[Place, dict[int, Leaf]] = {}
    for source in sources:
        for place in _taken_back(source):
            values.pop(place, None)
        for leaf in source.leaves.values():
            slot = values.setdefault(leaf.place, {})
            if leaf.number is None:
                slot.clear()
            slot[leaf.number or 0] = leaf
    return values


def _taken_back(source: Source) -> Iterator[Place]:
    """What of earlier sources does not hold any more, although this one does not say it."""
    said: dict[Place, set[str]] = {}
    for leaf in source.leaves.values():
        if leaf.place[0] == "schedules":
            said.setdefault(leaf.place[:-1], set()).add(leaf.place[-1])
    yield from ((*place, name) for place, names in said.items() for name in taken_back(names))


def _is_empty(said: Said) -> bool:
    return said.text is None and said.kind is not None


def _is_item(setting: Setting, rest: tuple[str, ...]) -> bool:
    return setting.is_list and len(rest) == 1 and _NUMBER.fullmatch(rest[0]) is not None


def _words(setting: Setting) -> str:
    words = words_of(setting.annotation)
    return f"a list, each item {words}" if setting.is_list else words
