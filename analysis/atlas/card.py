"""The data card of an atlas: what is in it, by which protocol, at what cost, under which licences, how to cite it and recompute a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.answers import answers, as_text
from analysis.atlas.population import CAPACITY, CELL, LABELS
from analysis.records.schema import MEASURE
from trainables.point.config import MADE_UP

_MNIST = "MNIST: Y. LeCun, C. Cortes and C. Burges; Y. LeCun et al., Gradient-based learning applied to document recognition, 1998."
_DIGITS = "Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, CC BY 4.0; as in scikit-learn."
_CIFAR10 = "CIFAR-10: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009; its authors state no licence."
_SETS = {
    "digits": _DIGITS,
    "small_digits": f"{_DIGITS} `small_digits` trains on every third image and tests on the others.",
    "mnist": _MNIST,
    "small_mnist": f"{_MNIST} `small_mnist` is a part of it with fewer pixels (docs/fields.md, `data.name`).",
    "cifar10": _CIFAR10,
    "small_cifar10": f"{_CIFAR10} `small_cifar10` is a part of it with fewer pixels (docs/fields.md, `data.name`).",
    **dict.fromkeys(MADE_UP, "Made on the fly by gaplab: no data of anyone's."),
}
_FILES = {
    "networks/": "a row a network: its point, its outcome, its measures; Parquet, partitioned by data set and noise",
    "sample.parquet": "one in a hundred of these rows, at random by their keys",
    "cells.parquet": "means over seeds with 95 % intervals, a row a cell and outcome (fit or not)",
    "costs.parquet": "what memorised wrong labels cost, a row a cell (`analysis/atlas/benign.py`)",
    "measures.parquet": "psi of every measure in every data set and noise (`analysis/atlas/measures.py`)",
    "thresholds.parquet": "the interpolation threshold of every setting (`analysis/atlas/thresholds.py`)",
    "shifts.parquet": "how far regularizers move it",
    "capacities.parquet": "thresholds of true and of random labels beside the gap",
    "spec.yaml": "the spec that declares all of it",
}


def card(networks: pa.Table, tables: Mapping[str, pa.Table], missing: Mapping[str, str], others: str = "") -> str:
    """The card as Markdown.

    Args:
        networks: as from `analysis.atlas.population.population`.
        tables: of the edition.
        missing: of each table or figure that could not be made, why.
        others: how many networks came to no end, by their status, in words.
    """
    cells = networks.group_by(list(CELL)).aggregate([]).num_rows
    hours = (pc.sum(networks["seconds"]).as_py() or 0) / 3600
    fit = pc.sum(networks["interpolated"].fill_null(False).cast(pa.int64())).as_py()
    head = f"{networks.num_rows:,} networks in {cells:,} cells; {fit:,} reached their train target. Training took {hours:.1f} core-hours."
    lines = [
        "<!-- made by `gaplab atlas build`: build it again, do not edit this page -->",
        "",
        "# A gap atlas",
        "",
        head + (f" Left out, for they came to no end: {others}." if others else ""),
        "",
        "## What varies",
        "",
        *(f"- `{name}`: {_values(networks, name)}" for name in (*LABELS, CAPACITY, "seed")),
        "",
        "Networks of one cell agree in all but their seeds, and only these are averaged. What all share stands in `spec.yaml`.",
        "",
        "## What it says",
        "",
        "\n\n".join(as_text(answers(tables))) or "Nothing could be answered.",
        "",
        *(f"No {name}: {why}." for name, why in missing.items()),
        "",
        "## Files",
        "",
        *(f"- `{name}`: {what}" for name, what in _FILES.items() if name.removesuffix(".parquet") not in missing),
        "",
        "## Columns",
        "",
        "The columns of gaplab's records (docs/columns.md), with the labels above in words. " + _measures(networks),
        "",
        "## Protocol",
        "",
        *(f"- {line}" for line in _protocol(networks)),
        "",
        "## Licences and how to cite",
        "",
        "The atlas holds numbers about networks and no image; it is under gaplab's licence, Apache-2.0. Cite gaplab (CITATION.cff), the "
        "atlas by the number of its networks and gaplab's commit, and the data:",
        "",
        *(f"- {line}" for line in _sources(networks)),
        "",
        "## Recompute",
        "",
        "    gaplab atlas verify FOLDER                  # a random hundredth of the networks, trained again and compared",
        "    gaplab atlas verify FOLDER --key KEY        # one of them",
        "    gaplab atlas show FOLDER                    # the answers, with their tables",
        "",
        "A network's key is the hash of all that can change its result. On a processor of the same kind, with the same versions, its "
        "numbers come again to the bit; on others they agree in distribution.",
    ]
    return "\n".join(lines) + "\n"


def _values(networks: pa.Table, name: str) -> str:
    found = sorted(networks[name].unique().to_pylist())
    return ", ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in found)


def _measures(networks: pa.Table) -> str:
    names = [name.removeprefix(MEASURE) for name in networks.column_names if name.startswith(MEASURE)]
    return f"Measures (docs/measures.md), as `{MEASURE}NAME`: {', '.join(names)}." if names else "It has no measures."


def _protocol(networks: pa.Table) -> list[str]:
    def of(name: str) -> str:
        return _values(networks.filter(pc.is_valid(networks[name])), name) or "not known"

    stops = {"error": "budget.stop_at_train_error", "loss": "budget.stop_at_train_loss"}
    known = {of_what: name for of_what, name in stops.items() if networks[name].null_count < networks.num_rows}
    target = " or ".join(f"train {of_what} {of(name)}" for of_what, name in known.items()) or "train error 0, without ending there"
    return [
        f"Training samples: {of('data.train_size')}, a class-balanced subset by data.seed, which follows seed unless the spec sets it.",
        f"Epochs: at most {of('budget.epochs')}, with train and test error every {of('budget.evaluate_every')}.",
        f"A run has fit that reached its target, {target}; test labels are the true ones.",
        f"Versions: gaplab {of('gaplab_version')} ({of('git_commit')}), PyTorch {of('torch_version')}, Python {of('python_version')}.",
        f"Device: {of('device')}; bits: {of('bits')}.",
    ]


def _sources(networks: pa.Table) -> list[str]:
    names = sorted(networks["data.name"].unique().to_pylist())
    return list(
        dict.fromkeys(_SETS.get(name, f"`{PurePath(name).name}`: say where it is from, and under which licence.") for name in names)
    )
