"""Bounds under PL and strong convexity on single inputs: worked values, extremal quadratics, bad inputs."""

import numpy as np
import pytest

from bvpo_analysis.theory import strongly_convex

PL = {
    "initial_gap": 3.0,
    "steps": 4,
    "step_size": 0.5,
    "smoothness": 2.0,
    "pl_constant": 0.25,
    "bias_bound": 0.6,
    "noise_var": 1.4,
}
DECREASING = {**{k: v for k, v in PL.items() if k != "step_size"}, "offset": 20.0}
DISTANCE = {
    "initial_distance": 3.0,
    "steps": 4,
    "step_size": 0.5,
    "smoothness": 2.0,
    "strong_convexity": 0.25,
    "bias_bound": 0.6,
}
WORST = {"initial_gap": 3.0, "steps": 4, "step_size": 0.5, "strong_convexity": 0.25, "bias_bound": 0.6}
CALLS = [
    (strongly_convex.pl_bound, PL),
    (strongly_convex.pl_floor, {k: v for k, v in PL.items() if k not in ("initial_gap", "steps")}),
    (strongly_convex.pl_decreasing_bound, DECREASING),
    (strongly_convex.distance_bound, DISTANCE),
    (strongly_convex.worst_excess_loss_at_least, WORST),
]


def test_pl_is_its_recursion():
    """Catches a wrong power or floor: E F+ <= (1 - eta m) F + (eta/2)(zeta^2 + kappa sigma^2), step by step."""
    gap = 3.0
    for steps in range(6):
        assert float(strongly_convex.pl_bound(**{**PL, "steps": steps})) == pytest.approx(gap, rel=1e-12)
        gap = (1 - 0.5 * 0.25) * gap + 0.25 * (0.36 + 1.0 * 1.4)


def test_decreasing_steps_bound_their_recursion():
    """Catches a wrong offset: the one-step inequality iterated with eta_j = 2/(m(j + g)) stays below, and close."""
    etas = strongly_convex.pl_decreasing_steps(steps=300, smoothness=2.0, pl_constant=0.25, offset=20.0)
    assert etas[0] == pytest.approx(2 / (0.25 * 20))
    gap = 3.0
    for j, eta in enumerate(etas, start=1):
        gap = (1 - eta * 0.25) * gap + eta / 2 * (0.36 + 2 * eta * 1.4)
        bound = float(strongly_convex.pl_decreasing_bound(**{**DECREASING, "steps": j}))
        assert gap <= bound * (1 + 1e-12)
    assert bound <= gap * 1.05


def test_decreasing_steps_without_noise_are_their_recursion():
    """Catches a floor with the wrong weight, on both sides of it: without noise the bound is an equality."""
    for start in (0.01, 3.0):
        gap, law = start, {**DECREASING, "initial_gap": start, "noise_var": 0.0}
        for j in range(1, 20):
            gap = (1 - 2 / (j - 1 + 20.0)) * gap + 1 / (0.25 * (j - 1 + 20.0)) * 0.36
            assert float(strongly_convex.pl_decreasing_bound(**{**law, "steps": j})) == pytest.approx(gap, rel=1e-12)


def test_decreasing_steps_leave_the_bias_floor():
    """Catches a bound that vanishes: zeta^2/(2m) stays, whatever the noise."""
    floor = 0.36 / 0.5
    value = strongly_convex.pl_decreasing_bound(**{**DECREASING, "steps": 1e9})
    assert float(value) == pytest.approx(floor, rel=1e-6)


def test_the_floor_of_the_bias_is_attained():
    """Catches a factor 2: (m/2) x^2 with a constant bias settles at b/m, b^2/(2m) above the minimum."""
    m, b, x = 0.25, 0.6, 5.0
    for _ in range(1000):
        x -= 0.5 * (m * x + b)
    floor = strongly_convex.pl_floor(step_size=0.5, smoothness=2.0, pl_constant=m, bias_bound=b, noise_var=0.0)
    assert m / 2 * x**2 == pytest.approx(float(floor), rel=1e-12)


def test_distance_is_attained():
    """Catches rho^T for 1 - rho^T: on (m/2) x^2 with the bias pointing away the bound is the iterate."""
    x = 3.0
    for steps in range(8):
        assert float(strongly_convex.distance_bound(**{**DISTANCE, "steps": steps})) == pytest.approx(x, rel=1e-12)
        x -= 0.5 * (0.25 * x - 0.6)


def test_the_worst_loss_is_that_of_a_quadratic():
    """Catches a cross term lost in the square."""
    x = np.sqrt(2 * 3.0 / 0.25)
    for steps in range(8):
        value = strongly_convex.worst_excess_loss_at_least(**{**WORST, "steps": steps})
        assert float(value) == pytest.approx(0.25 / 2 * x**2, rel=1e-12)
        x -= 0.5 * (0.25 * x - 0.6)


def test_small_rates_do_not_cancel():
    """Catches 1 - (1 - r)^T by subtraction: with r = 1e-18 it would be zero."""
    law = {**PL, "initial_gap": 0.0, "smoothness": 1.0, "step_size": 1e-18, "pl_constant": 1.0, "steps": 10}
    assert float(strongly_convex.pl_bound(**law)) == pytest.approx(10e-18 * 0.36 / 2, rel=1e-9, abs=0)


def test_rate_one_forgets_everything_in_one_step():
    """Catches log(0): eta m = 1."""
    law = {**PL, "pl_constant": 2.0}
    values = strongly_convex.pl_bound(**{**law, "steps": [0, 1, 2]})
    np.testing.assert_allclose(values, [3.0, 1.76 / 4, 1.76 / 4], rtol=1e-12)


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    for bound, arguments in CALLS:
        grid = {**arguments, "bias_bound": np.array([[0.1], [0.6]]), "step_size": np.array([0.1, 0.3, 0.5])}
        if bound is strongly_convex.pl_decreasing_bound:
            grid = {**arguments, "bias_bound": np.array([[0.1], [0.6]]), "offset": np.array([40.0, 30.0, 20.0])}
        values = bound(**grid)
        assert values.shape == (2, 3)
        assert values[1, 2] == pytest.approx(float(bound(**arguments)), rel=1e-12)
    steps = strongly_convex.pl_decreasing_steps(steps=5, smoothness=1.0, pl_constant=[0.5, 1.0], offset=[4.0, 2.0])
    np.testing.assert_allclose(steps, [4 / (np.arange(5) + 4), 2 / (np.arange(5) + 2)])


@pytest.mark.parametrize(
    ("bound", "arguments", "change", "message"),
    [
        (strongly_convex.pl_bound, PL, {"step_size": 0.6}, "step_size must be at most 1 / smoothness = 0.5"),
        (strongly_convex.pl_bound, PL, {"pl_constant": 2.1}, "pl_constant must be at most smoothness = 2"),
        (
            strongly_convex.pl_decreasing_bound,
            DECREASING,
            {"offset": 15.0},
            "2 . smoothness / pl_constant must be at most offset = 15, got 16",
        ),
        (strongly_convex.pl_decreasing_bound, DECREASING, {"pl_constant": 3.0}, "pl_constant must be at most"),
        (strongly_convex.pl_decreasing_bound, DECREASING, {"steps": 0}, "steps must be at least 1"),
        (strongly_convex.distance_bound, DISTANCE, {"step_size": 0.9}, "step_size must be at most 2 / "),
        (strongly_convex.distance_bound, DISTANCE, {"strong_convexity": 2.1}, "strong_convexity must be at most"),
        (strongly_convex.worst_excess_loss_at_least, WORST, {"step_size": 4.1}, "step_size must be at most 1 / strong"),
    ],
)
def test_outside_their_conditions_bounds_raise(bound, arguments, change, message):
    """Catches a bound quoted where it does not hold."""
    with pytest.raises(ValueError, match=message):
        bound(**{**arguments, **change})


@pytest.mark.parametrize(("bound", "arguments"), CALLS, ids=[f.__name__ for f, _ in CALLS])
def test_bad_numbers_raise_by_name(bound, arguments):
    """Catches NaN, infinity and negative sizes that come out as a number."""
    for name in arguments:
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match=f"^{name} must be finite"):
                bound(**{**arguments, name: bad})
        with pytest.raises(ValueError, match=f"^{name} must"):
            bound(**{**arguments, name: -1.0})
