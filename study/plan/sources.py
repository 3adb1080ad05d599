"""The user's own modules, which ``imports:`` names: read once, and carried to the workers as text."""

from __future__ import annotations

from study.spec.reading import Spec
from trainables.measures import find_measure
from trainables.models import custom as custom
from trainables.point.errors import ConfigError


def read_sources(spec: Spec) -> dict[str, str]:
    """The user's modules by path, their models and measures registered in this process.

    Raises:
        ConfigError: one cannot be read, or raises, or the spec names a measure that neither they nor gaplab have.
    """
    sources = {}
    for path in spec.imports:
        try:
            sources[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"imports: {path} cannot be read: {error}") from None
    for name, text in sources.items():
        custom.register(name, text)
    for name in spec.measures:
        find_measure(name)
    return sources
