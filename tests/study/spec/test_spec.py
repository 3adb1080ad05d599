"""Specs: what is written is what runs, and every mistake is one sentence that names its place and what would be right."""

from __future__ import annotations

import datetime
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.axes import KINDS
from study.plan.points import declared_points
from study.spec.presets import PRESETS, preset_names
from study.spec.reading import read_spec, understand
from trainables.point.config import TrialConfig, field_types, flatten, with_fields
from trainables.point.errors import ConfigError

SPEC = """
study: made-up
trial:
  data: {name: synthetic, train_size: 60}
  model: {name: mlp, width: 4}
space:
  corruption.level: {values: [0, 0.5]}
  seed: {range: 3}
"""


@pytest.fixture
def write(tmp_path: Path):
    """Write a spec file; returns its path."""

    def write(text: str, name: str = "made-up.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def assignments(spec) -> list[dict[str, Any]]:
    """Every point of the study, whole, as dotted fields."""
    return [flatten(with_fields(spec.trial, assignment)) for assignment in spec.assignments()]


def test_a_spec_declares_the_product_of_its_axes_over_its_trial(write):
    points = assignments(read_spec(write(SPEC)))
    trial = flatten(TrialConfig()) | {"data.name": "synthetic", "data.train_size": 60, "model.name": "mlp", "model.width": 4}
    assert points == [trial | {"corruption.level": level, "seed": seed} for level in (0, 0.5) for seed in (0, 1, 2)]


def test_a_corruption_named_alone_redraws_labels():
    """As Zhang et al. 2017 do (promise 7)."""
    (point,) = assignments(understand({"study": "s", "trial": {"corruption": {"level": 0.5}}}))
    assert point["corruption.kind"] == "redraw"


def test_a_transition_matrix_is_a_list_of_rows(write):
    spec = read_spec(write("study: s\nspace: {corruption.transition: {values: [pair_flip, [[1.0, 0], [0.25, 0.75]]]}}\n"))
    assert [point["corruption.transition"] for point in assignments(spec)] == ["pair_flip", "[[1, 0], [0.25, 0.75]]"]
    with pytest.raises(ConfigError, match=r"trial.corruption.transition: row 1, \[0.5, 0.6\], must be probabilities"):
        understand({"study": "s", "trial": {"corruption": {"transition": [[1, 0], [0.5, 0.6]]}}})


def test_groups_and_dotted_names_say_the_same():
    grouped = understand({"study": "s", "trial": {"model": {"width": 3}, "seed": 4}})
    dotted = understand({"study": "s", "trial": {"model.width": 3, "seed": 4}})
    assert grouped.trial == dotted.trial == TrialConfig(model=grouped.trial.model, seed=4)


def test_replicates_are_seeds():
    spec = understand({"study": "s", "replicates": 3})
    assert [point["seed"] for point in assignments(spec)] == [0, 1, 2]


def test_numbers_are_yaml_1_2(write):
    """In YAML 1.1, 1e-3 is a text and `no` is false."""
    spec = read_spec(write("study: s\ntrial: {optimizer: {learning_rate: 1e-3}}\n"))
    assert spec.trial.optimizer.learning_rate == 0.001


def test_own_models_are_found_beside_the_spec(write, monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("")
    path = write("study: s\nimports: [mine.py]\n")
    monkeypatch.chdir("/")
    assert read_spec(path).imports == (tmp_path / "mine.py",)


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_say_what_they_show_and_cost(name):
    spec = read_spec(name)
    assert spec.search.kind == "optuna" or spec.assignments()
    head = (PRESETS / f"{name}.yaml").read_text().split("study:")[0]
    assert any(
        f"# Run: gaplab {command} {name}" in head for command in ("run", "scale", "capacity", "attribute", "atlas build", "reproduce")
    )
    assert "# Cost:" in head
    assert "# Expect:" in head or "not run yet" in head


# --set


def test_set_changes_a_field_of_the_trial(write):
    spec = read_spec(write(SPEC), ("model.width=9", "optimizer.learning_rate=1e-3"))
    assert {(point["model.width"], point["optimizer.learning_rate"]) for point in assignments(spec)} == {(9, 0.001)}
    assert len(assignments(spec)) == 6


def test_a_field_that_is_set_no_longer_varies(write):
    points = assignments(read_spec(write(SPEC), ("seed=7",)))
    assert [(point["corruption.level"], point["seed"]) for point in points] == [(0, 7), (0.5, 7)]


def test_a_field_that_is_set_no_longer_varies_with_others(write):
    text = "study: s\nspace:\n  zip: [{model.width: {values: [2, 3]}, optimizer.momentum: {values: [0, 0.5]}}]\n"
    points = assignments(read_spec(write(text), ("model.width=9",)))
    assert [(point["model.width"], point["optimizer.momentum"]) for point in points] == [(9, 0), (9, 0.5)]


def test_a_set_seed_stands_before_replicates(write):
    assert [point["seed"] for point in assignments(read_spec(write("study: s\nreplicates: 3\n"), ("seed=7",)))] == [7]


def test_set_changes_sections(write):
    spec = read_spec(write(SPEC), ("study=other", "resources.workers=2", "space={seed: {range: 2}}", "tracking={mlflow: false}"))
    assert (spec.study, spec.resources.workers, spec.tracking.mlflow) == ("other", 2, False)
    assert [point["seed"] for point in assignments(spec)] == [0, 1]


def test_the_text_that_is_kept_says_what_was_set(write):
    """spec.yaml beside the records must not claim what did not run."""
    assert read_spec(write(SPEC)).text == SPEC
    text = read_spec(write(SPEC), ("model.width=9",)).text
    assert text.startswith(SPEC)
    assert "# run with --set model.width=9" in text.splitlines()


# mistakes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("spce: {}", "spce: no such field: did you mean 'space'?"),
        ("trial: {model: {widht: 3}}", "trial.model.widht: no such field: did you mean 'model.width'?"),
        ("trial: {modle: {width: 3}}", "trial.modle: no such field: did you mean 'model'?"),
        ("trial: {learning_rate: 3}", "trial.learning_rate: no such field: did you mean 'optimizer.learning_rate'?"),
        ("trial: {model: mlp}", "trial.model must be a mapping of its fields, such as {name: ...}; it is 'mlp'"),
        ("trial: {model: {width: 3}, model.width: 4}", "trial names model.width twice: keep one of them"),
        ("trial: {model: {width: wide}}", "trial.model.width is 'wide': it should be a valid integer"),
        ("trial: {model: {width: 3.0}}", "trial.model.width is 3.0: it should be a valid integer"),
        ("trial: {regularizers: {flip: 1}}", "trial.regularizers.flip is 1: it should be a valid boolean"),
        ("trial: {corruption: {level: 1.5}}", "trial.corruption.level is 1.5: it must be at least 0 and at most 1"),
        ("trial: {corruption: {kind: shuffle}}", "trial.corruption.kind is 'shuffle': it should be 'redraw', 'flip'"),
        ("trial: {optimizer: {learning_rate: .nan}}", "trial.optimizer.learning_rate is nan: it must be a finite number"),
        ("trial: {optimizer: {learning_rate: 0}}", "trial.optimizer.learning_rate is 0.0: it must be greater than 0"),
        ("trial: {seed: 9223372036854775808}", "trial.seed is beyond 9,223,372,036,854,775,807"),
        ("trial: {data: {digest: abc}}", "trial.data.digest is filled in by gaplab: leave it out"),
        ("trial: []", "trial is []: it should be a mapping, such as {NAME: VALUE}"),
        ("search: optuna", "search is 'optuna': it should be a mapping, such as {NAME: VALUE}"),
        ("tracking: false", "tracking is False: it should be a mapping"),
        ("space: {seed: 3}", "space.seed must be one of values, range"),
        ("space: {seed: {rnge: 3}}", "did you mean 'range'?"),
        ("space: {corruption.level: {values: [0, 1.5]}}", "space.corruption.level is 1.5: it must be at least 0 and at most 1"),
        ("space: {corruption.level: {uniform: {low: 0, high: 2}}}", "it must be at least 0 and at most 1"),
        ("space: {model.width: {uniform: {low: 1, high: 2}}}", "space.model.width is 1.0: it should be a valid integer"),
        ("space: {corruption.levle: {values: [0]}}", "space.corruption.levle: no such field: did you mean 'corruption.level'?"),
        ("space: {seed: {values: []}}", "space.seed.values must be a list with at least one value"),
        ("space: {zip: {seed: {range: 2}}}", "space.zip must be a list of mappings from fields"),
        ("space: {zip: [{seed: {choice: [1]}}]}", "space.zip takes listed axes"),
        ("space: {add: [{widht: 3}]}", "space.add.widht: no such field: did you mean 'model.width'?"),
        ("space: {exclude: [{seed: 3}]}", "space.exclude names seed, which the space does not vary"),
        ("replicates: 0", "replicates is 0: it should be greater than or equal to 1"),
        ("replicates: 2\nspace: {seed: {range: 2}}", "replicates and space.seed both set the seed: keep one of them"),
        ("replicates: 2\ntrial: {seed: 5}", "replicates and trial.seed both set the seed: keep one of them"),
        ("search: {kind: gird}", "search.kind is 'gird': it should be 'grid', 'random'"),
        ("search: {smaples: 3}", "search.smaples: no such field: did you mean 'search.samples'?"),
        ("search: {samples: 3}", "search.samples has no meaning for search.kind grid"),
        ("resources: {workers: 0}", "resources.workers is 0: it should be greater than or equal to 1"),
        ("resources: {cpus: .inf}", "resources.cpus is inf: it should be a finite number"),
        ("resources: {labels: {card: in()}}", "card: in() is no selector of Ray's: a label's name has VALUE, !VALUE"),
        ("imports: [nothing.py]", "imports: there is no file"),
        ("imports: nothing.py", "imports is 'nothing.py': it should be a list, such as [...]"),
        ("tracking: {mlflow: 1}", "tracking.mlflow is 1: it should be a valid boolean"),
        ("measures: {l2: 1}", "measures is {'l2': 1}: it should be a list"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_file_and_place(write, text, sentence):
    path = write(f"study: s\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a spec is a mapping that begins with study: NAME"),
        ("- study", "a spec is a mapping"),
        ("trial: {}", "study is missing"),
        ("study: 3", 'study is 3: it should be text, in quotes: "3", or on the command line --set \'study="3"\''),
        ("study: a/b", "study is 'a/b': a name is at most 100 letters, digits, '.', '_' and '-'"),
        ("study: ..", "study is '..': a name is"),
        ('study: "a\\n"', "study is 'a\\n': a name is"),
        ("study: [a", "not valid YAML: expected ',' or ']'"),
        ("study: a\nstudy: b", 'not valid YAML: found duplicate key "study"'),
        ("study: !!python/object:os.system a", "not valid YAML: could not determine a constructor for the tag"),
        ("study: 2020-99-99", "not valid YAML: month must be in 1..12"),
        (f"study: {'1' * 5000}", "not valid YAML"),
        ("study: \x00", "not valid YAML"),
        ("study: *nothing", "not valid YAML: found undefined alias"),
    ],
)
def test_a_file_that_is_no_spec_is_one_sentence(write, text, sentence):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"is no text in UTF-8 \(byte 0 is none of it\): a spec is a YAML file"):
        read_spec(path)


def test_a_folder_is_told_from_a_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gap-vs-capacity").mkdir()
    assert read_spec("gap-vs-capacity").study == "gap-vs-capacity", "of the results of a preset, which may lie here"
    with pytest.raises(ConfigError, match="is a folder: give the YAML file of a spec, or the name of a preset"):
        read_spec(tmp_path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("gap-vs-capcity", "gap-vs-capcity: no such preset or spec file: did you mean 'gap-vs-capacity'?"),
        ("xyz", "xyz: no such preset or spec file: presets are "),
        ("nothing.yaml", "nothing.yaml: there is no such spec file"),
        ("folder/nothing", "folder/nothing: there is no such spec file"),
        ("a" * 5000, "no such preset or spec file"),
        ("a\0", "no such preset or spec file"),
    ],
)
def test_a_missing_spec_is_one_sentence(source, sentence):
    with pytest.raises(ConfigError) as caught:
        read_spec(source)
    assert sentence in str(caught.value)


def test_a_preset_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    """Charts of a study on remote storage lie in such a folder."""
    (tmp_path / "gap-vs-capacity").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_spec("gap-vs-capacity").study == "gap-vs-capacity"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("seed", "--set 'seed' must be FIELD=VALUE"),
        ("model.widht=3", "--set model.widht: no such field: did you mean 'model.width'?"),
        ("model.width=a", "--set model.width is 'a': it should be a valid integer"),
        ("corruption.level=1.5", "--set corruption.level is 1.5"),
        (
            "data.left_out=3",
            '--set data.left_out is 3: it should be text, in quotes: "3", or on the command line --set \'data.left_out="3"\'',
        ),
        ("model.width=[", "the value is not valid YAML"),
        ("search.smaples=3", "search.smaples: no such field: did you mean 'search.samples'?"),
        ("data.digest=abc", "filled in by gaplab"),
        ("=3", "--set : no such field"),
    ],
)
def test_a_wrong_change_is_one_sentence(write, change, sentence):
    with pytest.raises(ConfigError) as caught:
        read_spec(write(SPEC), (change,))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("space={seed: {range: 1}, exclude: [{seed: 0}]}",), "the space is empty: every point of it is excluded"),
        (("space={optimizer.momentum: {uniform: {low: 0, high: 0.5}}}",), "search.kind grid cannot list"),
        (("search={kind: random}",), "needs search.samples"),
        (("search={kind: random, samples: 3}",), "no random axis"),
        (("model.parameters_per_sample=0.001",), "model.parameters_per_sample is 0.001, but no width of mlp reaches it"),
        (("data.train_size=1000000",), "ask for more than the 10,000 training samples"),
        (("data.name=cifar11",), "data.name is 'cifar11', which is no data set"),
        (("data.name=npz:nothing.npz",), "there is no data file nothing.npz"),
        (("model.name=mlpp",), "did you mean 'mlp'?"),
        (("corruption.kind=random_labels", "space={corruption.level: {values: [0.5]}}"), "random_labels redraws every label"),
    ],
)
def test_points_that_cannot_run_are_a_sentence_that_names_the_file(write, changes, sentence):
    path = write(SPEC)
    with pytest.raises(ConfigError) as caught:
        declared_points(read_spec(path, changes))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_point_that_cannot_run_is_named_by_what_varies(write):
    with pytest.raises(ConfigError, match=r"\(at data.train_size = 20000, seed = 0\)$"):
        declared_points(read_spec(write(SPEC), ("space={data.train_size: {values: [60, 20000]}, seed: {range: 2}}",)))


# hypothesis: any mapping at all


WORDS = [
    *("study", "trial", "space", "search", "replicates", "resources", "measures", "tracking", "imports", "published", "zip", "add"),
    *("exclude", "switches", "when", "regularizers", "kind", "samples", "trials", "seed", "low", "high", "points", "log", "workers"),
    *("cpus", "gpus", "mlflow", "grid", "random", "quasi_random", "optuna", "x", "", "a\nb", "data", "model", "corruption"),
    *KINDS,
    *field_types(),
]
scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(-3, 5), st.floats(), st.text(max_size=3), st.sampled_from(WORDS)),
    st.sampled_from([10**20, 10**400, -(10**400), 2**63, math.inf, math.nan, b"", datetime.date(2020, 1, 1)]),
)
keys = st.one_of(st.sampled_from(WORDS), st.integers(0, 3), st.none(), st.text(max_size=2))
bounds = {"low": scalars, "high": scalars}
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)
names = st.sampled_from(list(field_types()))
points = st.dictionaries(names, trees, max_size=3)
axes = st.one_of(
    trees,
    st.dictionaries(st.sampled_from(list(KINDS)), trees, min_size=1, max_size=1),
    st.fixed_dictionaries({"range": st.integers(-5, 2000) | st.lists(st.integers(-5, 2000), max_size=3)}, optional={"when": trees}),
    st.fixed_dictionaries({"values": st.lists(scalars, max_size=3)}, optional={"when": trees}),
    st.fixed_dictionaries({"choice": st.lists(scalars, max_size=3)}, optional={"when": trees}),
    *(
        st.fixed_dictionaries(
            {kind: st.fixed_dictionaries({"low": scalars, "high": scalars}, optional={"log": scalars, "points": scalars})}
        )
        for kind in ("lin_grid", "log_grid", "uniform", "log_uniform", "int")
    ),
)
spaces = st.one_of(
    trees,
    st.dictionaries(names | keys, axes, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "zip": st.lists(st.dictionaries(names | keys, axes, min_size=1, max_size=2), max_size=2),
            "add": st.lists(points, max_size=2),
            "exclude": st.lists(points | trees, max_size=2),
            "switches": trees,
            "regularizers": trees,
            "seed": axes,
        },
    ),
)
OTHERS = ("search", "replicates", "resources", "measures", "tracking", "imports", "published")
specs = st.one_of(
    st.dictionaries(keys, trees, max_size=4),
    st.fixed_dictionaries({"study": st.just("s"), "space": spaces}),
    st.fixed_dictionaries({"study": st.just("s"), "trial": trees | points}),
    st.fixed_dictionaries({"study": st.just("s")}, optional=dict.fromkeys(OTHERS, trees)),
)


@settings(max_examples=500, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(specs)
def test_any_mapping_is_a_spec_or_a_config_error(written):
    with suppress(ConfigError):
        understand(written)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=60) | st.text(alphabet="study: {}[]&*!|>-#\"'%@`\n0a,", max_size=60))
def test_any_text_is_a_spec_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with suppress(ConfigError):
        read_spec(path)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(names | keys.map(str), st.text(max_size=8) | scalars.map(str))
def test_any_change_is_taken_or_a_config_error(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_text(SPEC)
    with suppress(ConfigError):
        read_spec(path, (f"{name}={value}",))


PUBLISHED = {"source": "somewhere", "rows": [{"name": "one", "column": "test_error", "value": 0.2, "where": {"model.width": 8}}]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"name": "one", "value": 0.0}, "'one' has value: a scale cannot change what was published"),
        ({"name": "one", "tolerance": 1}, "'one' has tolerance: a scale cannot change what was published"),
        ({"name": "two", "value": 0.0}, "'two' is none of the published numbers (one)"),
    ],
)
def test_a_scale_cannot_change_what_was_published(row, said):
    from study.spec.scales import at_scale

    def written(rows):
        return {"study": "s", "published": PUBLISHED, "scales": {"cpu": {"published": {"rows": rows}}}}

    with pytest.raises(ConfigError, match=re.escape(said)):
        at_scale(written([row]), "cpu")
    assert at_scale(written([]), "cpu")["published"]["rows"] == []
    elsewhere = at_scale(written([{"name": "one", "where": {"model.width": 2}}]), "cpu")["published"]["rows"]
    assert elsewhere == [PUBLISHED["rows"][0] | {"where": {"model.width": 2}}]


def test_presets_mark_what_cannot_fail_and_what_is_a_stand_in():
    from study.cli.shown.reproduction import reproducible

    for name in reproducible():
        for scale in ("cpu", "paper"):
            spec = read_spec(name, scale=scale)
            rows = spec.published.rows
            random_labels = [row for row in rows if row.where.get("corruption.level") == 1 and row.column == "test_error"]
            assert all(row.control for row in random_labels), name
            same = [one for one in (*rows, *spec.published.orders) if not (spec.published.stand_in or one.stand_in)]
            used = {point.get("data.name", spec.trial.data.name) for point in spec.assignments()}
            assert not same or "digits" not in used, f"{name}: no paper has published numbers on digits"
            names = [one.name for one in (*rows, *spec.published.orders)]
            assert len(set(names)) == len(names)
