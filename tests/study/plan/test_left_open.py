"""What a spec leaves open: read, chosen once for a study, part of its points' keys in every later run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from study.plan import left_open
from study.plan.plan import Plan, plan_study
from study.plan.probing import answers
from study.records.chosen import read_chosen, write_chosen
from study.records.writer import FragmentWriter, Provenance
from study.spec.presets import preset_names, preset_text
from study.spec.reading import Spec, read_spec, understand
from trainables.point.config import TrialConfig, flatten, left_open_words, with_fields
from trainables.point.errors import ConfigError
from trainables.training.loop import Result

RATE, SCALE, EPOCHS = "optimizer.learning_rate", "model.kernel_scale", "budget.epochs"
OPEN = {"optimizer": {"learning_rate": "auto"}}
DATA = {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}
WRITTEN: dict[str, Any] = {
    "study": "open",
    "trial": {"data": DATA, "budget": {"epochs": 2}},
    "space": {"model.width": {"values": [4, 64]}, "corruption.level": {"values": [0, 1]}, "seed": {"range": 2}},
    "tracking": {"mlflow": False},
}
KEYS_OF_PRESETS = Path(__file__).parent / "assignments_of_presets.json"


def spec(trial: Mapping[str, Any] | None = None, **changes: Any) -> Spec:
    return understand(WRITTEN | {"trial": WRITTEN["trial"] | (trial or {})} | changes)


class Probe:
    """Stands for the probe: answers with a value for each data set, and notes what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, value: float | None) -> None:
        self.asked: list[tuple[str, Sequence[TrialConfig]]] = []
        self._value = value
        monkeypatch.setattr(left_open, "answers", self)

    def __call__(self, wanted: Sequence[tuple[str, Sequence[TrialConfig]]], sources: Mapping[str, str]) -> list[dict[str, Any]]:
        self.asked += wanted
        return [{"value": self._value, "why": "" if self._value else "every run diverged", "seconds": 0.5} for _ in wanted]

    def planned(self, spec: Spec, storage: Path) -> Plan:
        return plan_study(spec, str(storage), probing=lambda: None)


def record(plan: Plan) -> None:
    done = [Result(point.config, point.key, "diverged", "", {}, []) for point in plan.points]  # which needs no curve
    FragmentWriter(plan.root, Provenance(plan.study, None, "0"))(done, "cpu")


def rates(plan: Plan) -> set[tuple[str, float]]:
    return {(point.config.model.name, point.config.optimizer.learning_rate) for point in plan.points}


@pytest.mark.parametrize(
    ("trial", "changes", "open_"),
    [
        ({}, {}, {RATE: False, SCALE: False}),
        ({"optimizer": {"learning_rate": "auto"}}, {}, {RATE: True, SCALE: False}),
        ({"optimizer.learning_rate": "auto", "model.kernel_scale": "median"}, {}, {RATE: True, SCALE: True}),
        ({"optimizer": {"learning_rate": 0.1}}, {}, {SCALE: False}),
        ({"optimizer": {"name": "adam"}}, {"space": {"optimizer.learning_rate": {"values": [0.1, 0.2]}}}, {SCALE: False}),
        ({}, {"space": {"regularizers": ["learning_rate"]}, "search": {"kind": "optuna", "trials": 2}}, {SCALE: False}),
        ({}, {"search": {"kind": "optuna", "trials": 2, "function": "f.py:f"}}, {}),
        ({"optimizer": {"learning_rate": "auto"}}, {"search": {"kind": "optuna", "trials": 2, "function": "f.py:f"}}, {RATE: True}),
    ],
)
def test_a_field_is_open_that_nothing_names(trial: dict[str, Any], changes: dict[str, Any], open_: dict[str, bool]) -> None:
    assert spec(trial, **changes).left_open == open_


def test_a_change_opens_a_field_and_closes_it(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps(WRITTEN | {"space": {RATE: {"values": [0.1, 0.2]}, "seed": {"range": 2}}}))
    opened = read_spec(tmp_path / "s.yaml", (f"{RATE}=auto",))
    assert opened.left_open[RATE]
    assert len(opened.assignments()) == 2
    assert RATE not in read_spec(tmp_path / "s.yaml", (f"{RATE}=0.3",)).left_open


def test_another_word_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"trial\.optimizer\.learning_rate is 'best': it should be a valid number, or auto"):
        spec({"optimizer": {"learning_rate": "best"}})
    with pytest.raises(ConfigError, match=r"space\.optimizer\.learning_rate is 'auto': it should be a valid number"):
        spec(space={RATE: {"values": ["auto"]}})


def test_widths_levels_and_seeds_share_one_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(monkeypatch, 0.3)
    plan = probe.planned(spec(OPEN, space=WRITTEN["space"] | {"model.width": {"values": [4, 6, 16, 64]}}), tmp_path)
    assert rates(plan) == {("mlp", 0.3)}
    assert len(plan.points) == 16
    ((field, probed),) = probe.asked
    assert (field, [point.model.width for point in probed]) == (RATE, [4, 16, 64])
    assert plan.told == (
        "optimizer.learning_rate is 0.3 for mlp of depth 1 on synthetic: a probe at width 4, 16, 64 chose it in 0.5 seconds.",
    )


def test_the_keys_are_those_of_a_spec_that_names_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Probe(monkeypatch, 0.3).planned(spec(OPEN), tmp_path)
    named = plan_study(spec({"optimizer": {"learning_rate": 0.3}}), str(tmp_path))
    assert [point.key for point in plan.points] == [point.key for point in named.points]


def test_a_study_keeps_its_choice_and_a_grown_one_probes_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Probe(monkeypatch, 0.3).planned(spec(OPEN), tmp_path)
    assert not (tmp_path / "open").exists()
    (tmp_path / "open").mkdir()
    write_chosen(first.root, first.chosen)
    later = Probe(monkeypatch, 1.0)
    space = WRITTEN["space"] | {"model.width": {"values": [4, 64, 4096]}, "model.name": {"values": ["mlp", "linear"]}}
    grown = later.planned(spec(OPEN, space=space), tmp_path)
    assert rates(grown) == {("mlp", 0.3), ("linear", 1.0)}
    assert [point.model.name for _, probed in later.asked for point in probed] == ["linear"]
    assert {point.key for point in first.points} < {point.key for point in grown.points}


def test_a_plan_that_must_not_probe_says_what_a_run_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(monkeypatch, None)
    plan = plan_study(spec(OPEN), str(tmp_path))
    assert not probe.asked
    assert plan.pending == ("optimizer.learning_rate is left open: a run will first choose it for mlp of depth 1 on synthetic.",)


def test_what_cannot_be_chosen_keeps_its_default_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Probe(monkeypatch, None).planned(spec(OPEN), tmp_path)
    assert rates(plan) == {("mlp", 0.1)}
    (told,) = plan.told
    assert told.startswith("optimizer.learning_rate stays 0.1 for mlp of depth 1 on synthetic: every run diverged. Name it")


def test_a_spec_that_names_no_rate_leaves_it_to_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(monkeypatch, 0.3)
    plan = probe.planned(spec(), tmp_path)
    assert rates(plan) == {("mlp", 0.3)}
    assert plan.chosen.keys() == {RATE}
    del probe.asked[:]
    assert not probe.planned(spec({"optimizer": {"learning_rate": 0.1}}), tmp_path).told
    assert not probe.planned(spec({"model": {"name": "linear"}, "optimizer": {"name": "closed_form"}}), tmp_path).told
    assert not probe.asked
    (tmp_path / "open").mkdir()
    write_chosen(plan.root, plan.chosen)
    record(plan)
    later = plan_study(spec(), str(tmp_path)).with_records()
    assert later.keys() == plan.keys()
    assert not later.missing


@pytest.mark.parametrize("trial", [{}, {"model": {"name": "random_features", "width": 8}, "optimizer": {"learning_rate": 0.2}}])
def test_a_study_that_has_records_keeps_what_they_have_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: dict[str, Any]
) -> None:
    probe = Probe(monkeypatch, 0.3)
    field, default = (SCALE, 5.0) if trial else (RATE, 0.1)
    group, key = field.split(".")
    named = spec(trial | {group: trial.get(group, {}) | {key: default}}, space={"seed": {"range": 2}})
    before = plan_study(named, str(tmp_path))
    record(before)
    plan = probe.planned(spec(trial, space={"seed": {"range": 3}}), tmp_path)
    assert not probe.asked
    assert before.keys() < plan.keys()
    assert len(plan.with_records().missing) == 1
    assert not plan.chosen
    (told,) = plan.told
    assert told.startswith(f"{field} stays {default:g} for ")
    assert told.endswith(f", as in what is recorded; {field}: {left_open_words()[field]} would choose it by a probe.")


def test_the_keys_of_a_spec_that_leaves_a_field_open_are_those_of_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"the spec leaves optimizer\.learning_rate open, and what was chosen stands with the study's records"
    ):
        spec().keys()
    named = spec({"optimizer": {"learning_rate": 0.3}})
    assert Probe(monkeypatch, 0.3).planned(spec(), tmp_path).keys() == named.keys() == plan_study(named, str(tmp_path)).keys()
    searched = spec(
        {"data": DATA | {"validation_size": 20}}, space={"regularizers": ["weight_decay"]}, search={"kind": "optuna", "trials": 2}
    )
    with pytest.raises(ConfigError, match="chooses its points as it goes"):
        plan_study(searched, str(tmp_path)).keys()


def test_a_spec_that_names_no_epochs_has_one_number_for_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = spec(
        {"optimizer": {"learning_rate": 0.1}, "budget": {}}, space=WRITTEN["space"] | {"model.name": {"values": ["mlp", "linear"]}}
    )
    assert written.left_open == {SCALE: False, EPOCHS: False}
    probe = Probe(monkeypatch, 250)
    plan = probe.planned(written, tmp_path)
    assert {point.config.budget.epochs for point in plan.points} == {250}
    ((field, tried),) = probe.asked
    assert field == EPOCHS
    assert {point.model.name for point in tried} == {"mlp", "linear"}
    assert plan.told == ("budget.epochs is 250 for the study: a probe chose it in 0.5 seconds.",)


def test_a_search_is_planned_for_a_number_of_epochs() -> None:
    searched = {"search": {"kind": "optuna", "trials": 2}, "space": {"regularizers": ["weight_decay"]}}
    assert EPOCHS not in spec({"budget": {}}, **searched).left_open
    with pytest.raises(ConfigError, match=r"trial\.budget\.epochs is auto, and a search is planned for a number of epochs: name it"):
        spec({"budget": {"epochs": "auto"}}, **searched)


def test_two_runs_that_chose_differently_do_not_mix(tmp_path: Path) -> None:
    one = {"value": 0.1, "of": "mlp"}
    write_chosen(str(tmp_path), {RATE: {"a": one}})
    write_chosen(str(tmp_path), {RATE: {"a": one, "b": one}})
    assert read_chosen(str(tmp_path)) == {RATE: {"a": one, "b": one}}
    with pytest.raises(ConfigError, match=r"another run of this study has chosen optimizer\.learning_rate meanwhile"):
        write_chosen(str(tmp_path), {RATE: {"b": one | {"value": 0.3}}})


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"optimizer.learning_rate": {"a": {"value": "x"}}}', '{"optimizer.learning_rate": {"a": {}}}']
)
def test_choices_that_cannot_be_read_are_an_error_and_not_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "chosen.json").write_text(text)
    with pytest.raises(ConfigError, match=r"open/chosen\.json cannot be read"):
        plan_study(spec(OPEN), str(tmp_path))


def test_the_cells_of_a_search_have_their_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"model.width": {"values": [4, 64]}, "regularizers": ["weight_decay"]}
    written = spec(OPEN | {"data": DATA | {"validation_size": 20}}, space=space, search={"kind": "optuna", "trials": 2})
    plan = Probe(monkeypatch, 0.3).planned(written, tmp_path)
    assert plan.search is not None
    assert [(cell.trial.model.width, cell.trial.optimizer.learning_rate) for cell in plan.search.cells] == [(4, 0.3), (64, 0.3)]


def test_random_features_have_the_scale_of_their_data_and_then_their_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(monkeypatch, 2.5)
    features = {"model": {"name": "random_features", "width": 16, "kernel_scale": "median"}} | OPEN
    plan = probe.planned(spec(features, space={"model.depth": {"values": [0]}, "seed": {"range": 2}}), tmp_path)
    assert [point.config.model.kernel_scale for point in plan.points] == [2.5, 2.5]
    assert [(field, [point.model.kernel_scale for point in probed]) for field, probed in probe.asked] == [(SCALE, [5.0]), (RATE, [2.5])]


def test_a_model_that_ends_its_process_ends_the_probe_and_not_the_driver(tmp_path: Path) -> None:
    model = "import os\nfrom trainables.models import model_family\n\n\n@model_family('ends', default_width=1)\n"
    (tmp_path / "own.py").write_text(model + "def ends(model, dropout, image_shape, classes):\n    os._exit(3)\n")
    (found,) = answers([(RATE, [TrialConfig()])], {str(tmp_path / "own.py"): "import os\nos._exit(3)\n"})
    assert found == {"why": "the probe's process ended"}


def test_presets_name_what_they_need_and_their_points_are_what_they_were() -> None:
    """The digests are of before fields could be left open, and of what points say beside the defaults. Later presets have none."""
    defaults = flatten(TrialConfig())
    found, before = {}, json.loads(KEYS_OF_PRESETS.read_text())
    for name in preset_names():
        _, _, scaled = preset_text(name).partition("\nscales:")
        scales: list[str | None] = [scale for scale in ("smoke", "cpu", "paper") if f"\n  {scale}:" in scaled] if scaled else [None]
        for scale in scales:
            declared = read_spec(name, scale=scale)
            points = [declared.trial] if declared.search.kind == "optuna" else []
            assignments = [] if points else declared.assignments()
            some = 1 if f"{name} {scale or ''}".strip() in before else -(-len(assignments) // 500)  # of an atlas' hundred thousand
            points += [with_fields(declared.trial, one) for one in assignments[::some]]
            for point in points:
                if RATE in declared.left_open:
                    assert point.is_solved, (name, scale)
                if EPOCHS in declared.left_open:
                    assert point.is_solved or point.budget.stop_at_train_error is None, (name, scale)
                if SCALE in declared.left_open:
                    assert point.model.name not in ("random_features", "gaussian_kernel"), (name, scale)
            said = [{field: value for field, value in flatten(point).items() if value != defaults[field]} for point in points]
            found[f"{name} {scale or ''}".strip()] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    assert {name: found[name] for name in before} == before
    assert left_open_words() == {RATE: "auto", SCALE: "median", EPOCHS: "auto"}
