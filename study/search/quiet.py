"""Optuna, quiet: what it would announce of every study and trial is in the records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from study.guest import levels


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing but errors meanwhile."""
    import optuna  # noqa: F401 - it sets the level of its logger, which is then changed for a while

    with levels({"optuna": logging.ERROR}):
        yield
