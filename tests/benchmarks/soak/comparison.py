"""What a soak ends with, compared: records with those of a calm run, MLflow with the records, a search with its records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

import analysis
from analysis.records.fragments import fragments, read_fragments
from analysis.records.searches.objectives import mean
from study.plan.plan import plan_study
from study.records.verify import verify
from study.records.writer import FragmentWriter, Provenance
from study.search.outcomes import Outcomes
from study.search.quiet import quiet
from study.search.search import Search
from study.spec.reading import Spec
from trainables.point.config import TrialConfig, field_types, with_fields
from trainables.training.loop import Training

OWN_RUN = ("seconds", "finished", "host", "git_commit", "multiply_adds", "training_flops")
"""Columns that tell of the run and not of the point, or follow from others and are null in older records: a soak may go on with a later
version."""


def table(root: str, **options: Any) -> list[dict[str, Any]]:
    return analysis.load(root, **options).drop_columns(list(OWN_RUN)).sort_by("key").to_pylist()


def curves(root: str) -> pa.Table:
    return analysis.load_curves(root).sort_by([("key", "ascending"), ("epoch", "ascending")]).combine_chunks()


def trained_anew(root: str, folder: Path) -> str:
    """Another storage with the points that are recorded under ``root``, trained by nothing but the loop; its root."""
    torch.set_num_threads(1)
    names = list(field_types())
    rows = analysis.load(root, columns=names).to_pylist()
    writer = FragmentWriter(str(folder), Provenance(Path(root).name, None, "again"))
    for row in rows:
        training = Training([with_fields(TrialConfig(), row)], torch.device("cpu"))
        while not training.finished:
            writer(training.epoch(), "cpu")
    return str(folder)


def compared(found: str, expected: str) -> dict[str, int]:
    """How two storages of the same points differ; all zero but the rows that were written more than once."""
    here, there = {row["key"]: row for row in table(found)}, {row["key"]: row for row in table(expected)}
    keys = read_fragments(found, fragments(found), ["key"])["key"]
    return {
        "points": len(there),
        "points lost": len(there.keys() - here.keys()),
        "points that nobody declared": len(here.keys() - there.keys()),
        "points read twice": analysis.load(found, columns=["key"]).num_rows - len(here),
        "rows that differ": sum(here[key] != row for key, row in there.items() if key in here),
        "curves that differ": int(not curves(found).equals(curves(expected))),
        "rows written beyond the first": len(keys) - len(here),
        "damaged files left": len(verify(found)),
    }


def mirror_compared(uri: str, database: str, study: str, root: str) -> dict[str, int]:
    """How the experiment of a study differs from its records; all zero. Curves are read from the server's database, at once."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None or experiment.lifecycle_stage != "active":
        return {"experiments missing": 1}
    runs, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += list(page)
        token = page.token
        if not token:
            break
    keys = Counter(run.data.tags["gaplab.key"] for run in runs if run.data.tags["gaplab.kind"] == "point")
    rows, mirrored = table(root), {row["key"]: row for row in table(f"mlflow:{study}", tracking_uri=uri)}
    thinned = analysis.load_curves(f"mlflow:{study}", tracking_uri=database, sql=True).sort_by(
        [("key", "ascending"), ("epoch", "ascending")]
    )
    return {
        "surplus runs": sum(count - 1 for count in keys.values()),
        "stuck runs": sum(run.info.status == "RUNNING" for run in runs),
        "runs of the study beyond one": sum(run.data.tags["gaplab.kind"] == "study" for run in runs) - 1,
        "records without a run": sum(row["key"] not in keys for row in rows),
        "runs without a record": len(keys.keys() - {row["key"] for row in rows}),
        "records unlike their run": sum(mirrored.get(row["key"], row) != row for row in rows),
        "curves unlike their runs": int(not thinned.combine_chunks().equals(curves(root))),
    }


def search_compared(spec: Spec, storage: str) -> dict[str, int]:
    """How a search's trials differ from its records; all zero but their number."""
    plan = plan_study(spec, storage)
    assert plan.search is not None
    outcomes, unlike, unfinished, trials = Outcomes(plan.root), 0, 0, 0
    with quiet():
        search = Search(plan.search, plan.root)
    for cell in search.cells:
        for trial in cell.study.get_trials(deepcopy=False):
            trials += trial.state.name == "COMPLETE"
            unfinished += trial.state.name in ("RUNNING", "WAITING")
            if trial.state.name == "COMPLETE":
                rows = [outcomes[key] for key in trial.user_attrs["keys"] if key in outcomes]
                unlike += [mean(rows, name) for name in plan.search.objectives] != trial.values if rows else 1
    return {
        "trials": trials,
        "trials missing": plan.search.trials * len(search.cells) - trials,
        "trials unfinished": unfinished,
        "trials unlike their records": unlike,
        "points left": 0 if search.finished else search.left,
    }
