"""What comes with gaplab: the presets, a line each, and the model families."""

from __future__ import annotations

import re

from rich.table import Table

from study.spec.presets import PRESETS, preset_names

_SENTENCE = re.compile(r"(.+?)(?:\?|(?= \()|(?=: )|(?<! al)(?=\. )|(?=\.$)|$)")
"""The first sentence of a head, before its source or what follows a colon."""


def preset_heads() -> dict[str, str]:
    """What each preset asks, in one line: the first sentence of its file."""
    heads = {}
    for name in preset_names():
        lines = (PRESETS / f"{name}.yaml").read_text().splitlines()
        paragraph = lines[: next((at for at, line in enumerate(lines) if line.strip() in ("", "#")), len(lines))]
        found = _SENTENCE.match(" ".join(line.lstrip("# ") for line in paragraph))
        heads[name] = found.group(0) if found else ""
    return heads


def model_families() -> Table:
    """The bundled model families: the width of each that `model.width: null` stands for, and the fields that change it."""
    from trainables.models import families

    table = Table("model.name", "default width", "default depth", "fields of the model that it reads", "closed form", box=None)
    for one in sorted(families().values(), key=lambda one: one.name):
        width = f"{one.default_width:,}" if "width" in one.reads else ""
        depth = str(one.default_depth) if "depth" in one.reads and one.default_depth else ""
        solved = "only" if not one.is_trained else "also" if one.solver else ""
        reads = (*one.reads, *(["parameterization"] if one.has_mup else []))
        table.add_row(one.name, width, depth, ", ".join(reads), solved)
    return table
