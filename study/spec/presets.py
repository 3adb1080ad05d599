"""The bundled studies, by name, and the file that a command means."""

from __future__ import annotations

import difflib
from pathlib import Path

from trainables.point.errors import ConfigError

PRESETS = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """Names of the bundled presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_text(name: str) -> str:
    """The file of a preset, as text.

    Raises:
        ConfigError: there is none of that name.
    """
    return (PRESETS / f"{_known(name)}.yaml").read_text()


def find_spec(source: str | Path) -> Path:
    """The file of a spec, or of the preset of that name.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(source)
    if is_file(path):
        return path
    if _is_folder(path):
        raise ConfigError(f"{path} is a folder: give the YAML file of a spec, or the name of a preset")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"{path}: there is no such spec file")
    return PRESETS / f"{_known(str(source), ' or spec file')}.yaml"


def _known(name: str, otherwise: str = "") -> str:
    names = preset_names()
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    raise ConfigError(
        f"{name}: no such preset{otherwise}" + (f": did you mean {near[0]!r}?" if near else f": presets are {', '.join(names)}")
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and str(path) not in preset_names()
    except (OSError, ValueError):  # as for `is_file`
        return False


def is_file(path: Path) -> bool:
    """Whether the path is one of a file, whatever it holds."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one that no file can have
        return False
