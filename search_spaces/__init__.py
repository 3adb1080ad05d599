"""Spaces: what varies in a study, without knowing how a point is trained or where it is recorded.

`axes` are the values that a field takes, listed or drawn; `space` crosses and zips them to assignments ``{field: value}``, and draws;
`conditional` asks for an axis only where others have certain values; `regularizers` is the space of explicit regularizers with
its ranges.
"""

from search_spaces.axes import KINDS, MOST_VALUES, Axis, Distribution, Values, parse_axis
from search_spaces.conditional import SWITCH, Asker, Condition, parse_condition, suggest
from search_spaces.regularizers import REGULARIZERS, regularizer_axes
from search_spaces.space import Assignment, Space, draw

__all__ = [
    "KINDS",
    "MOST_VALUES",
    "REGULARIZERS",
    "SWITCH",
    "Asker",
    "Assignment",
    "Axis",
    "Condition",
    "Distribution",
    "Space",
    "Values",
    "draw",
    "parse_axis",
    "parse_condition",
    "regularizer_axes",
    "suggest",
]
