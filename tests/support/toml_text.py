"""TOML of values, for tests: Python reads it and does not write it."""

import json
import re
from collections.abc import Iterator, Mapping

__all__ = ["written"]


def written(tables: Mapping[str, object]) -> str:
    """The document that holds these values, a table below a header."""
    return "\n".join(_lines(tables, ()))


def _lines(table: Mapping[str, object], above: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{_key(name)} = {_value(value)}" for name, value in table.items() if not isinstance(value, dict))
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"[{'.'.join(map(_key, (*above, name)))}]"
            yield from _lines(value, (*above, name))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case float():
            text = repr(value)
            return text if set(text) & set(".en") else f"{text}.0"
        case _:
            return str(value)


def _text(text: str) -> str:
    """As in JSON, where TOML escapes one character more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
