"""`gaplab scale`, `fit` and `predict`: a study whose law is known, recorded by hand, and what they refuse before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.records.writer import FragmentWriter, Provenance
from tests.study.conftest import Answer
from tests.study.made_up_results import result

SAMPLES = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 1000)
SPEC = """study: made-up
trial:
  data: {name: synthetic, dimension: 4, classes: 3}
  model: {width: 4}
  optimizer: {learning_rate: 0.1}
  budget: {epochs: 3}
space:
  data.train_size: {values: [%s]}
replicates: 2
tracking: {mlflow: false}
"""

Run = Callable[..., Answer]


def error(samples: int) -> float:
    return 0.02 + 1.5 * samples**-0.5


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "made-up.yaml"
    path.write_text(SPEC % ", ".join(map(str, SAMPLES)))
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """All its points, as if they were trained."""
    writer = FragmentWriter(str(tmp_path / "results" / "made-up"), Provenance("made-up", None, "0"))
    draw, found = np.random.default_rng(0), []
    for samples in SAMPLES:
        for seed in range(2):
            one = result(**{"data.train_size": samples, "seed": seed})
            test_error = error(samples) * float(np.exp(0.01 * draw.standard_normal()))
            outcome = {"test_error": test_error, "interpolated": True, "fit_epoch": 3, "parameters_per_sample": 35 / samples}
            found.append(replace(one, outcome=one.outcome | outcome))
    writer(found, "cpu")
    return str(tmp_path / "results" / "made-up")


def test_scale_says_the_law_the_forecast_and_draws_them(gaplab: Run, spec: Path, recorded: str) -> None:
    answer = gaplab("scale", str(spec), "--storage", str(Path(recorded).parent))
    assert answer.code == 0, answer.err
    assert "Nothing to run: all 28 points of made-up are recorded." in answer.out
    assert "runs that fit: test error = E + A/training samples n^alpha with E 0.0" in answer.out
    assert "10 x training samples n" in answer.out
    assert (Path(recorded) / "charts" / "scaling.png").stat().st_size > 10_000


def test_fit_and_predict_say_the_same_of_what_is_recorded(gaplab: Run, recorded: str, tmp_path: Path) -> None:
    answer = gaplab("fit", recorded, "--output", str(tmp_path / "law"))
    assert answer.code == 0, answer.err
    assert "test error = E + A/training samples n^alpha" in answer.out
    assert (tmp_path / "law.svg").exists()
    answer = gaplab("predict", recorded, "--at", "data=10x")
    assert answer.code == 0, answer.err
    (line,) = (line for line in answer.out.splitlines() if "│ 1e+04" in line)
    value, low, high = (float(part.strip("()")) for part in line.split("│")[-2].replace(" to ", " ").split())
    assert low < error(10_000) < high
    assert value == pytest.approx(error(10_000), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--at", "ten"], "--at ten is no place: say 10x, SIZE=10x or SIZE=NUMBER, such as parameters=1e6"),
        (["--at", "parameters=10x"], "the law runs over data.train_size"),
        (["--at", "data=10x", "--at", "data=100x"], "--at data=10x and --at data=100x name one size"),
        (["--size", "parameter"], "did you mean 'parameters'?"),
        (["--side", "unfit"], "no setting has runs on that side alone"),
    ],
)
def test_predict_refuses_in_a_sentence(gaplab: Run, recorded: str, arguments: list[str], sentence: str) -> None:
    answer = gaplab("predict", recorded, *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert sentence in answer.err


def test_a_place_that_is_none_is_said_where_there_is_no_law_either(gaplab: Run, tmp_path: Path) -> None:
    folder = tmp_path / "two-sizes"
    FragmentWriter(str(folder), Provenance("two-sizes", None, "0"))([result(**{"data.train_size": size}) for size in (100, 200)], "cpu")
    assert gaplab("predict", str(folder)).code == 0
    answer = gaplab("predict", str(folder), "--at", "ten")
    assert (answer.code, answer.out) == (2, "")
    assert "--at ten is no place" in answer.err


TUNED = """study: tuned
trial: {data: {validation_size: 100}}
space:
  optimizer.learning_rate: {log_uniform: {low: 0.01, high: 1}}
search: {kind: optuna, trials: 3}
"""


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (SPEC % "100, 200, 400, 800, 1600", [], "4 different sizes must lie below it: there are 1; add smaller ones"),
        (SPEC % "100", [], "neither parameters nor data.train_size varies"),
        (SPEC % "100, 200", ["--value", "test_eror"], "did you mean 'test_error'?"),
        (TUNED, [], "scale runs a grid"),
    ],
)
def test_what_can_have_no_law_is_refused_before_it_runs(
    gaplab: Run, tmp_path: Path, text: str, arguments: list[str], sentence: str
) -> None:
    path = tmp_path / "made-up.yaml"
    path.write_text(text)
    answer = gaplab("scale", str(path), "--storage", str(tmp_path / "results"), *arguments)
    assert answer.code == 2, answer.out
    assert sentence in answer.err
    assert not (tmp_path / "results").exists(), "nothing was started"
