"""YAML as a spec is written in it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

NOT_YAML = (YAMLError, ValueError, RecursionError)
"""What `parsed` raises; ValueError for an impossible date, or a number of 5,000 digits."""


def parsed(text: str) -> Any:
    """YAML 1.2 (1e-3 is a number, `no` a word) without tags that build objects; a duplicate key is an error."""
    return YAML(typ="safe", pure=True).load(text)


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
