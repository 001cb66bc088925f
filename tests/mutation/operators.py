"""Small wrong edits of numerical code: every mutant of a module, enumerated from its syntax tree.

A mutant replaces one node. ``before`` and ``after`` are the simple statement, or the head of the compound statement,
that holds the node (of a long statement, the largest part that is short enough to read), so that a mutant reads as an
edit and keeps its name when lines move.

Never mutated: docstrings and all other strings, annotations, imports, decorators, ``__all__``, what a ``raise`` says,
module constants (ALL_CAPS names bound to a literal, such as tolerances), and arguments that steer a solver or an array
layout (``NOT_MUTATED``).
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NOT_MUTATED = {
    "rtol",
    "atol",
    "xtol",
    "ftol",
    "gtol",
    "tol",
    "rcond",
    "maxiter",
    "method",
    "dtype",
    "strict",
    "keepdims",
}
"""Keyword arguments whose values are left alone: a tolerance one step looser is not a different formula."""

ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
BITWISE = {ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
NEGATION = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPPOSITE = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmin": "argmax",
    "argmax": "argmin",
    "any": "all",
    "all": "any",
}
SYMMETRIC = {
    "maximum",
    "minimum",
    "max",
    "min",
    "isclose",
    "allclose",
    "array_equal",
    "logaddexp",
    "hypot",
    "where",
    "zip",
}
"""Functions whose first two arguments are not exchanged: nothing changes, or other operators cover it."""

READABLE = 120
"""Longest text of a statement that is shown whole."""

CHECKS = {"nonnegative", "positive", "unit_interval", "counts"}
"""Checks of ``theory.arguments`` that are weakened to ``finite``."""


@dataclass(frozen=True)
class Mutant:
    """One wrong edit.

    Attributes:
        module: path of the module below the package, such as ``theory/mixing.py``.
        function: qualified name of the function or class that holds it; empty at module level.
        operator: name of the operator.
        line: line of the node in the source.
        before, after: the statement, or a readable part of it, before and after.
        node: position of the node in ``ast.walk`` order; ``rank`` numbers the replacements of that node.
    """

    module: str
    function: str
    operator: str
    line: int
    before: str
    after: str
    node: int
    rank: int

    @property
    def name(self) -> str:
        return f"{self.module}:{self.line} [{self.operator}] {self.before}  ->  {self.after}"


@dataclass
class _Place:
    """A node with what an operator may look at; ``top`` is the statement of the module it belongs to."""

    node: ast.AST
    parent: ast.AST
    field: str
    names: frozenset[str]
    keyword: str | None
    top: int


Operator = Callable[[_Place], Iterator[ast.AST]]


def _new(node: ast.AST, **changes: object) -> ast.AST:
    """A copy of the node with other fields."""
    fresh = copy.deepcopy(node)
    for name, value in changes.items():
        setattr(fresh, name, value)
    return fresh


def arithmetic(place: _Place) -> Iterator[ast.AST]:
    """+ for -, * for /, ** for *, & for |, and a sign removed."""
    node = place.node
    if isinstance(node, ast.BinOp | ast.AugAssign):
        other = (ARITHMETIC | BITWISE).get(type(node.op))
        if other is not None:
            yield _new(node, op=other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not _is_number(node.operand):
        yield node.operand


def constant(place: _Place) -> Iterator[ast.AST]:
    """n for n + 1, for 0 and, if n = 2, for 1; in a slice it is ``slices`` that acts, at ``ddof`` it is ``ddof``."""
    node = place.node
    if not isinstance(node, ast.Constant) or type(node.value) not in (int, float) or place.keyword in ("ddof", "axis"):
        return
    if isinstance(place.parent, ast.Slice):
        return
    value = node.value
    for other in dict.fromkeys([value + 1, type(value)(0), *([type(value)(1)] if value == 2 else [])]):
        if other != value:
            yield _new(node, value=other)


def ddof(place: _Place) -> Iterator[ast.AST]:
    """ddof and axis: 1 for 0 and 0 for 1."""
    node = place.node
    if place.keyword in ("ddof", "axis") and isinstance(node, ast.Constant) and node.value in (0, 1):
        yield _new(node, value=1 - node.value)


def comparison(place: _Place) -> Iterator[ast.AST]:
    """The boundary moved (< for <=) and the sense turned round (< for >=)."""
    node = place.node
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for table in (BOUNDARY, NEGATION):
                if type(op) in table:
                    yield _new(node, ops=[*node.ops[:i], table[type(op)](), *node.ops[i + 1 :]])


def term(place: _Place) -> Iterator[ast.AST]:
    """One term of a sum or one factor of a product left out; a - b also becomes -b."""
    node = place.node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        yield node.left
        if isinstance(node.op, ast.Sub):
            yield ast.copy_location(ast.UnaryOp(ast.USub(), node.right), node)
        elif isinstance(node.op, ast.Div):
            if not (isinstance(node.left, ast.Constant) and node.left.value == 1):
                yield ast.copy_location(ast.BinOp(ast.Constant(1.0), ast.Div(), node.right), node)
        else:
            yield node.right


def exchange(place: _Place) -> Iterator[ast.AST]:
    """A name of g_t for its counterpart of g_e, or two neighbouring positional arguments exchanged."""
    node = place.node
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        other = _counterpart(node.id)
        if other in place.names:
            yield _new(node, id=other)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        other = _counterpart(node.attr)
        if "." + other in place.names:
            yield _new(node, attr=other)
    elif isinstance(node, ast.Call) and _called(node) not in SYMMETRIC:
        args = node.args
        for i in range(len(args) - 1):
            plain = not any(isinstance(a, ast.Starred) for a in args[i : i + 2])
            if plain and ast.dump(args[i]) != ast.dump(args[i + 1]):
                yield _new(node, args=[*args[:i], args[i + 1], args[i], *args[i + 2 :]])


def negation(place: _Place) -> Iterator[ast.AST]:
    """``not`` and ``~`` removed."""
    node = place.node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield node.operand


def connective(place: _Place) -> Iterator[ast.AST]:
    """``and`` for ``or``."""
    node = place.node
    if isinstance(node, ast.BoolOp):
        yield _new(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def extremum(place: _Place) -> Iterator[ast.AST]:
    """min for max, np.minimum for np.maximum, any for all."""
    node = place.node
    if isinstance(node, ast.Name) and isinstance(place.parent, ast.Call) and node.id in OPPOSITE:
        yield _new(node, id=OPPOSITE[node.id])
    elif isinstance(node, ast.Attribute) and isinstance(place.parent, ast.Call) and node.attr in OPPOSITE:
        yield _new(node, attr=OPPOSITE[node.attr])


def check(place: _Place) -> Iterator[ast.AST]:
    """A ``raise`` or a call made for its checks left out; a check of arguments weakened to ``finite``."""
    node = place.node
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.Name) and place.field == "func" and node.id in CHECKS:
        yield _new(node, id="finite")


def condition(place: _Place) -> Iterator[ast.AST]:
    """A condition that is always true, or always false; a loop that never runs."""
    node, parent = place.node, place.parent
    forced: tuple[bool, ...] = ()
    if place.field == "test" and isinstance(parent, ast.If | ast.IfExp):
        forced = (True, False)
    elif place.field == "test" and isinstance(parent, ast.While):
        forced = (False,)
    elif (
        isinstance(parent, ast.Call) and _called(parent) == "where" and len(parent.args) == 3 and node is parent.args[0]
    ):
        forced = (True, False)
    for value in forced:
        yield ast.copy_location(ast.Constant(value), node)


def slices(place: _Place) -> Iterator[ast.AST]:
    """An end of a slice off by one."""
    node = place.node
    if isinstance(node, ast.Slice):
        for end in ("lower", "upper"):
            value = getattr(node, end)
            if value is not None:
                for op in (ast.Add(), ast.Sub()):
                    yield _new(node, **{end: ast.copy_location(ast.BinOp(value, op, ast.Constant(1)), value)})


OPERATORS: tuple[Operator, ...] = (
    arithmetic,
    constant,
    ddof,
    comparison,
    term,
    exchange,
    negation,
    connective,
    extremum,
    check,
    condition,
    slices,
)


def enumerate_mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module that differ from it and from one another as text."""
    found: dict[tuple[int, str], Mutant] = {}
    tree = ast.parse(source)
    original = [ast.unparse(statement) for statement in tree.body]
    for index, place, shown, function in _places(tree):
        rank = 0
        for operator in OPERATORS:
            for replacement in operator(place):
                before = _head(shown)
                undo = _put(place, replacement)
                try:
                    after = _head(replacement if place.node is shown else shown)
                    text = ast.unparse(ast.fix_missing_locations(tree.body[place.top]))
                finally:
                    undo()
                if text != original[place.top]:
                    line = getattr(place.node, "lineno", shown.lineno)
                    name = operator.__name__
                    found.setdefault(
                        (place.top, text), Mutant(module, function, name, line, before, after, index, rank)
                    )
                rank += 1
    return list(found.values())


def mutated_tree(source: str, mutant: Mutant) -> ast.Module:
    """The syntax tree of the module with this one edit.

    Raises:
        ValueError: the source is not the one the mutant was made from.
    """
    tree = ast.parse(source)
    for index, place, shown, _ in _places(tree):
        if index == mutant.node:
            replacements = [r for operator in OPERATORS for r in operator(place)]
            if mutant.rank >= len(replacements) or _head(shown) != mutant.before:
                break
            _put(place, replacements[mutant.rank])
            if mutant.operator == "check":
                _make_finite_known(tree)
            return ast.fix_missing_locations(tree)
    raise ValueError(f"no such mutant in this source: {mutant.name}")


def _make_finite_known(tree: ast.Module) -> None:
    """Import ``finite`` beside the check it stands in for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "bvpo_analysis.theory.arguments":
            if all(alias.name != "finite" for alias in node.names):
                node.names.append(ast.alias("finite"))
            return


def _put(place: _Place, replacement: ast.AST) -> Callable[[], None]:
    """Replace the node in its parent; returns how to undo it."""
    held = getattr(place.parent, place.field)
    if isinstance(held, list):
        at = next(i for i, item in enumerate(held) if item is place.node)
        held[at] = replacement

        def undo() -> None:
            held[at] = place.node

        return undo
    setattr(place.parent, place.field, replacement)
    return lambda: setattr(place.parent, place.field, place.node)


def _places(tree: ast.Module) -> Iterator[tuple[int, _Place, ast.stmt | ast.expr, str]]:
    """(position, place, what to show of it, function) of every node that may be mutated, in a fixed order."""
    attributes = frozenset("." + node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    fields = frozenset(
        "." + node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    counter = iter(range(10**9))

    def visit(
        node: ast.AST,
        shown: ast.stmt | ast.expr,
        function: str,
        names: frozenset[str],
        keyword: str | None,
        top: int,
    ) -> Iterator[tuple[int, _Place, ast.stmt | ast.expr, str]]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}" if function else node.name
        if isinstance(node, ast.FunctionDef):
            bound = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
            bound |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            names = names | bound
        for field, child in _children(node):
            inner = keyword
            if isinstance(node, ast.keyword):
                inner = node.arg
            elif isinstance(child, ast.Call | ast.stmt):
                inner = None
            if _skipped(node, field, child):
                continue
            here = shown
            if isinstance(child, ast.stmt) or (isinstance(child, ast.expr) and _is_long(shown)):
                here = child
            if inner not in NOT_MUTATED:
                yield next(counter), _Place(child, node, field, names, inner, top), here, function
            yield from visit(child, here, function, names, inner, top)

    for top, statement in enumerate(tree.body):
        if not _skipped(tree, "body", statement):
            place = _Place(statement, tree, "body", attributes | fields, None, top)
            yield next(counter), place, statement, ""
            yield from visit(statement, statement, "", attributes | fields, None, top)


def _is_long(shown: ast.AST) -> bool:
    return len(_head(shown)) > READABLE


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield field, child


def _skipped(parent: ast.AST, field: str, child: ast.AST) -> bool:
    if field in ("annotation", "returns", "decorator_list", "type_params", "bases", "ctx", "op", "ops"):
        return True
    if isinstance(parent, ast.Raise):
        return True
    if isinstance(child, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(child, ast.Constant) and isinstance(child.value, str):
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True
    if isinstance(parent, ast.Module) and isinstance(child, ast.Assign | ast.AnnAssign):
        target = child.targets[0] if isinstance(child, ast.Assign) else child.target
        plain = isinstance(child.value, ast.Constant | ast.UnaryOp)
        return isinstance(target, ast.Name) and (target.id == "__all__" or (target.id.isupper() and plain))
    return False


def _head(statement: ast.AST) -> str:
    """A simple statement, or the first line of a compound one."""
    text = ast.unparse(ast.fix_missing_locations(statement))
    return text if not hasattr(statement, "body") else text.split("\n", 1)[0]


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _counterpart(name: str) -> str:
    """The same name with t and e exchanged: error_t and error_e, bt and be, st and se."""
    words = ["e" if w == "t" else "t" if w == "e" else w for w in name.split("_")]
    if words == name.split("_") and len(name) == 2 and name[1] in "te":
        return name[0] + ("e" if name[1] == "t" else "t")
    return "_".join(words)
