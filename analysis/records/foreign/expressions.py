"""A small language over column names: numbers, + - * / ( ), sqrt and log. It is parsed, and nothing of it is ever run as Python."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError

Numbers = NDArray[np.float64]
_LONGEST = 500
_PLACEHOLDER = "_column_{}_"
_OPERATORS: dict[type[ast.AST], Callable[..., Numbers]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
}
_FUNCTIONS: dict[str, Callable[[Numbers], Numbers]] = {"sqrt": np.sqrt, "log": np.log}
_RULES = "it may hold names of columns, numbers, + - * / ( ), sqrt and log; other names stand in backquotes, such as 1 - `val/acc`"


@dataclass(frozen=True)
class Expression:
    """What a column is computed from; ``names`` are the columns that it reads."""

    text: str
    names: tuple[str, ...]
    _tree: ast.expr
    _quoted: Mapping[str, str]

    @property
    def is_name(self) -> bool:
        """Whether it is a column as it stands: that may hold texts."""
        return isinstance(self._tree, ast.Name | ast.Attribute)

    def value(self, column: Callable[[str], Numbers], count: int) -> Numbers:
        """Its value for each of ``count`` runs."""
        with np.errstate(all="ignore"):  # a division by zero is a NaN or an infinity, and judged as the value of its run
            return np.broadcast_to(self._value(self._tree, column), count).astype(float)

    def _value(self, node: ast.AST, column: Callable[[str], Numbers]) -> Numbers:
        match node:
            case ast.Constant(value=int() | float() as value):
                return np.array(value, float)
            case ast.BinOp(left=left, op=operator, right=right):
                return _OPERATORS[type(operator)](self._value(left, column), self._value(right, column))
            case ast.UnaryOp(op=operator, operand=operand):
                return _OPERATORS[type(operator)](self._value(operand, column))
            case ast.Call(func=ast.Name(id=function), args=[argument]):
                return _FUNCTIONS[function](self._value(argument, column))
        return column(_name(node, self._quoted))

    def in_percent(self) -> str:
        """The same expression if its columns were in percent, which here are fractions."""

        class Hundredth(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.AST:
                return ast.BinOp(node, ast.Div(), ast.Constant(100))

            def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
                return ast.BinOp(node, ast.Div(), ast.Constant(100))

            def visit_Call(self, node: ast.Call) -> ast.AST:
                return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])

        tree = Hundredth().visit(ast.parse(ast.unparse(self._tree), mode="eval"))
        text = ast.unparse(ast.fix_missing_locations(tree))
        for placeholder, name in self._quoted.items():
            text = re.sub(rf"\b{placeholder}\b", lambda _, name=name: as_name(name), text)  # type: ignore[misc]
        return text


def parse(text: str, known: Container[str] = ()) -> Expression:
    """An expression.

    Args:
        text: such as ``1 - val_acc / 100`` or ``sqrt(`config/width`)``; the name of a column as it stands, whatever it holds.
        known: names of columns: a text that is one of them is that column.

    Raises:
        AnalysisError: the text is none.
    """
    quoted: dict[str, str] = {}

    def placeholder(name: str) -> str:
        here = _PLACEHOLDER.format(len(quoted))
        quoted[here] = name
        return here

    plain = text.strip()
    if plain in known:
        return Expression(plain, (plain,), ast.Name(placeholder(plain)), quoted)
    if len(plain) > _LONGEST:
        raise _wrong(plain[:50] + "...", "it is too long")
    python = re.sub(r"`([^`]+)`", lambda match: placeholder(match[1]), plain)
    if re.search(r"\b_column_\d+_\b", plain):
        raise _wrong(plain, "such a name stands in backquotes")
    try:
        tree = ast.parse(python, mode="eval").body
        names = tuple(dict.fromkeys(_names(tree, quoted, plain)))
    except AnalysisError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _wrong(plain, "it cannot be read") from None
    return Expression(plain, names, tree, quoted)


def as_name(name: str) -> str:
    """A column's name as an expression has it."""
    return name if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name) and not _is_word(name) else f"`{name}`"


def _is_word(name: str) -> bool:
    import keyword

    return any(keyword.iskeyword(part) or part in _FUNCTIONS for part in name.split("."))


def _names(node: ast.AST, quoted: Mapping[str, str], text: str) -> list[str]:
    """The names of columns below a node, all of which is checked."""
    match node:
        case ast.Constant(value=bool()):
            raise _wrong(text, "true and false are no numbers")
        case ast.Constant(value=int() | float() as value):
            if not math.isfinite(value) or abs(value) > 1e300:
                raise _wrong(text, f"{value} is too large")
            return []
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _names(left, quoted, text) + _names(right, quoted, text)
        case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _OPERATORS:
            return _names(operand, quoted, text)
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if function in _FUNCTIONS:
            return _names(argument, quoted, text)
        case ast.Name() | ast.Attribute():
            return [_name(node, quoted, text)]
    raise _wrong(text, f"{ast.unparse(node)!r} is not allowed")


def _name(node: ast.AST, quoted: Mapping[str, str], text: str = "") -> str:
    """A name, or names joined by dots."""
    match node:
        case ast.Name(id=name):
            return quoted.get(name, name)
        case ast.Attribute(value=value, attr=last):
            return f"{_name(value, quoted, text)}.{last}"
    raise _wrong(text, f"{ast.unparse(node)!r} is not allowed")


def _wrong(text: str, why: str) -> AnalysisError:
    return AnalysisError(f"{text!r} is no expression over columns: {why}; {_RULES}")
