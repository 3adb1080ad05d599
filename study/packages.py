"""Where Python finds gaplab's four packages, and what of the user's may hide them.

Ray's workers look for modules first in the folder that the study was started in. A file ``study.py`` or a folder ``analysis``
there would take the place of a package of gaplab. Workers of a Ray that a study starts have loaded the packages before they look
there (`study.compat.PRELOADED`); those of another Ray may not have, so a study says a sentence instead of starting there.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

NAMES = ("study", "analysis", "search_spaces", "trainables")
_HOME = Path(__file__).resolve().parents[1]


def hidden_here() -> str | None:
    """A sentence about what this process would import in the place of one of the packages; None if it finds them all."""
    return next(filter(None, (_said(name, importlib.util.find_spec(name), "") for name in NAMES)), None)


def hidden_from_workers() -> str | None:
    """The same about workers that look in this process's folder, and in that of its script, before all others."""
    script = str(Path(sys.argv[0]).resolve().parent)
    path = [str(Path.cwd()), *([script] if script in sys.path else []), *sys.path]
    return next(filter(None, (_said(name, PathFinder.find_spec(name, path), " from workers") for name in NAMES)), None)


def folder_here_last() -> None:
    """Let ``python -m`` find modules of the folder that it was started in after all others, as the command `gaplab` does without them."""
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
        sys.path.append(sys.path.pop(0))


def _said(name: str, found: ModuleSpec | None, whom: str) -> str | None:
    places = [] if found is None else [found.origin] if found.has_location else list(found.submodule_search_locations or [])
    place = Path(places[0]).resolve() if places and places[0] else None
    if place is None or _HOME in (place.parent, place.parent.parent):  # None: a finder of an editable installation knows it
        return None
    shown = place.parent if place.name == "__init__.py" else place
    return f"{shown} hides gaplab's package {name!r}{whom}: rename it, or start in another folder"
