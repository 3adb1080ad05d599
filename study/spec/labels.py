"""Labels of Ray's nodes, and what a worker wants them to be: Ray's own selectors, read before Ray is there.

https://docs.ray.io/en/latest/ray-core/scheduling/labels.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VALUE = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_SELECTOR = re.compile(rf"(!?)(?:in\(({_VALUE}(?:, ?{_VALUE})*)\)|({_VALUE}))")
_NAME = re.compile(rf"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?/)?{_VALUE}")


def checked_labels(written: dict[str, str] | None) -> dict[str, str] | None:
    """The selectors, if Ray would take them.

    Raises:
        ValueError: it would not.
    """
    for name, selector in (written or {}).items():
        if not _NAME.fullmatch(name) or not _SELECTOR.fullmatch(selector):
            raise ValueError(
                f"{name}: {selector} is no selector of Ray's: a label's name has VALUE, !VALUE, in(VALUE, VALUE) or !in(VALUE, VALUE)"
            )
    return written


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a node with these labels is one that the selectors want; one without the label is not any of its values.

    >>> carries({"ray.io/accelerator-type": "H100"}, {"ray.io/accelerator-type": "in(A100, H100)"})
    True
    >>> carries({}, {"ray.io/market-type": "!spot"}), carries({}, {"ray.io/market-type": "spot"})
    (True, False)
    """
    return all(_is(labels.get(name), selector) for name, selector in wanted.items())


def _is(value: str | None, selector: str) -> bool:
    found = _SELECTOR.fullmatch(selector)
    if found is None:
        return False
    negated, several, one = found.groups()
    return (value in ([one] if one else re.split(", ?", several))) != bool(negated)
