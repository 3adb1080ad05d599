"""The house as a newcomer finds it: small rooms that say what they are for, modules of one idea, one meaning a name, few parameters."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("study", "analysis", "search_spaces", "trainables")
MOST_MODULES = 12
MOST_LINES = 400
MOST_PARAMETERS = 7
MACHINE_CODE = "trainables/engines/kernels.py"
"""Numba compiles its functions, which take arrays and numbers and no objects that would hold them."""


@cache
def modules() -> dict[Path, ast.Module]:
    """Every module of the four packages."""
    return {path: ast.parse(path.read_text()) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(tree: ast.Module) -> set[str]:
    """The functions that a module's `register` adds to the command line: typer takes each option as a parameter."""
    (register,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "register"] or [None]
    return {node.id for node in ast.walk(register) if isinstance(node, ast.Name)} if register else set()


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many its callers hand on: all but ``self`` and the options that are named in a call, and that most calls leave out."""
    arguments = function.args
    needed = [one for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    return len([one for one in (*arguments.posonlyargs, *arguments.args, *needed) if one.arg not in ("self", "cls")])


def test_no_function_takes_more_than_seven_parameters() -> None:
    long = []
    for path, tree in modules().items():
        exempt = commands(tree) if path.is_relative_to(ROOT / "study/cli") else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in exempt and shown(path) != MACHINE_CODE:
                long += [f"{shown(path)}:{node.lineno} {node.name}"] if parameters(node) > MOST_PARAMETERS else []
    assert not long, "give these a context object"


def test_rooms_are_small_and_say_what_they_are_for() -> None:
    rooms: dict[Path, list[str]] = defaultdict(list)
    for path in modules():
        rooms[path.parent].append(path.name)
    full = {shown(room): len(names) for room, names in rooms.items() if len({*names} - {"__init__.py", "__main__.py"}) > MOST_MODULES}
    silent = [shown(room) for room in rooms if not ast.get_docstring(modules()[room / "__init__.py"])]
    assert (full, silent) == ({}, [])


def test_modules_are_of_one_idea() -> None:
    assert not {shown(path): count for path in modules() if (count := len(path.read_text().splitlines())) > MOST_LINES}


def test_a_class_has_its_name_alone() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(shown(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_what_the_readme_draws_is_there() -> None:
    """Each file that the way of one point goes through, and each room of the tree, which is indented by its depth."""
    walk = (ROOT / "README.md").read_text().partition("## How it is built")[2].partition("\n## ")[0]
    named = re.findall(r"\b((?:study|analysis|trainables|search_spaces)/[\w/]+\.py)\b", walk)
    folders: list[str] = []
    for line in walk.splitlines():
        if not line.strip():
            folders = []  # the way of a point is drawn below the tree
        elif (found := re.match(r"    ( *)([\w/]+/)  +\S", line)) and (depth := len(found[1]) // 2) <= len(folders):
            folders[depth:] = [found[2]]
            named.append("".join(folders[: depth + 1]))
    assert len(named) > 40
    assert not [name for name in named if not (ROOT / name).exists()]
