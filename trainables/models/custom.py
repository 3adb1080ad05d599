"""Custom models, from the user's files: named in a spec, carried to workers as text, hashed into the key.

The hash is of that one file: what it imports in turn is the user's to keep.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import types

from trainables.models import registry as models
from trainables.point.errors import ConfigError, leave_if_stopped, named


def register(path: str, text: str) -> None:
    """Run the source, so that its `@model_family` functions join the registry.

    Raises:
        ConfigError: the source raises.
    """
    with models.source_digest(hashlib.sha256(text.encode()).hexdigest()[:32]):
        executed(path, text, "imports")


def executed(path: str, text: str, field: str) -> types.ModuleType:
    """The user's module, run from its text.

    Args:
        field: of the spec, which names the file.

    Raises:
        ConfigError: the source raises.
    """
    name = f"gaplab_own_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)  # tracebacks show the user's lines
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except BaseException as error:
        leave_if_stopped(error)
        raise ConfigError(f"{field}: {path} raises {named(error)}") from None
    return module
