"""Exports of a package that are imported when they are first used: ``import analysis`` must not cost what all figures need.

A package states its exports once, as imports under ``if TYPE_CHECKING:``, where type checkers and readers find them. Python's own
``lazy from`` statements (PEP 810) can take their place from Python 3.15 on.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any


def lazy_exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` (PEP 562) of a package that imports what stands under its ``if TYPE_CHECKING:`` name by name."""
    homes = dict(_homes(package))

    def __getattr__(name: str) -> Any:  # noqa: N807 - what the package calls it
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)  # found at once from now on
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__


def _homes(package: str) -> Iterator[tuple[str, str]]:
    """Each name that a package imports for type checkers, and the module that it comes from."""
    loader: Any = sys.modules[package].__loader__
    for statement in ast.parse(loader.get_source(package)).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            for one in statement.body:
                if isinstance(one, ast.ImportFrom) and one.module:
                    yield from ((alias.name, one.module) for alias in one.names)
