"""The JSON Schema of `milvaion.toml`, for editors and other programs: made from the classes that check the settings.

It knows the names of the attributes. The reader also takes .NET's, in any case: a file that the schema accepts is read,
and one that it refuses is either refused or written in another spelling.
"""

import ast
import inspect
import itertools
import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Final, TypeAlias, get_args, get_origin

from attrs import NOTHING, Attribute, AttrsInstance, fields

from milvaion_trio.configuration.inert import WITHOUT_EFFECT
from milvaion_trio.configuration.keys import MAPPINGS, SCHEMA_VERSION, SETTINGS, Place, Setting, find
from milvaion_trio.configuration.reading import TRANSLATED
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.settings_rules import Form, Range, section_of

__all__ = ["meanings", "settings_schema"]

Schema: TypeAlias = dict[str, object]

_TYPES: Final[Mapping[object, Schema]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},  # which is what a date without quotes is to editors of TOML
}
_BY_PLACE: Final = {setting.place: setting for setting in SETTINGS}
_INERT: Final = {find(key.path).place: key for key in WITHOUT_EFFECT}


def settings_schema() -> Schema:
    """The schema as JSON values, of draft 2020-12; its `$id` has the version that the file may name itself."""
    worker = _section(WorkerSettings, ())
    mappings: Schema = {
        mapped.attribute: {
            "type": "object",
            "description": f"Settings of single {mapped.attribute}, by their names.",
            "additionalProperties": _section(mapped.kind, (mapped.attribute, mapped.any_name)),
            "propertyNames": {"minLength": 1},
        }
        for mapped in MAPPINGS
    }
    version = {
        "description": "The version of these names.",
        "type": "integer",
        "minimum": 1,
        "maximum": SCHEMA_VERSION,
    }
    properties: Schema = {**_mapping(worker["properties"]), **mappings}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:milvaion-trio:settings:{SCHEMA_VERSION}",
        "title": "Settings of milvaion-trio",
        "description": "milvaion.toml, or the table [tool.milvaion-trio] of a pyproject.toml.",
        **worker,
        "properties": {
            "version": version,
            "worker": {**worker, "description": "The same; may be left out.", "properties": properties},
            **properties,
        },
    }


def meanings(kind: type[AttrsInstance]) -> dict[str, str]:
    """The text under each field, which Python does not keep; nothing where the source code is not at hand."""
    try:
        source = inspect.getsource(kind)
    except OSError:  # installed without it
        return {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    texts: dict[str, str] = {}
    for statement, text in itertools.pairwise(body):
        match statement, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                texts[name] = " ".join(meaning.split())
    return texts


def _section(kind: type[AttrsInstance], place: Place) -> Schema:
    texts = meanings(kind)
    properties: Schema = {}
    for attribute in fields(kind):
        here = (*place, attribute.name)
        described: Schema = {"description": texts[attribute.name]} if attribute.name in texts else {}
        if (section := section_of(attribute.type)) is not None:
            about = (inspect.getdoc(section) or "").partition("\n")[0]
            properties[attribute.name] = {"description": about, **_section(section, here)}
        elif (setting := _BY_PLACE.get(here)) is not None:
            properties[attribute.name] = described | _value(setting) | _default(attribute)
    return _closed({**properties, **_inert(place, properties)})


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _inert(place: Place, known: Schema) -> Schema:
    """What may stand there and does nothing."""
    properties: Schema = {}
    for inert, key in _INERT.items():
        name = inert[len(place)] if inert[: len(place)] == place and len(inert) > len(place) else None
        if name is not None and name not in known:
            if len(inert) > len(place) + 1:
                properties[name] = _closed(_inert((*place, name), {}))
            else:
                properties[name] = {"description": f"Without effect: {key.why}.", "deprecated": True}
    return properties


def _value(setting: Setting) -> Schema:
    item = _plain(setting.annotation, is_translated=setting.place in TRANSLATED)
    return {"type": "array", "items": item, "minItems": 1} if setting.is_list else item


def _plain(annotation: object, *, is_translated: bool) -> Schema:
    """The type with its rules; the reader makes sense of some values that the classes refuse, so no rules there."""
    rules: tuple[object, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *others = get_args(annotation)
        rules = () if is_translated else tuple(others)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"enum": [member.value for member in annotation]}
    schema = dict(_TYPES[annotation])
    for rule in rules:
        match rule:
            case Range(least, most):
                bounds = {"minimum": least, "maximum": most}
                schema |= {name: bound for name, bound in bounds.items() if math.isfinite(bound)}
            case Form(pattern):
                schema["pattern"] = f"^(?:{pattern})$"
    return schema


def _default(attribute: "Attribute[object]") -> Schema:
    default = attribute.default
    is_made = hasattr(default, "factory")  # from other settings, which no schema can say
    if default is NOTHING or is_made or default in (None, ()) or callable(attribute.repr):
        return {}
    return {"default": default.value if isinstance(default, Enum) else default}


def _mapping(value: object) -> Schema:
    return dict(value) if isinstance(value, dict) else {}
