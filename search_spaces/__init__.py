"""What varies: axes over the fields of a point, grids of them, random and quasi-random draws."""

from search_spaces.axes import Axis, Distribution, Values, parse_axis
from search_spaces.space import Space

__all__ = ["Axis", "Distribution", "Space", "Values", "parse_axis"]
