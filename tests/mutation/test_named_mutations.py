"""Mistakes that are easy to make in this field, each made in the package and caught by the properties named for it.

An edit is a replacement of source text that must occur exactly once, so that a change of the code cannot turn this test
into one of nothing. It is applied in a forked process (see ``worker.py``); the working tree is never written.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROPERTIES = HERE.parent / "properties"

MIXING, STEP_SIZE = "theory/mixing.py", "theory/step_size.py"
GIVEN_DATA, POPULATION = "theory/weight_given_data.py", "moments/population.py"

MISTAKES = {
    "cross term dropped": (MIXING, (1, 17), [(" + 2 * alpha * (1 - alpha) * b", "")]),
    "cross term doubled": (MIXING, (1, 17), [(" + 2 * alpha * (1 - alpha) * b", " + 4 * alpha * (1 - alpha) * b")]),
    "(A - B)/D for (C - B)/D": (
        MIXING,
        (2, 9, 22),
        [("optimal_weight_dual(c - b, distance, a + c)", "optimal_weight_dual(a - b, distance, a + c)")],
    ),
    "variance of K traces divided by K": (GIVEN_DATA, (51,), [("total / (count - 1), total", "total / count, total")]),
    "the same from inner products": (POPULATION, (51,), [('k / (k - 1) * mean["t_var"]', 'mean["t_var"]')]),
    "distance divided by K - 1": (GIVEN_DATA, (51,), [("total / count + gap", "total / (count - 1) + gap")]),
    "plug-in squared bias": (GIVEN_DATA, (51,), [("gap - var_t / count", "gap")]),
    "plug-in squared bias of a prompt": (POPULATION, (51,), [('mean["dd"] - tau / k', 'mean["dd"]')]),
    "equal pairs kept in a U-statistic": (
        "moments/ustatistics.py",
        (52,),
        [("total = (x - w).sum()", "total = x.sum()")],
    ),
    "weight clipped before errors are taken": (
        MIXING,
        (2,),
        [("numerator_e / np.where(degenerate, 1.0, distance))", "np.clip(numerator_e / distance, 0, 1))")],
    ),
    "ascent sign": (
        "objectives.py",
        (70,),
        [
            (
                "slope = self.beta * expit(-self.beta * (rho_chosen - rho_rejected))",
                "slope = -self.beta * expit(-self.beta * (rho_chosen - rho_rejected))",
            )
        ],
    ),
    "mean of the weights of prompts": (
        "theory/targets.py",
        (34,),
        [("return optimal_weight_from_distance(top, below, below + abs(top))", "return p @ (1 - n / d) / p.sum()")],
    ),
    "kappa on the bias": (
        STEP_SIZE,
        (21, 26),
        [
            (
                "_distance(bt, be, bi) + kappa * _distance(st, se, ste)",
                "kappa * _distance(bt, be, bi) + _distance(st, se, ste)",
            ),
            ("(bt - bi) + kappa * (st - ste)", "kappa * (bt - bi) + (st - ste)"),
        ],
    ),
    "kappa on the distance as a whole": (
        STEP_SIZE,
        (21,),
        [
            (
                "_distance(bt, be, bi) + kappa * _distance(st, se, ste)",
                "kappa * (_distance(bt, be, bi) + _distance(st, se, ste))",
            )
        ],
    ),
    "sigmoid(m) for sigmoid(-m)": (
        "objectives.py",
        (35,),
        [("expit(-self.beta * (rho_chosen - rho_rejected))", "expit(self.beta * (rho_chosen - rho_rejected))")],
    ),
    "prior for posterior traces": (
        "log_linear.py",
        (36,),
        [
            (
                "joint = self.log_probs(theta)[:, self._known(answer)]",
                "joint = np.logaddexp.reduce(self.log_probs(theta), axis=1)",
            )
        ],
    ),
    "posterior for prior traces": (
        "theory/trace_bias.py",
        (39,),
        [("law.covariance_with(values / evidence)", "np.zeros(len(law.mean))")],
    ),
    "prior of the trace twice in an importance weight": (
        "log_linear.py",
        (71, 72),
        [
            (
                "log_probs[:, self._known(answer)] - np.logaddexp.reduce(log_probs, axis=1)",
                "log_probs[:, self._known(answer)]",
            )
        ],
    ),
    "1/T for 1 - 1/T": ("theory/nonconvex.py", (58, 59), [("(t - 1) / t * (", "1 / t * (")]),
}


def properties_named(number: int) -> list[str]:
    """The property tests of an invariant."""
    found = []
    for path in sorted(PROPERTIES.glob("test_*.py")):
        names = re.findall(
            rf"^def (test_(?:g\d\d_)*g{number:02d}_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        found += [f"tests/properties/{path.name}::{name}" for name in names]
    return found


@pytest.fixture(scope="module")
def server():
    """A process that applies edits and runs tests."""
    command = [sys.executable, str(HERE / "serve.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def ask(server, module, edits, tests):
    """Names of the failed tests."""
    server.stdin.write(json.dumps({"module": module, "edits": edits, "tests": tests}) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    assert "error" not in answer, answer["error"]
    return answer["failed"]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught_by_the_properties_named_for_it(mistake, server):
    """Catches a property that has lost its power over the mistake it was written for."""
    module, numbers, edits = MISTAKES[mistake]
    tests = {number: properties_named(number) for number in numbers}
    assert all(tests.values())
    failed = ask(server, module, edits, [name for names in tests.values() for name in names])
    assert "import" not in failed
    for number in numbers:
        assert any(re.search(rf"::test_(g\d\d_)*g{number:02d}_", name) for name in failed), (
            f"G{number} survives: {mistake}"
        )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_edit_applies_exactly_once(mistake):
    """Catches an edit of text that has changed since, and one of a property that no longer exists."""
    module, numbers, edits = MISTAKES[mistake]
    source = (HERE.parents[1] / "bvpo_analysis" / module).read_text(encoding="utf-8")
    assert [source.count(old) for old, _ in edits] == [1] * len(edits)
    assert all(properties_named(number) for number in numbers)


@pytest.mark.slow
def test_without_a_mistake_nothing_fails(server):
    """Catches verdicts that do not depend on the edit."""
    named = [name for number in (17, 26) for name in properties_named(number)]
    assert ask(server, MIXING, [], named) == []


def test_an_edit_that_does_not_apply_is_an_error(server):
    """Catches a stale edit, which would test the package as it is."""
    with pytest.raises(AssertionError, match=r"0 times in theory/mixing\.py: no such text"):
        ask(server, MIXING, [("no such text", "")], properties_named(1))
