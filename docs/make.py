"""Make the reference pages from code, and the page of figures from a real study: ``make docs``.

Writes docs/fields.md, docs/columns.md, docs/measures.md, docs/models.md, docs/how-we-know.md (from the committed results of the
simulations), and, from the records of the presets gap-vs-capacity and
double-descent-epochs (run first if need be), docs/pictures.md with its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent
WIDE = 2000
"""Pixels of a picture's width."""
OWN_MEASURE = """## Your own

One decorated function, in a file that the spec names under `imports: [my_measures.py]`, and its name under `measures:`. What a
`Subject` holds (the trained network, the one at initialization, both with batch norm folded, layers, inputs, labels, the curve)
stands in `trainables/measures/registry.py`.

```python
from trainables.measures import Subject, measure


@measure("largest_weight", cost="a pass over the weights", cheap=True)
def largest_weight(subject: Subject) -> float:
    \"\"\"The largest weight in size.\"\"\"
    return max(layer.weight.abs().max().item() for layer in subject.layers)
```

The theories that take many trainings are studies: the presets `rademacher` (empirical Rademacher complexity), `stability` (uniform
stability) and `memorisation` (memorisation scores by subsampled training). What they show: [theories.md](theories.md).
"""
KEEP = """
## Networks and MLflow

Beside `trial:` and `space:` a spec may say what is kept of its points, and how they are copied to MLflow. Neither is part of a point: keys
and results stay as they are.

```yaml
keep: [networks]                                        # the trained network of every point that completes
keep: {networks: {seed: 0, corruption.level: [0, 1]}}   # or of those whose fields have one of these values
tracking: {curves: all}                                 # whole curves in MLflow; thinned to 64 points a metric by default
tracking: {mlflow: false}                               # records alone
```

Networks lie beside the records, as `STORAGE/STUDY/networks/KEY.safetensors`, and in MLflow as logged models, each the output of its
point's run. `analysis.load_network("STORAGE/STUDY", key)` is the module as it was trained. A point that was recorded before its network
was to be kept is trained again, to the same bits; points that are solved in closed form have no network. A search keeps those of the
points that it trains from then on.
"""
NOTE = "<!-- made by `make docs`: edit the code, not this page -->\n\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def fields_page() -> str:
    """Every field of a point: default, range, meaning."""
    from trainables.point.config import GROUPS, TrialConfig
    from trainables.point.knobs import range_of

    page = "# Fields of a point\n\nWhat a spec may set under `trial:` and vary under `space:`.\n\n"
    for group, kind in GROUPS.items():
        page += f"## {group}\n\n{(kind.__doc__ or '').strip()}\n\n"
        page += table(
            ("field", "default", "range", "meaning"),
            ((f"`{group}.{knob.name}`", _default(knob), range_of(knob), knob.metadata["doc"]) for knob in fields(kind)),
        )
        page += "\n"
    plain = [knob for knob in fields(TrialConfig) if knob.name not in GROUPS]
    page += "## beside the groups\n\n"
    return (
        page
        + table(
            ("field", "default", "range", "meaning"),
            ((f"`{knob.name}`", f"`{knob.default}`", range_of(knob), knob.metadata["doc"]) for knob in plain),
        )
        + KEEP
    )


def _default(knob: Field[Any]) -> str:
    """What a field is that is not named, and the word by which a spec leaves it to a probe."""
    word = knob.metadata["word"]
    return f"`{word}`; `{knob.default}` where nothing is chosen" if word else f"`{knob.default}`"


def columns_page() -> str:
    """Every column of records and curves."""
    from analysis.records.schema import CURVES, RECORDS, SAMPLES

    def rows(schema: Any) -> Iterable[tuple[str, str, str]]:
        for column in schema:
            doc = (column.metadata or {}).get(b"doc", b"").decode() or ("as the field" if "." in column.name else "")
            yield f"`{column.name}`", str(column.type), doc

    page = "# Columns\n\n## Records\n\nOne row a point, `STORAGE/STUDY/records/*.parquet`. Measures add `measure.NAME`, float64.\n\n"
    page += (
        "Every worker writes small files of its own. A run merges them into `records/merged` and `curves/merged` when it starts and when\n"
        "it ends, if there are over 100; `gaplab compact STORAGE/STUDY` does so at any time, also while the study runs. A point may stand\n"
        "in two files at once: `analysis.load` gives it once.\n\n"
        "A point is recorded if its record and its curve can be read whole, checksums included. The next run moves what cannot\n"
        "to `STORAGE/STUDY/quarantine` and trains it again; `gaplab verify STORAGE/STUDY [--repair]` looks at every checksum.\n"
        "Measures of a point that was trained again are joined to its first record if both agree to the bit. Recorded points that the\n"
        "spec of the last run does not declare stand in `undeclared.json`:\n"
        "figures leave them out unless `--all-recorded` asks for them.\n\n"
    )
    page += table(("column", "type", "meaning"), rows(RECORDS))
    page += "\n## Curves\n\nOne row a point and evaluated epoch, `STORAGE/STUDY/curves/*.parquet`.\n\n"
    page += table(("column", "type", "meaning"), rows(CURVES))
    page += "\n## Samples\n\nOne row a point of a study that names the measure `forgetting_events`, `STORAGE/STUDY/samples/*.parquet`.\n\n"
    return page + table(("column", "type", "meaning"), rows(SAMPLES))


def measures_page() -> str:
    """Every complexity measure with its cost and the first line of its docstring."""
    from trainables.measures import known_measures

    page = "# Complexity measures\n\nName them in a spec under `measures:`; each becomes the column `measure.NAME`. "
    page += (
        "Formula, source and what a measure ignores stand in its docstring. Which of them predict the gap: [ranking.md](ranking.md).\n\n"
    )
    measures = known_measures().values()
    rows = (
        (f"`{one.name}`", one.doc.strip().splitlines()[0], one.cost, "cheap" if one.cheap else f"at most {one.epochs:g} epochs")
        for one in measures
    )
    return page + table(("name", "what it is", "what it takes", ""), rows) + "\n" + OWN_MEASURE


def models_page() -> str:
    """Every family, its defaults and its parameters on images of 28x28x3 or the smallest that it takes."""
    from trainables.models import families, parameter_count
    from trainables.point.config import Model

    def count(family: Any) -> str:
        if not family.is_trained:
            return "solved in closed form"
        side = max(28, family.smallest_image)
        return f"{parameter_count(family.complete(Model(name=family.name)), (3, side, side), 10):,}"

    page = "# Model families\n\nParameters at the default width, for 10 classes and images of 28x28x3, or the smallest that it takes.\n\n"
    known = [family for family in families().values() if family.digest is None]
    rows = (
        (f"`{one.name}`", one.default_width, one.default_depth or "", one.default_batch_norm, "yes" if one.has_mup else "", count(one))
        for one in known
    )
    return page + table(("name", "default width", "default depth", "batch norm", "`parameterization: mup`", "parameters"), rows)


def figures_page(source: str, epochs: str) -> str:
    """The field's figures, drawn from one real study; what happens along training, from one that trains on."""
    import analysis

    records, curves = analysis.load(source), analysis.load_curves(source)
    trained_on, along = analysis.load(epochs), analysis.load_curves(epochs)
    figures: dict[str, tuple[str, Callable[[], Figure]]] = {
        "gap-vs-capacity": ("Generalization gap against capacity", lambda: analysis.gap_vs_capacity(records)),
        "test-error-vs-corruption": ("Test error against corruption (Figure 1c)", lambda: analysis.error_vs_corruption(records)),
        "time-to-fit": ("Time to fit against corruption (Figure 1b)", lambda: analysis.time_to_fit(records)),
        "learning-curves": ("Learning curves by corruption (Figure 1a)", lambda: analysis.learning_curves(records, curves)),
        "memorisation": ("Error on corrupted and on clean samples along training", lambda: analysis.memorisation(records, curves)),
        "early-stopping": ("Early stopping (Figure 2a)", lambda: analysis.early_stopping(records, curves)),
        "double-descent-width": ("Double descent over width", lambda: analysis.double_descent(records)),
        "double-descent-epochs": ("Double descent over epochs", lambda: analysis.epoch_double_descent(trained_on, along)),
        "capacity-corruption-map": ("Capacity and corruption, with the threshold", lambda: analysis.capacity_corruption_map(records)),
        "train-vs-test": ("Train against test error", lambda: analysis.train_vs_test(records)),
        "parallel-coordinates": ("Parallel coordinates", lambda: analysis.parallel_coordinates(records)),
    }
    page = (
        "# Pictures\n\nDrawn from the preset `gap-vs-capacity` by `make docs`, double descent over epochs from `double-descent-epochs`.\n\n"
    )
    for name, (title, draw) in figures.items():
        page += f"## {title}\n\n![{title}](pictures/{picture(draw(), name).name})\n\n"
    return page


def picture(figure: Figure, name: str) -> Path:
    """Write a figure for print: 2,000 pixels wide."""
    path = DOCS / "pictures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=WIDE / figure.get_figwidth(), metadata={"Software": None})
    return path


def main() -> None:
    pages = {"fields": fields_page(), "columns": columns_page(), "measures": measures_page(), "models": models_page()}
    import study

    roots = (study.run(study.read_spec(name, ("tracking.mlflow=false",))).root for name in ("gap-vs-capacity", "double-descent-epochs"))
    pages["pictures"] = figures_page(*roots)
    for name, page in pages.items():
        (DOCS / f"{name}.md").write_text(NOTE + page)
        print(f"wrote docs/{name}.md")
    from docs import make_how_we_know

    (DOCS / "how-we-know.md").write_text(make_how_we_know.page())
    print("wrote docs/how-we-know.md")


if __name__ == "__main__":
    main()
