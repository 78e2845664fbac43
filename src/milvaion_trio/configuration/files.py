"""Which settings file holds: the one that was named, else the first of those that are looked for.

One file only, so that nobody has to think about which of two said something; `appsettings.json` alone has a second one
over it, the one for the environment, as for .NET workers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from milvaion_trio.configuration import appsettings, toml_file
from milvaion_trio.configuration.sources import Origin, Source
from milvaion_trio.model.settings_rules import shown_name

__all__ = ["LOOKED_FOR", "sources"]

LOOKED_FOR = (
    f"{toml_file.DEFAULT_NAME}, [tool.{toml_file.TABLE[1]}] in {toml_file.PYPROJECT}, {appsettings.DEFAULT_NAME}"
)
"""In the current folder, in this order, for a person to read."""


def sources(config: Path | None, environ: Mapping[str, str], folder: Path) -> list[Source]:
    """The file, with the one over it if there is one; nothing where none was named and none is there.

    A named file that is not there is a source with a problem. Files that stand beside the one that was found, and hold
    settings that so nobody reads, are one warning.
    """
    if config is not None:
        return _named(config, environ, folder)
    found = [
        each
        for each in (
            _alone(toml_file.read(folder / toml_file.DEFAULT_NAME, toml_file.DEFAULT_NAME)),
            _alone(toml_file.read_pyproject(folder / toml_file.PYPROJECT, toml_file.PYPROJECT, is_chosen=False)),
            _appsettings(appsettings.DEFAULT_NAME, environ, folder),
        )
        if each
    ]
    if not found:
        return []
    chosen, *others = found
    if others:
        names = " and ".join(each[0].origin.name for each in others)
        chosen[0].warnings.append(
            f"{chosen[0].origin.name} is the settings file here; {names} beside it {'are' if others[1:] else 'is'} not "
            "read. Name the file that holds with --config FILE, or remove the others."
        )
    return chosen


def _named(config: Path, environ: Mapping[str, str], folder: Path) -> list[Source]:
    path, name, suffix = folder / config, str(config), config.suffix.lower()
    if config.name == toml_file.PYPROJECT:
        found = _alone(toml_file.read_pyproject(path, name, is_chosen=True))
    elif suffix == ".toml":
        found = _alone(toml_file.read(path, name))
    elif suffix == ".json":
        found = _appsettings(name, environ, folder)
        if found and found[0].origin.name != name:  # the one for the environment alone
            found = []
    elif path.is_file():
        why = "its name does not say what kind of file it is; let it end in .toml or .json."
        return [Source.refused(Origin(name=name), why)]
    else:
        found = _alone(toml_file.read(path, name))
    return found or [Source(Origin(name=name), problems=[f"{shown_name(name)}: there is no such file."])]


def _alone(source: Source | None) -> list[Source]:
    return [] if source is None else [source]


def _appsettings(name: str, environ: Mapping[str, str], folder: Path) -> list[Source]:
    paths: Sequence[Path] = tuple(appsettings.files(Path(name), environ))
    return [source for path in paths if (source := appsettings.read(folder / path, str(path))) is not None]
