"""Samplers and pruners that gaplab does not bring: the user's own, in a file, and packages of OptunaHub."""

from __future__ import annotations

import hashlib
import inspect
import os
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.guest import environment
from trainables.models.custom import executed
from trainables.point.errors import ConfigError, leave_if_stopped, named

HUB = "optunahub:"
_ASKS = "OPTUNAHUB_NO_ANALYTICS"
"""Unless it is set, OptunaHub asks on the terminal, once, whether it may count what is loaded."""


class CustomError(ConfigError):
    """What the user's own sampler or pruner raises in the middle of a search, which cannot go on then."""


@dataclass(frozen=True)
class Custom:
    """A sampler or a pruner of the user's, or of OptunaHub.

    Attributes:
        field: of the spec, which names it: "search.sampler" or "search.pruner".
        reference: as the spec has it: ``FILE.py:NAME``, ``optunahub:PACKAGE`` or ``optunahub:PACKAGE:NAME``.
        path: of the file; empty for a package.
        text: of the file; empty for a package.
        digest: SHA-256 of the file, or of all files of the package, in 64 hex digits.
    """

    field: str
    reference: str
    path: str
    text: str
    digest: str

    @property
    def told(self) -> str:
        """What it is, in words, with the first digits of its digest."""
        return f"{self.reference} (SHA-256 {self.digest[:12]})"

    def build(self, **offered: Any) -> Any:
        """A new one.

        Args:
            offered: by name, what it is given if it takes a parameter of that name.

        Raises:
            ConfigError: it cannot be made, or is not what the field is for.
        """
        base = _base(self.field)
        module = executed(self.path, self.text, self.field) if self.path else _loaded(self.field, self.reference)
        name = self.reference.removeprefix(HUB).partition(":")[2] if not self.path else self.reference.rpartition(":")[2]
        factory = getattr(module, name, None) if name else _only(module, base, self)
        if not callable(factory):
            what = "has no" if factory is None else "makes one thing for all cells of"
            raise ConfigError(f"{self.field}: {self.path or self.reference} {what} {name}: name a class, or a function that makes one")
        with self.blamed():
            taken = inspect.signature(factory).parameters
            made = factory(**{key: value for key, value in offered.items() if key in taken})
        if not isinstance(made, base):
            raise ConfigError(f"{self.field}: {self.reference} makes a {type(made).__name__}, which is no optuna {base.__name__}")
        return made

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What is raised meanwhile is said to be this one's.

        Raises:
            CustomError: instead.
        """
        try:
            yield
        except ConfigError:
            raise
        except BaseException as error:
            leave_if_stopped(error)
            raise CustomError(f"{self.field} {self.reference} raises {named(error)}") from None


def is_custom(reference: str) -> bool:
    """Whether it is written as one's own, or as OptunaHub's, and not as one of gaplab's names."""
    return ":" in reference


def read(field: str, reference: str, folder: Path) -> Custom:
    """Look one up, and make it once.

    Args:
        field: "search.sampler" or "search.pruner".
        folder: to which files are relative.

    Raises:
        ConfigError: it cannot be read or made.
    """
    if reference.startswith(HUB):
        module = _loaded(field, reference)
        found = Custom(field, reference, "", "", _digest(Path(module.__file__ or "").parent))
    else:
        file, _, name = reference.rpartition(":")
        path = folder / file
        if not path.is_file() or not name.isidentifier():
            raise ConfigError(f"{field} is {reference!r}: it must be FILE.py:NAME, relative to the spec, or optunahub:PACKAGE")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{field}: {path} cannot be read: {error}") from None
        found = Custom(field, reference, str(path), text, hashlib.sha256(text.encode()).hexdigest())
    found.build(seed=0)
    return found


def _base(field: str) -> type:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    return BasePruner if field == "search.pruner" else BaseSampler


def _loaded(field: str, reference: str) -> types.ModuleType:
    """A package of OptunaHub, from its cache on this machine, or from its registry."""
    try:
        import optunahub
    except ImportError:
        raise ConfigError(f"{field} {reference} needs the package optunahub: pip install optunahub") from None
    package = reference.removeprefix(HUB).partition(":")[0]
    try:
        with environment({_ASKS: os.environ.get(_ASKS, "1")}):
            module: types.ModuleType = optunahub.load_module(package)
    except BaseException as error:
        leave_if_stopped(error)
        why = " ".join(named(error).split())  # git says it in several lines
        raise ConfigError(f"{field}: OptunaHub's package {package} cannot be loaded: {why}") from None
    return module


def _only(module: types.ModuleType, base: type, custom: Custom) -> Any:
    """The class of a package that is what the field is for, if there is one alone; without ``__all__``, of those that it defines."""
    listed = getattr(module, "__all__", None)
    classes = {name: getattr(module, name, None) for name in (vars(module) if listed is None else listed)}
    fitting = {name: one for name, one in classes.items() if isinstance(one, type) and issubclass(one, base)}
    of_its_own = f"{module.__name__}."
    found = {name: one for name, one in fitting.items() if listed is not None or f"{one.__module__}.".startswith(of_its_own)}
    if len(found) == 1:
        return next(iter(found.values()))
    which = f"several: add one of them, as {custom.reference}:{min(found)}" if found else "none"
    raise ConfigError(f"{custom.field}: {custom.reference} should have one optuna {base.__name__}, and has {which}")


def _digest(folder: Path) -> str:
    """Of the names and contents of all Python files below the folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        whole.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()
