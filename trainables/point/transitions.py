"""Transition matrices of labels as a point holds them: a name, or the rows as text. Row i says what a label of class i becomes."""

from __future__ import annotations

import json
from functools import lru_cache
from math import isfinite
from typing import Any

from trainables.point.errors import ConfigError

NAMED = ("symmetric", "pair_flip", "asymmetric_cifar10")
"""See `trainables.data.label_noise.transition_matrix`."""
OF_GIVEN = ("given_matrix", "given_rate")
"""Measured from given labels, see `trainables.data.label_noise.matched_matrix`."""
LONGEST = 6000
"""Characters of a matrix written out: what MLflow holds of a parameter."""
_FIELD = "corruption.transition"

Rows = tuple[tuple[float, ...], ...]


def as_text(rows: Any) -> str:
    """The one text of a list of rows.

    >>> as_text([[0.9, 0.1], [0, 1.0]])
    '[[0.9, 0.1], [0, 1]]'

    Raises:
        ConfigError: it is no square matrix of probabilities whose rows sum to 1.
    """
    square = isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(rows) for row in rows)
    if not square or not all(isinstance(one, int | float) and not isinstance(one, bool) for row in rows for one in row) or len(rows) < 2:
        raise ConfigError(f"{_FIELD} is {rows!r}: it must be {', '.join((*NAMED, *OF_GIVEN))}, or C rows of C probabilities")
    for place, row in enumerate(rows):
        if not all(isfinite(one) and 0 <= one <= 1 for one in row) or abs(sum(row) - 1) > 1e-6:
            raise ConfigError(f"{_FIELD}: row {place}, {row!r}, must be probabilities, from 0 to 1, that sum to 1")
    text = json.dumps([[int(one) if one == int(one) else one for one in row] for row in rows])
    if len(text) > LONGEST:
        raise ConfigError(f"{_FIELD} takes {len(text):,} characters, more than the {LONGEST:,} that are kept: round its numbers")
    return text


@lru_cache(maxsize=64)
def rows_of(text: str) -> Rows:
    """The rows of a matrix written as text.

    Raises:
        ConfigError: it is no such matrix.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{_FIELD} is {text!r}: it must be {', '.join((*NAMED, *OF_GIVEN))}, or C rows of C probabilities") from None
    as_text(rows)
    return tuple(tuple(map(float, row)) for row in rows)


def canonical(transition: str) -> str:
    """The text under which a transition is known, however it was written.

    Raises:
        ConfigError: it is neither a name nor a matrix.
    """
    return transition if transition in (*NAMED, *OF_GIVEN) else as_text([list(row) for row in rows_of(transition)])
