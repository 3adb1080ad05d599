"""Make docs/ranking.md and docs/theories.md from the studies that they show: ``python -m docs.make_measures [STORAGE] [--recorded]``.

The presets generalization-measures, rademacher, stability, memorisation and gap-vs-capacity are run first if need be; all together
take about half an hour on 2 cores. With ``--recorded`` nothing is run: a page whose studies have no records stays as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

import analysis
from analysis.records.store import study_root
from analysis.statistics.questions.ranking import rank_by_hyperparameter, rank_measures
from docs.make import DOCS, NOTE, picture, table

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

NOTE = NOTE.replace("`make docs`", "`python -m docs.make_measures`")


RECORDED = "--recorded"


def records_of(preset: str, storage: str) -> tuple[str, pa.Table, int]:
    """Where a preset's results lie, its records, and how many points it declares; it is run first if need be."""
    import study

    spec = study.read_spec(preset, ("tracking.mlflow=false",))
    root = study_root(storage, spec.study) if RECORDED in sys.argv else study.run(spec, storage=storage).root
    return root, analysis.load(root), len(spec.assignments())


def cells(found: pa.Table, columns: list[str]) -> list[list[str]]:
    """Rows as text, an interval as value ± half."""
    rows = []
    for row in found.to_pylist():
        texts = []
        for name in columns:
            value, low, high = row[name], row.get(f"{name}.low"), row.get(f"{name}.high")
            text = f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
            texts.append(text if low is None or high is None else f"{text} ± {(high - low) / 2:.2g}")
        rows.append(texts)
    return rows


def figure_file(figure: Figure, name: str, title: str) -> str:
    return f"![{title}](pictures/{picture(figure, name).name})\n\n"


LEVEL = "corruption.level"


def ranking_page(storage: str) -> str:
    """The ranking of the preset generalization-measures over all, by hyperparameter and at each corruption, and what it says."""
    _, records, declared = records_of("generalization-measures", storage)
    ranked, by_axis = rank_measures(records), rank_by_hyperparameter(records)
    levels = sorted(set(records[LEVEL].to_pylist()))
    fixed = {level: rank_measures(records.filter(pc.equal(records[LEVEL], level))) for level in levels}
    fit = sum(records["interpolated"].to_pylist())
    axes = list(dict.fromkeys(by_axis["hyperparameter"].to_pylist()))
    named = ", ".join(f"`{axis}`" for axis in axes)
    page = "# Which measure predicts the gap?\n\n"
    page += (
        f"The preset `generalization-measures` on 400 images of MNIST and its 10,000 test images: {records.num_rows:,} of its "
        f"{declared:,} points, over {named}, up to four seeds each, stopped at a train cross-entropy of 0.01; "
        f"{fit:,} reached it and are ranked. "
        "Values ± half of their 95 % bootstrap interval; `oracle` is the gap itself, `random` Gaussian noise.\n\n"
    )
    page += "## What it says\n\n" + findings(ranked, by_axis, fixed) + "\n"
    columns = ["measure", "tau", "psi", "information", "sign_error_mean", "sign_error_max", "environments"]
    page += "## Over all\n\n" + table(columns, cells(ranked, columns)) + "\n"
    page += "## Psi at each corruption by itself\n\nHere a measure gains nothing by telling corrupted labels from true ones.\n\n"
    page += table(["measure", *(f"level {level:g}" for level in levels)], _beside(list(fixed.values()), ranked, "psi")) + "\n"
    page += "## Each hyperparameter by itself\n\nPsi; its mean over them is the psi above.\n\n"
    parts = [by_axis.filter(pc.equal(by_axis["hyperparameter"], axis)) for axis in axes]
    page += table(["measure", *axes], _beside(parts, ranked, "psi")) + "\n"
    pairs = ", ".join(f"{part['setting_pairs'][0].as_py()} of `{axis}`" for axis, part in zip(axes, parts, strict=True))
    page += f"It rests on so many pairs of settings that differ in that hyperparameter alone: {pairs}.\n\n"
    counts = ", ".join(f"{part['environments'][0].as_py()} of `{axis}`" for axis, part in zip(axes, parts, strict=True))
    page += f"Sign errors, mean over the environments that count ({counts}); 0.5 is chance.\n\n"
    resolved = {axis: part for axis, part in zip(axes, parts, strict=True) if part["environments"][0].as_py()}
    page += table(["measure", *resolved], _beside(list(resolved.values()), ranked, "sign_error_mean")) + "\n"
    return page + figure_file(analysis.measures_vs_gap(records), "measures-vs-gap", "Complexity measures against the gap")


def _beside(parts: list[pa.Table], ranked: pa.Table, column: str) -> list[list[str]]:
    """One column of several rankings side by side, in the order of the first ranking."""
    found = [dict(zip(part["measure"].to_pylist(), cells(part, [column]), strict=True)) for part in parts]
    return [[name, *(one.get(name, [""])[0] for one in found)] for name in ranked["measure"].to_pylist()]


def findings(ranked: pa.Table, by_axis: pa.Table, fixed: dict[float, pa.Table]) -> str:
    """Sentences that follow from the tables."""
    lines = [f"Over all, above chance (psi's interval above the random measure's): {_above_chance(ranked)}."]
    lines += [f"At corruption {level:g} alone, above chance: {_above_chance(one)}." for level, one in fixed.items()]
    rows = [row for row in by_axis.to_pylist() if row["hyperparameter"] == LEVEL and row["measure"] not in ("oracle", "random")]
    axes = len(set(by_axis["hyperparameter"].to_pylist()))
    telling = sum(row["psi.low"] > 0.5 for row in rows)
    lines.append(
        f"{telling} of {len(rows)} measures tell the levels of corruption apart (psi on that axis above 0.5): that is worth up to "
        f"1/{axes} of psi."
    )
    counted = {row["hyperparameter"]: row["environments"] for row in by_axis.to_pylist() if row["measure"] == "oracle"}
    none = ", ".join(f"`{name}`" for name, count in counted.items() if not count)
    lines.append(
        "Environments whose pairs differ by more than the sampling error of 10,000 test images: "
        + ", ".join(f"{count} of `{name}`" for name, count in counted.items())
        + (f"; the sign error says nothing of {none}." if none else ".")
    )
    return "".join(f"- {line}\n" for line in lines)


def _above_chance(ranked: pa.Table) -> str:
    """How many measures are above chance, and the best of them."""
    rows = {row["measure"]: row for row in ranked.to_pylist()}
    measures = [row for name, row in rows.items() if name not in ("oracle", "random")]
    better = [row for row in measures if row["psi.low"] > rows["random"]["psi.high"]]
    best = ", ".join(f"`{row['measure']}` ({row['psi']:.2f})" for row in better[:5])
    runs = rows["oracle"]["points"]
    return f"{len(better)} of {len(measures)} measures on {runs:,} runs" + (f"; the best are {best}" if better else "")


def theories_page(storage: str) -> str:
    """Rademacher complexity, stability, memorised images, and counts beside the gap."""
    page = "# The theories that Zhang et al. 2017 confront, on digits\n\n"
    _, records, _ = records_of("gap-vs-capacity", storage)
    page += "## Capacity alone does not explain the gap\n\nPreset `gap-vs-capacity`, its largest network.\n\n"
    page += figure_file(analysis.counts_vs_gap(records), "counts-vs-gap", "The gap and counts of capacity against label corruption")
    _, records, _ = records_of("rademacher", storage)
    columns = ["parameters_per_sample", "complexity", "rademacher_bound", "vc_bound", "generalization_gap"]
    page += "## Rademacher complexity and the bounds\n\nPreset `rademacher`. A bound above 1 says nothing.\n\n"
    page += figure_file(analysis.rademacher(records), "rademacher", "Correlation reached on random signs, and bounds of the gap")
    page += table(columns, cells(analysis.rademacher_table(records), columns)) + "\n"
    root, records, _ = records_of("stability", storage)
    found = analysis.stability_table(records, analysis.load_samples(root, keys=records["key"]))
    columns = ["data.train_size", "corruption.level", "largest", "at_replaced", "mean", "bound", "generalization_gap"]
    page += "## Uniform stability\n\nPreset `stability`: 40 samples replaced, one at a time.\n\n"
    page += figure_file(
        analysis.stability(records, analysis.load_samples(root)), "stability", "Change of the loss when one sample is replaced"
    )
    page += table(columns, cells(found, columns)) + "\n"
    root, records, _ = records_of("memorisation", storage)
    figure = analysis.memorised_images(records, analysis.load_samples(root))
    page += f"## Memorised images\n\nPreset `memorisation`: {records.num_rows:,} networks, each trained on 70 % of the digits.\n\n"
    return page + figure_file(figure, "memorised-images", "The training images with the highest memorisation scores")


def main(storage: str = "results") -> None:
    pages: dict[str, Any] = {"ranking": ranking_page, "theories": theories_page}
    for name, page in pages.items():
        try:
            text = NOTE + page(storage)
        except analysis.NothingToShow as error:
            print(f"docs/{name}.md stays as it is: {error}")
            continue
        (DOCS / f"{name}.md").write_text(text)
        print(f"wrote docs/{name}.md")


if __name__ == "__main__":
    main(*(argument for argument in sys.argv[1:] if argument != RECORDED))
