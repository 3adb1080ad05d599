"""The kinds of corruption: what the randomization tests, and label noise, are called."""

from __future__ import annotations

from typing import Literal, get_args

LabelKind = Literal["redraw", "flip", "random_labels", "random_signs", "given", "class_conditional", "instance"]
PixelKind = Literal["shuffled_pixels", "random_pixels", "gaussian"]
CorruptionKind = Literal[LabelKind, PixelKind]
LABEL_KINDS, PIXEL_KINDS = get_args(LabelKind), get_args(PixelKind)
