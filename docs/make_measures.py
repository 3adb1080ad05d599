"""Make docs/ranking.md and docs/theories.md from the studies that they show: ``python -m docs.make_measures [STORAGE]``.

The presets generalization-measures, rademacher, stability, memorisation and gap-vs-capacity are run first if need be; all together
take about ten minutes on 2 cores.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import analysis
from analysis.statistics.questions.ranking import rank_measures, sign_errors
from docs.make import DOCS, NOTE, table

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

NOTE = NOTE.replace("`make docs`", "`python -m docs.make_measures`")


def records_of(preset: str, storage: str) -> tuple[str, pa.Table]:
    """Where a preset's results lie, and its records; it is run first if need be."""
    import study

    root = study.run(study.read_spec(preset, ("tracking.mlflow=false",)), storage=storage).root
    return root, analysis.load(root)


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
    path = DOCS / "pictures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})
    return f"![{title}](pictures/{path.name})\n\n"


def ranking_page(storage: str) -> str:
    """The ranked table of the preset generalization-measures, and what it says."""
    _, records = records_of("generalization-measures", storage)
    ranked = rank_measures(records)
    fit = sum(records["interpolated"].to_pylist())
    columns = ["measure", "tau", "psi", "information", "sign_error_mean", "sign_error_max", "environments"]
    page = "# Which measure predicts the gap?\n\n"
    page += (
        f"The preset `generalization-measures` on digits: {records.num_rows:,} points over width, depth, learning rate, batch size, "
        "weight decay, dropout and label corruption, four seeds each, stopped at a train cross-entropy of 0.01; "
        f"{fit:,} reached it and are ranked. "
        "Values ± half of their 95 % bootstrap interval; `oracle` is the gap itself, `random` Gaussian noise.\n\n"
    )
    page += table(columns, cells(ranked, columns)) + "\n## What it says\n\n" + findings(records, ranked) + "\n"
    return page + figure_file(analysis.measures_vs_gap(records), "measures-vs-gap", "Complexity measures against the gap")


def findings(records: pa.Table, ranked: pa.Table) -> str:
    """Sentences that follow from the table."""
    environments = sign_errors(records).to_pylist()
    varied = ", ".join(sorted({f"`{row['hyperparameter']}`" for row in environments if row["measure"] == "random"}))
    rows = {row["measure"]: row for row in ranked.to_pylist()}
    chance = rows["random"]["psi.high"]
    measures = [row for name, row in rows.items() if name not in ("oracle", "random")]
    better = [row["measure"] for row in measures if row["psi.low"] > chance]
    worse = [row["measure"] for row in measures if row["psi.high"] < rows["random"]["psi.low"]]
    counts = ", ".join(f"`{name}` {rows[name]['psi']:.2f}" for name in ("parameters", "vc_dimension", "vc_bound"))
    wrong = [row["measure"] for row in measures if row["sign_error_max"] >= 0.5]
    lines = [
        f"Above chance (psi's interval above the random measure's): {len(better)} of {len(measures)} measures; the best are "
        + ", ".join(f"`{name}` ({rows[name]['psi']:.2f})" for name in better[:5])
        + ".",
        f"Below chance: {', '.join(f'`{name}`' for name in worse) if worse else 'none'}.",
        f"Counts of capacity, psi: {counts}. They are the same for true and for corrupted labels.",
        f"In the worst of the {rows['oracle']['environments']} environments, {len(wrong)} of {len(measures)} measures order half "
        "of the pairs wrongly or more.",
        "Much of a high tau is that a measure tells corrupted from true labels, whose gaps lie far apart. Psi asks for one "
        "hyperparameter at a time; the information given two known hyperparameters is small for every measure.",
        "The sign-error counts only pairs whose gaps differ by more than the sampling error of 360 test images allows, about 0.1: "
        f"the environments that qualify are of {varied}. It says nothing of the other hyperparameters here.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def theories_page(storage: str) -> str:
    """Rademacher complexity, stability, memorised images, and counts beside the gap."""
    page = "# The theories that Zhang et al. 2017 confront, on digits\n\n"
    _, records = records_of("gap-vs-capacity", storage)
    page += "## Capacity alone does not explain the gap\n\nPreset `gap-vs-capacity`, its largest network.\n\n"
    page += figure_file(analysis.counts_vs_gap(records), "counts-vs-gap", "The gap and counts of capacity against label corruption")
    _, records = records_of("rademacher", storage)
    columns = ["parameters_per_sample", "complexity", "rademacher_bound", "vc_bound", "generalization_gap"]
    page += "## Rademacher complexity and the bounds\n\nPreset `rademacher`. A bound above 1 says nothing.\n\n"
    page += figure_file(analysis.rademacher(records), "rademacher", "Correlation reached on random signs, and bounds of the gap")
    page += table(columns, cells(analysis.rademacher_table(records), columns)) + "\n"
    root, records = records_of("stability", storage)
    found = analysis.stability_table(records, analysis.load_samples(root, keys=records["key"]))
    columns = ["data.train_size", "corruption.level", "largest", "at_replaced", "mean", "bound", "generalization_gap"]
    page += "## Uniform stability\n\nPreset `stability`: 40 samples replaced, one at a time.\n\n"
    page += figure_file(
        analysis.stability(records, analysis.load_samples(root)), "stability", "Change of the loss when one sample is replaced"
    )
    page += table(columns, cells(found, columns)) + "\n"
    root, records = records_of("memorisation", storage)
    figure = analysis.memorised_images(records, analysis.load_samples(root))
    page += f"## Memorised images\n\nPreset `memorisation`: {records.num_rows:,} networks, each trained on 70 % of the digits.\n\n"
    return page + figure_file(figure, "memorised-images", "The training images with the highest memorisation scores")


def main(storage: str = "results") -> None:
    pages: dict[str, Any] = {"ranking": ranking_page, "theories": theories_page}
    for name, page in pages.items():
        (DOCS / f"{name}.md").write_text(NOTE + page(storage))
        print(f"wrote docs/{name}.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
