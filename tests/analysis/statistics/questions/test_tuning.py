"""What a search says: tables against scipy, importance against known effects, Optuna's figures in one page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import scipy.special
import scipy.stats

from analysis.errors import AnalysisError, NothingToShow
from analysis.figures.search import search_figures, tuned_gap_vs_capacity, write_page
from analysis.records.declared import undeclared
from analysis.report.page import write_report
from analysis.report.search import ablation_rows
from analysis.statistics.questions.tuning import BASELINE, ablation_table, compared_runs, importance_table, optuna_studies
from tests.analysis.made_up_study import record

SEEDS = 6
ERRORS = {"tuned": 0.10, "untuned": 0.30, "without dropout": 0.15}


SEARCHED = [
    record(**{"optimizer.learning_rate": rate}, seed=99, validation_error=abs(rate - 0.2), parameters=500)
    for rate in (0.01, 0.05, 0.2, 0.3, 0.6, 1.0)
]
"""The search's own records, one a trial."""


@pytest.fixture
def compared(write_study: Callable[..., Path]) -> Path:
    """Two cells, three variants, six seeds; rows and a search's own record that belongs to no variant."""
    draw, rows, cells = np.random.default_rng(0), [], []
    for width in (8, 64):
        variants: dict[str, list[str]] = {}
        for variant, error in ERRORS.items():
            for seed in range(SEEDS):
                fields = {"model.width": width, "regularizers.dropout": 0.3 * (variant == "tuned"), "optimizer.learning_rate": 0.1 + error}
                row = record(**fields, seed=seed, parameters=100 * width, test_error=error + draw.normal(0, 0.01) + seed / 50)
                rows.append(row)
                variants.setdefault(variant, []).append(row["key"])
        cells.append({"cell": {"model.width": width}, "optuna_study": "made up", "best_trial": 3, "variants": variants})
    folder = write_study([*rows, *SEARCHED])
    (folder / "tuning.json").write_text(json.dumps(cells))
    return folder


def errors(runs: pa.Table, cell: str, variant: str) -> np.ndarray:
    return np.asarray(runs.filter((pc.field("cell") == cell) & (pc.field("variant") == variant)).sort_by("seed")["test_error"])


def test_the_comparison_holds_its_variants_and_nothing_else(compared: Path) -> None:
    runs = compared_runs(str(compared))
    assert runs.num_rows == 2 * 3 * SEEDS
    assert set(runs["variant"].to_pylist()) == set(ERRORS)
    assert set(runs["cell"].to_pylist()) == {"model.width = 8", "model.width = 64"}


@pytest.mark.parametrize(
    "text", ["[1]", "null", "[{}]", '[{"cell": 3, "variants": {"a": ["b"]}}]', '[{"cell": {}, "variants": 1}]', "\xff", "[1,"]
)
def test_a_damaged_comparison_is_a_sentence_and_the_report_goes_without_it(compared: Path, text: str) -> None:
    (compared / "tuning.json").write_text(text)
    with pytest.raises(NothingToShow, match=r"tuning\.json is damaged: gaplab run writes it anew"):
        compared_runs(str(compared))
    assert ablation_rows(str(compared)) == []


@pytest.mark.parametrize("text", ['[1, "a"]', "[null]", "3", "[[1]]", "[1,"])
def test_damaged_keys_of_undeclared_points_mix_none_in(compared: Path, text: str) -> None:
    (compared / "undeclared.json").write_text(text)
    with pytest.raises(AnalysisError, match=r"undeclared\.json is damaged: the next gaplab run of the study writes it anew"):
        undeclared(str(compared))


def test_undeclared_points_that_cannot_be_asked_for_are_not_mixed_in(compared: Path) -> None:
    (compared / "undeclared.json").mkdir()
    with pytest.raises(AnalysisError, match=r"undeclared\.json cannot be read"):
        undeclared(str(compared))


def test_the_table_has_the_paired_t_intervals_of_scipy(compared: Path) -> None:
    runs = compared_runs(str(compared))
    rows = ablation_table(runs).to_pylist()
    assert [row["variant"] for row in rows] == ["tuned", "untuned", "without dropout"] * 2
    for row in rows:
        own, tuned = (errors(runs, row["cell"], variant) for variant in (row["variant"], "tuned"))
        away = scipy.stats.sem(own) / (own.mean() * (1 - own.mean()))  # on the logit scale of [0, 1]
        ends = scipy.stats.t.interval(0.95, SEEDS - 1, scipy.special.logit(own.mean()), away)
        low, high = scipy.special.expit(ends)
        assert (row["test_error"], row["test_error.low"], row["test_error.high"]) == pytest.approx((own.mean(), low, high))
        assert (row["seeds"], row["fit"]) == (SEEDS, SEEDS)
        if row["variant"] == "tuned":
            assert row["difference"] is None
            continue
        test = scipy.stats.ttest_rel(own, tuned)
        interval = test.confidence_interval(0.95)
        assert row["difference"] == pytest.approx((own - tuned).mean())
        assert (row["difference.low"], row["difference.high"]) == pytest.approx((interval.low, interval.high))
        assert row["p.holm"] >= test.pvalue * (1 - 1e-9)


def test_the_gap_of_tuned_and_untuned_stand_side_by_side(compared: Path) -> None:
    figure = tuned_gap_vs_capacity(compared_runs(str(compared)), title="made up")
    titles = " ".join(panel.get_title("left") for panel in figure.axes)
    assert "tuned" in titles
    assert "untuned" in titles
    assert "without" not in titles


def test_a_study_without_a_comparison_says_so(write_study: Callable[..., Path]) -> None:
    folder = write_study([record(seed=1)])
    with pytest.raises(NothingToShow, match=r"search\.ablation_seeds"):
        compared_runs(str(folder))
    with pytest.raises(NothingToShow, match="no Optuna journal"):
        optuna_studies(str(folder))


def searched(storage: str | None = None, trials: int = 80) -> optuna.Study:
    """x matters, y does not, z only when it is asked for and not much."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="made <up>", storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
    study.set_user_attr("objectives", ["validation_error"])
    for _ in range(trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        z = trial.suggest_float("z", 0, 1) if trial.suggest_categorical("use_z", [False, True]) else 0
        study.tell(trial, x**2 + 0.001 * y + 0.001 * z)
    return study


@pytest.mark.parametrize("evaluator", ["ped_anova", "fanova"])
def test_importance_tells_what_matters_from_chance(evaluator: str) -> None:
    table = importance_table(searched(), evaluator=evaluator, repeats=4)  # type: ignore[arg-type]
    found = dict(zip(table["parameter"].to_pylist(), table["importance"].to_pylist(), strict=True))
    chance = table["chance"][0].as_py()
    assert table["parameter"][0].as_py() == "x"
    assert found["x"] > 0.6 > 2 * chance
    assert found["y"] < 2 * chance
    assert BASELINE in found
    assert ("z" in found) == (evaluator == "ped_anova")


def test_importance_needs_two_trials() -> None:
    with pytest.raises(NothingToShow, match="at least two"):
        importance_table(searched(trials=1))


def test_figures_of_a_search_make_one_page_that_needs_no_network(tmp_path: Path) -> None:
    study = searched(trials=12)
    figures = search_figures(study)
    assert len(figures) == 4
    page = write_page(figures, tmp_path / "deep" / "search.html", study.study_name).read_text()
    assert page.count("Plotly.newPlot(") >= 4
    assert "made &lt;up&gt;" in page
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(?:https?:)?//", page)


def test_a_front_and_intermediate_values_are_drawn_where_there_are_any() -> None:
    two = optuna.create_study(directions=["minimize", "minimize"])
    two.set_user_attr("objectives", ["validation_error", "parameters"])
    for index in range(4):
        trial = two.ask()
        x = trial.suggest_float("x", 0, 1)
        two.tell(trial, [x, 1 - x + index])
    assert "Pareto front" in search_figures(two)
    one = searched(trials=3)
    trial = one.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    one.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert "Intermediate values" in search_figures(one)
    with pytest.raises(NothingToShow, match="no completed trial"):
        search_figures(optuna.create_study())


def test_the_report_of_a_search_has_its_figures_and_its_comparison(compared: Path) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(compared / "optuna.journal")))
    for index, cell in enumerate(({"model.width": 8}, {"model.width": 64})):
        study = optuna.create_study(study_name=f"made up {index}", storage=storage, directions=["minimize"] * (1 + index))
        study.set_user_attr("objectives", ["validation_error", "parameters"][: 1 + index])
        study.set_user_attr("cell", cell)
        for row in SEARCHED:  # what no record backs with its values is not shown
            study.add_trial(
                optuna.trial.create_trial(
                    params={(name := "optimizer.learning_rate"): row[name]},
                    distributions={name: optuna.distributions.FloatDistribution(0.01, 1, log=True)},
                    values=[row["validation_error"], row["parameters"]][: 1 + index],
                    user_attrs={"keys": [row["key"]]},
                )
            )
    html = write_report(str(compared), compared / "report.html").read_text(encoding="utf-8")
    searched = json.loads(re.search(r'<script type="application/json" id="searched">(.*?)</script>', html, re.S)[1])  # type: ignore[index]
    one, two = ([figure["title"] for figure in cell] for cell in searched)
    assert one == ["History of the validation_error", "Importance for the validation_error"] + [
        f"{kind}, validation_error" for kind in ("Parallel coordinates", "Slices")
    ]
    assert "Pareto front" in two
    drawn = searched[0][0]["figure"]["data"][0]
    assert drawn["y"] == [trial.values[0] for trial in optuna_studies(str(compared))[0].trials]
    assert "model.width = 64</summary>" in html
    assert "Tuned, untuned, and without each regularizer" in html
    assert html.count('<td class="text">without dropout</td>') == 2
