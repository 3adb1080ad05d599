"""Files that appear whole or not at all, whatever stops their making: Ctrl-C, a full disk, an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Where to write what is to stand at the path: beside it, from where it is moved once it is whole. The folder is made.

    What is no file, such as ``/dev/stdout``, is written itself, and a link stays one.

    Raises:
        OSError: the folder cannot be made, or the file not be written.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        yield target
        return
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
