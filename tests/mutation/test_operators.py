"""Every operator on a line of code, what is left alone, and that a mutant is the edit it says it is."""

import ast

import pytest
from operators import OPERATORS, enumerate_mutants, mutated_tree
from runner import is_argued, mutants_of, read_equivalent, subject
from selection import modules


def edits(source: str, operator: str) -> set[str]:
    """The statements that one operator makes of the source."""
    return {m.after for m in enumerate_mutants("m.py", source) if m.operator == operator}


@pytest.mark.parametrize(
    ("operator", "source", "expected"),
    [
        ("arithmetic", "x = a + b", {"x = a - b"}),
        ("arithmetic", "x = a ** b", {"x = a * b"}),
        ("arithmetic", "x = -a", {"x = a"}),
        ("arithmetic", "x -= a", {"x += a"}),
        ("arithmetic", "x = u & v", {"x = u | v"}),
        ("constant", "x = 3 * a", {"x = 4 * a", "x = 0 * a"}),
        ("constant", "x = 2.0 * a", {"x = 3.0 * a", "x = 0.0 * a", "x = 1.0 * a"}),
        ("constant", "x = a[0]", {"x = a[1]"}),
        ("ddof", "x = a.var(ddof=1)", {"x = a.var(ddof=0)"}),
        ("ddof", "x = a.sum(axis=0)", {"x = a.sum(axis=1)"}),
        ("comparison", "x = a < b", {"x = a <= b", "x = a >= b"}),
        ("comparison", "x = 0 < a == b", {"x = 0 <= a == b", "x = 0 >= a == b", "x = 0 < a != b"}),
        ("comparison", "x = a is None", {"x = a is not None"}),
        ("term", "x = a + b", {"x = a", "x = b"}),
        ("term", "x = a - b", {"x = a", "x = -b"}),
        ("term", "x = a / b", {"x = a", "x = 1.0 / b"}),
        ("term", "x = 1 / b", {"x = 1"}),
        ("exchange", "def f(var_t, var_e):\n    return var_t", {"return var_e"}),
        ("exchange", "def f(bt, be, kt):\n    return bt + kt", {"return be + kt"}),
        ("exchange", "x = f(a, b, c)", {"x = f(b, a, c)", "x = f(a, c, b)"}),
        ("exchange", "x = np.maximum(a, b)", set()),
        ("exchange", "y = s.bias_t_sq\nx = s.bias_e_sq", {"y = s.bias_e_sq", "x = s.bias_t_sq"}),
        ("negation", "x = not a", {"x = a"}),
        ("negation", "x = ~a", {"x = a"}),
        ("connective", "x = a and b", {"x = a or b"}),
        ("extremum", "x = np.maximum(a, b)", {"x = np.minimum(a, b)"}),
        ("extremum", "x = max(a, b)", {"x = min(a, b)"}),
        ("extremum", "x = a.any()", {"x = a.all()"}),
        ("check", "if a:\n    raise ValueError(f'{a + 1} {a < 2}')", {"pass"}),
        ("check", "verify(a)", {"pass"}),
        ("check", "x = positive(a=a)", {"x = finite(a=a)"}),
        ("condition", "if a:\n    x = 1", {"if True:", "if False:"}),
        ("condition", "x = np.where(a, b, c)", {"x = np.where(True, b, c)", "x = np.where(False, b, c)"}),
        ("condition", "while a:\n    x = 1", {"while False:"}),
        ("slices", "x = a[1:]", {"x = a[1 + 1:]", "x = a[1 - 1:]"}),
    ],
)
def test_an_operator_makes_these_edits(operator, source, expected):
    """Catches an operator that does nothing, or does something else."""
    assert edits(source, operator) == expected


def test_every_operator_is_tried_above():
    """Catches an operator added without an example."""
    tried = {
        mark.args[1][i][0] for mark in test_an_operator_makes_these_edits.pytestmark for i in range(len(mark.args[1]))
    }
    assert tried == {operator.__name__ for operator in OPERATORS}


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring with a < b."""',
        "TOLERANCE = 1e-12",
        "__all__ = ['a', 'b']",
        "from a import b, c",
        "def f(x: A | B = None) -> C | D:\n    'Doc.'",
        "x = 'a + b'",
        "@decorated(2)\nclass A:\n    y: Array[2]",
        "x = solve(a, rtol=1e-12, keepdims=1)",
        "x = f(*a, b)",
    ],
)
def test_these_are_left_alone(source):
    """Catches edits of words, types, tolerances and imports, none of which a numerical test should see."""
    assert enumerate_mutants("m.py", source) == []


def test_message_of_an_error_is_left_alone():
    """Catches mutants that only change what is said."""
    found = enumerate_mutants("m.py", "if a:\n    raise ValueError(f'{a + 1} of {b < 2}')")
    assert {m.operator for m in found} == {"check", "condition"}


SOURCE = '''"""Doc."""
from bvpo_analysis.theory.arguments import positive

def weight(error_t, error_e):
    """error_e / (error_t + error_e)."""
    error_t, error_e = positive(error_t=error_t, error_e=error_e)
    if error_t == error_e:
        return 0.5
    return error_e / (error_t + error_e)
'''


def test_a_mutant_is_one_edit_of_the_tree():
    """Catches a replacement put at another node, and mutants that equal the source or each other."""
    found = enumerate_mutants("m.py", SOURCE)
    texts = [ast.unparse(mutated_tree(SOURCE, mutant)) for mutant in found]
    original = ast.unparse(ast.parse(SOURCE))
    assert len(set(texts)) == len(found) > 15
    for mutant, text in zip(found, texts, strict=True):
        before, after = set(original.splitlines()), set(text.splitlines())
        # Leaving a check out may also bring the import of the weaker one.
        assert 1 <= len(after - before) <= 2
        assert mutant.after in text
        assert mutant.before in original
        assert mutant.function == "weight"
    assert any(
        "positive, finite" in text and "= finite(" in text
        for mutant, text in zip(found, texts, strict=True)
        if mutant.operator == "check"
    )


def test_a_mutant_of_another_source_is_refused():
    """Catches a stale position applied to code that has moved."""
    mutant = enumerate_mutants("m.py", SOURCE)[-1]
    with pytest.raises(ValueError, match="no such mutant in this source"):
        mutated_tree("x = 1 + y\n", mutant)


def test_every_argued_mutant_exists_and_has_a_reason():
    """Catches arguments about code that has changed since, and lines listed twice."""
    argued = read_equivalent()
    names = sorted({e.module for e in argued})
    assert set(names) <= set(modules())
    existing = [m for mutants in mutants_of(map(subject, names)).values() for m in mutants]
    for each in argued:
        assert any(is_argued(mutant, [each]) for mutant in existing), each
        assert len(each.reason) > 20, each
    keys = [(e.module, e.before, e.after) for e in argued]
    assert len(set(keys)) == len(keys)
