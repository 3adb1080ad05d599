"""Inputs that nobody means well with: specs bent out of shape, and record files with bytes changed."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st

from analysis.records.fragments import fragments, read_fragments, statuses
from analysis.records.soundness import forget
from study.cli.shown.search import progress_of
from study.records.writer import FragmentWriter, Provenance
from study.search.plan import plan_search
from study.search.quiet import quiet
from study.search.search import Search
from study.search.storage import JOURNAL
from study.spec.presets import PRESETS, preset_names
from study.spec.reading import read_spec
from tests.study.made_up_results import result
from tests.study.made_up_searches import spec_of
from trainables.point.config import field_types
from trainables.point.errors import ConfigError

WORDS = [
    *("study", "trial", "space", "search", "resources", "replicates", "measures", "tracking", "imports", "published", "scales", "values"),
    *("range", "lin_grid", "log_grid", "low", "high", "points", "uniform", "choice", "when", "zip", "add", "exclude", "kind", "samples"),
    *(
        "data",
        "model",
        "name",
        "width",
        "digits",
        "mlp",
        "optuna",
        "grid",
        "random",
        "regularizers",
        "switches",
        "<<",
        "!!python/name:os.system",
    ),
    *field_types(),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.sampled_from(["1e999", ".nan", "0x1F", "2026-13-45", "1_000", "~", "*a", "&a [*a]", "{", "\x00", "1e-3", "${HOME}", "\ud800"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
PIECES = st.lists(
    st.sampled_from([*WORDS, ": ", "- ", "\n", "\n  ", "{", "}", "[", "]", "&a ", "*a", "? ", "| ", "'", '"', "#", "\t", ","]), max_size=40
)
LINES = sorted({line for name in preset_names() for line in (PRESETS / f"{name}.yaml").read_text().splitlines()})
SPECS = st.one_of(
    st.dictionaries(st.sampled_from(WORDS[:10]), TREES, max_size=6).map(lambda tree: {"study": "hostile"} | tree).map(repr),
    PIECES.map("".join),
    st.lists(st.sampled_from(LINES), max_size=25).map("\n".join),
    st.text(max_size=200),
)
CHANGES = st.lists(st.tuples(st.sampled_from(WORDS) | st.text(max_size=8), TREES).map(lambda pair: f"{pair[0]}={pair[1]!r}"), max_size=2)
DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
"""Bytes to put in a file: where, as a fraction of its length, and what."""


def load_hostile_spec(folder: Path, text: str, changes: list[str]) -> bool:
    """Whether the spec was understood; anything but that or a ConfigError is a defect, and is raised."""
    path = folder / "hostile.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_spec(path, tuple(changes))
    except ConfigError as error:
        if not str(error).startswith(str(path)):
            raise AssertionError(f"the sentence does not name the file: {error}") from error
        return False
    return True


def read_damaged_journal(root: Path, whole: bytes, damage: list[tuple[float, int]], cut: float) -> bool:
    """Whether a search whose journal was damaged goes on; anything but that or a ConfigError is a defect, and is raised."""
    broken = bytearray(whole[: int(len(whole) * cut)])
    for place, value in damage:
        if broken:
            broken[int(place * len(broken))] = value
    (root / JOURNAL).write_bytes(broken)
    spec = spec_of(trials=6)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            progress_of(plan_search(spec), str(root))
            Search(plan_search(spec), str(root)).next_pack()
    except ConfigError:
        return False
    return True


def made_up_study(root: Path, *, older: bool) -> tuple[str, list[Path]]:
    """A study of four points in one file of records, and one of curves: it, and the files.

    Args:
        older: the names of the files carry no checksums.
    """
    FragmentWriter(str(root), Provenance("damaged", None, "0"))([result(seed=seed) for seed in range(4)], "cpu")
    files = [next((root / name).iterdir()) for name in ("records", "curves")]
    return str(root), [file.rename(file.with_name("older.parquet")) if older else file for file in files]


def read_damaged(root: str, path: Path, whole: bytes, damage: list[tuple[float, int]], cut: float) -> pa.Table:
    """Rows read from a study of which one file, of records or of curves, was damaged; readers warn, and raise nothing."""
    broken = bytearray(whole[: int(len(whole) * cut)])
    for place, value in damage:
        if broken:
            broken[int(place * len(broken))] = value
    path.write_bytes(broken)
    forget()  # what changes more often than the clock of its file system ticks looks unchanged
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_fragments(root, fragments(root))
        assert statuses(root).keys() == set(table["key"].to_pylist())
    return table
