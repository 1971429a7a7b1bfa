"""Conditions on headers, written by people: read as data, never run as code."""

from __future__ import annotations

import ast
import datetime
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from daskcal.errors import ConfigError, nearest

Value = Any  # a header value; None where the frame has none
Row = Mapping[str, Value]
Term = Callable[[Row], Value]

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_HINTS: dict[type[ast.AST], str] = {
    ast.Call: "functions cannot be called",
    ast.Attribute: "attributes ('.') are not allowed",
    ast.Subscript: "indexing ('[...]') is not allowed",
    ast.BinOp: "use 'and' and 'or', and only + - * / between numbers",
    ast.NamedExpr: "use '==' to compare",
}
_MAX_LENGTH, _MAX_NODES = 2000, 600  # so that nesting stays far from the recursion limit


class Query:
    """A condition that has been read: the names it uses, and whether a frame fits.

    Attributes
    ----------
    text : str
        As written.
    names : tuple of str
        Names it uses: header keywords in upper case, normalised names in lower case.
    """

    def __init__(self, text: str, names: tuple[str, ...], term: Term) -> None:
        self.text, self.names, self._term = text, names, term

    def fits(self, row: Row) -> bool:
        """Whether a frame's values fit; a value that it lacks (None) neither fits nor excludes.

        As in SQL: a comparison with an absent value is unknown, and what is unknown does not fit.
        """
        return self._term(row) is True


def parse_query(text: str) -> Query:
    """Read a condition such as ``OBSTYPE == 'DARK' and EXPTIME == 0``.

    Comparisons, ``and``, ``or``, ``not``, ``in`` (a list, or a part of a text), arithmetic,
    numbers, quoted texts and names; nothing else, so that a config cannot run code.

    Raises
    ------
    ConfigError
        Not such a condition.
    """
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"condition of {len(text)} characters; at most {_MAX_LENGTH} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        says = getattr(error, "msg", "") or "not a condition"
        hint = " (use '==' to compare)" if _assigns(text) else ""
        raise ConfigError(f"cannot read the condition {text!r}: {says}{hint}") from None
    nodes = list(ast.walk(tree))
    if len(nodes) > _MAX_NODES:
        raise ConfigError(f"the condition {text[:60]!r}... has too many terms")
    if not isinstance(tree, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Name, ast.Constant)):
        raise _refused(text, tree)
    names = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name))
    return Query(text, tuple(names), _truth(tree, text))


def query_mask(table: Any, query: Query) -> np.ndarray:
    """Rows of a frame table (a `pandas.DataFrame`) that fit a condition, as a bool array.

    Raises
    ------
    ConfigError
        The condition names a keyword that no frame has.
    """
    if not len(table):
        return np.zeros(0, bool)
    columns = [_column(table, name, query.text) for name in query.names]
    rows = (dict(zip(query.names, values, strict=True)) for values in zip(*columns, strict=True))
    if not columns:
        return np.full(len(table), query.fits({}))
    return np.fromiter((query.fits(row) for row in rows), bool, len(table))


def _column(table: Any, name: str, text: str) -> Sequence[Value]:
    """Values of a name, None where missing; a raw keyword's empty text is missing too."""
    raw = name not in table.columns
    label = f"hdr_{name.lower()}" if raw and name == name.upper() else name
    if label not in table.columns:
        words = [str(c) for c in table.columns]
        headers = [w.removeprefix("hdr_").upper() for w in words if w.startswith("hdr_")]
        known = headers if name == name.upper() else [w for w in words if not w.startswith("hdr_")]
        what = "header keyword" if name == name.upper() else "name"
        hint = nearest(name, known)
        hint = hint if hint.startswith("did you mean") else "no frame has it"
        raise ConfigError(f"condition {text!r}: unknown {what} {name!r}; {hint}")
    return [_clean(value, raw) for value in table[label].tolist()]


def _clean(value: Any, raw: bool) -> Value:
    if isinstance(value, str):
        value = value.rstrip()
        return None if raw and not value else value
    if isinstance(value, datetime.datetime):  # as pandas gives times; a NaT differs from itself
        return np.datetime64(value, "us") if value == value else None
    if isinstance(value, (bool, int)):
        return value
    return value if isinstance(value, float) and not math.isnan(value) else None


def _truth(node: ast.expr, text: str) -> Term:
    """A term that is True, False or None (unknown)."""
    if isinstance(node, ast.BoolOp):
        parts = [_truth(part, text) for part in node.values]
        return _all(parts) if isinstance(node.op, ast.And) else _any(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _truth(node.operand, text)
        return lambda row: None if (known := inner(row)) is None else not known
    if isinstance(node, ast.Compare):
        if any(isinstance(operation, (ast.Is, ast.IsNot)) for operation in node.ops):
            raise ConfigError(f"condition {text!r}: use '==' or '!=' instead of 'is'")
        return _comparison(node, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        constant = node.value
        return lambda row: constant
    if isinstance(node, ast.Name):  # a header's T or F
        name = node.id
        return lambda row: _as_bool(row[name])
    raise _refused(text, node)


def _all(parts: list[Term]) -> Term:
    def term(row: Row) -> Value:
        found = [part(row) for part in parts]
        return False if False in found else None if None in found else True

    return term


def _any(parts: list[Term]) -> Term:
    def term(row: Row) -> Value:
        found = [part(row) for part in parts]
        return True if True in found else None if None in found else False

    return term


def _comparison(node: ast.Compare, text: str) -> Term:
    operands = [node.left, *node.comparators]
    terms = [_value(operand, text) for operand in operands]
    pairs = [
        _pair(left, operation, right)
        for left, operation, right in zip(terms, node.ops, terms[1:], strict=False)
    ]
    return _all(pairs) if len(pairs) > 1 else pairs[0]


def _pair(left: Term, operation: ast.cmpop, right: Term) -> Term:
    if isinstance(operation, (ast.In, ast.NotIn)):
        wanted = isinstance(operation, ast.In)
        return lambda row: (
            None if (found := _within(left(row), right(row))) is None else (found is wanted)
        )
    compare = _COMPARE[type(operation)]
    return lambda row: _compared(compare, left(row), right(row))


def _compared(compare: Callable[[Any, Any], bool], left: Value, right: Value) -> bool | None:
    if left is None or right is None:
        return None
    left, right = _alike(left, right)
    try:
        return bool(compare(left, right))
    except TypeError:  # a text against a number: never ordered
        return None


def _alike(left: Value, right: Value) -> tuple[Value, Value]:
    """Bring a text to the other side's type: headers hold numbers as text ('40'), dates too."""
    if isinstance(left, str) != isinstance(right, str):
        kind = right if isinstance(left, str) else left
        left, right = (_as_kind(v, kind) if isinstance(v, str) else v for v in (left, right))
    return left, right


def _as_bool(value: Value) -> bool | None:
    """A header's T or F, which is text where some frames lack the card; None for anything else."""
    return (
        {"T": True, "F": False}.get(value)
        if isinstance(value, str)
        else (value if isinstance(value, bool) else None)
    )


def _as_kind(text: str, kind: Value) -> Value:
    if isinstance(kind, bool):
        known = _as_bool(text)
        return text if known is None else known
    try:
        return np.datetime64(text) if isinstance(kind, np.datetime64) else float(text)
    except ValueError:
        return text


def _within(left: Value, right: Value) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(right, str):
        return left in right if isinstance(left, str) else None
    if not isinstance(right, tuple):
        return None
    return any(_compared(operator.eq, left, item) for item in right)


def _value(node: ast.expr, text: str) -> Term:
    """A term that is a header value, a number, a text or a list of those."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        constant = node.value
        return lambda row: constant
    if isinstance(node, ast.Name):
        name = node.id
        return lambda row: row[name]
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item, text) for item in node.elts]
        return lambda row: tuple(item(row) for item in items)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, text)
        return lambda row: _computed(operator.sub, 0, inner(row))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        compute = _ARITHMETIC[type(node.op)]
        left, right = _value(node.left, text), _value(node.right, text)
        return lambda row: _computed(compute, left(row), right(row))
    raise _refused(text, node)


def _computed(compute: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    """Arithmetic between numbers; anything else, and a division by 0, is unknown."""
    pair = [_as_kind(v, 0.0) if isinstance(v, str) else v for v in (left, right)]
    if not all(isinstance(v, (int, float)) for v in pair):
        return None
    try:
        return compute(*pair)
    except (ZeroDivisionError, OverflowError):
        return None


def _assigns(text: str) -> bool:
    bare = text.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", "")
    return "=" in bare


def _refused(text: str, node: ast.expr) -> ConfigError:
    part = ast.get_source_segment(text.strip(), node) or text
    hint = _HINTS.get(type(node), "compare keywords with numbers or quoted texts")
    return ConfigError(f"condition {text!r}: {part!r} is not allowed here; {hint}")
