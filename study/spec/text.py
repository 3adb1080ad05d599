"""YAML as a spec is written in it."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping
from math import inf
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode, SequenceNode

NOT_YAML = (YAMLError, ValueError, RecursionError)
"""What `parsed` raises; ValueError for an impossible date, or a number of 5,000 digits."""


_MOST_EXPANDED = 1_000_000
"""Characters that aliases may add to a text."""
_DEEPEST = 500
"""Brackets in brackets, those in texts and comments included."""


def parsed(text: str) -> Any:
    """YAML 1.2 (1e-3 is a number, `no` a word) without tags that build objects; a duplicate key is an error."""
    _check_nesting(text)
    try:
        if "*" in text:  # an alias, perhaps
            _check_expansion(text)
        return YAML(typ="safe", pure=True).load(text)
    except NOT_YAML:
        raise
    except Exception as error:  # such as a TypeError for a key that is a list of lists
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _check_nesting(text: str) -> None:
    """Raise ValueError for thousands of brackets in brackets: to find out by parsing takes minutes."""
    depths = itertools.accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    if max(depths, default=0) > _DEEPEST:
        raise ValueError(f"brackets stand in more than {_DEEPEST} others")


def _check_expansion(text: str) -> None:
    """Raise ValueError, before anything is built, if aliases make much of little: nine lines of ten aliases each stand for 10^9 values."""
    lengths: dict[int, float] = {}

    def length(node: Any) -> float:
        """How many characters the node takes when every alias is written out."""
        if id(node) not in lengths:
            lengths[id(node)] = inf  # of a node that holds itself
            if isinstance(node, ScalarNode):
                lengths[id(node)] = 1 + len(node.value)
            elif isinstance(node, SequenceNode):
                lengths[id(node)] = 1 + sum(map(length, node.value))
            else:
                lengths[id(node)] = 1 + sum(length(name) + length(value) for name, value in node.value)
        return lengths[id(node)]

    root = YAML(typ="safe", pure=True).compose(text)
    if root is not None and length(root) > _MOST_EXPANDED + len(text):
        raise ValueError(f"its aliases stand for more than {_MOST_EXPANDED:,} characters: write out what is meant")


def written_out(spec: Mapping[str, Any]) -> str:
    """A mapping as YAML."""
    stream = io.StringIO()
    YAML(typ="safe").dump(dict(spec), stream)
    return stream.getvalue()


def one_line(error: Exception) -> str:
    """What is wrong with a text that is not YAML, and in which line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)
