"""Small doors: what a spec may hold that would end gaplab in silence, in a traceback, or not at all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from study.plan.plan import plan_study
from study.spec.reading import read_spec, understand
from trainables.point.errors import ConfigError

TEN = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}' if level else 'x'] * 10)}]" for level in range(12)]
MERGED = ["x0: &x0 {a: 1}", *(f"x{level}: &x{level} {{<<: [{', '.join([f'*x{level - 1}'] * 9)}], b{level}: 2}}" for level in range(1, 12))]
BOMBS = {
    "name": "\n".join([*TEN, "study: *a11"]),
    "axis": "\n".join(["study: x", *TEN, "space: {add: *a11}"]),
    "merged": "\n".join(["study: x", *MERGED, "space: *x11"]),
    "long": "study: x\na: &a " + "x" * 300_000 + "\nspace: {seed: {values: [" + ", ".join(["*a"] * 3000) + "]}}",
    "itself": "study: &a [*a]",
    "brackets": "study: " + "[" * 20_000,
    "key": "study: x\ntrial: {? [[x]] : 1}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_spec_that_stands_for_more_than_it_says_is_refused_at_once(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError, match="not valid YAML: ") as caught:
        read_spec(path)
    assert time.process_time() - started < 1.5
    assert len(str(caught.value)) < 2000


def test_aliases_are_welcome() -> None:
    from study.spec.text import parsed

    assert parsed("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}}


def test_a_sentence_that_quotes_much_is_cut() -> None:
    with pytest.raises(ConfigError, match=r"space.add must be a list .* \.\.\. ") as caught:
        understand({"study": "x", "space": {"add": ["x"] * 100_000}})
    assert len(str(caught.value)) < 2000


ENDS = {
    "exit": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "raise": ("raise SystemExit", "SystemExit"),
    "quit": ("quit()", "SystemExit"),
    "base": ("class Own(BaseException): ...\nraise Own('no')", "Own: no"),
    "mute": ("class Own(Exception):\n    def __str__(self):\n        raise ValueError\nraise Own", "Own: "),
    "cancelled": ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
}
"""What an `except Exception` does not see, and an error that cannot say what it is."""


@pytest.mark.parametrize(("body", "said"), ENDS.values(), ids=ENDS)
def test_an_import_that_exits_is_said(body: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(body)
    (tmp_path / "spec.yaml").write_text("study: x\nimports: [own.py]\n")
    with pytest.raises(ConfigError, match=rf"own\.py raises {said}"):
        plan_study(read_spec(tmp_path / "spec.yaml"), str(tmp_path))


def test_an_interrupt_in_an_import_stays_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise KeyboardInterrupt")
    (tmp_path / "spec.yaml").write_text("study: x\nimports: [own.py]\n")
    with pytest.raises(KeyboardInterrupt):
        plan_study(read_spec(tmp_path / "spec.yaml"), str(tmp_path))


@pytest.mark.parametrize("body", ["raise SystemExit", "def own(trial):\n    raise SystemExit(0)", "raise BaseException"])
def test_a_search_function_that_exits_is_said(body: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(body)
    search = "search: {kind: optuna, trials: 2, function: 'own.py:own'}\n"
    (tmp_path / "spec.yaml").write_text(f"study: x\ntrial: {{data: {{name: synthetic, train_size: 60, validation_size: 30}}}}\n{search}")
    with pytest.raises(ConfigError, match=r"raises (SystemExit|BaseException)"):
        plan_study(read_spec(tmp_path / "spec.yaml"), str(tmp_path))


@pytest.mark.parametrize(
    "data", [{"dimension": 10**12}, {"dimension": 2**63 - 1}, {"dimension": 10**6}, {"classes": 10**8}, {"classes": 10**12}], ids=str
)
def test_a_synthetic_set_that_no_memory_holds_is_said(data: dict[str, int], tmp_path: Path) -> None:
    spec = understand({"study": "x", "trial": {"data": {"name": "synthetic", "train_size": 60, **data}}})
    with pytest.raises(ConfigError, match=f"data.{next(iter(data))} is "):
        plan_study(spec, str(tmp_path))
