"""The convex bound and its weight on single inputs: the Huber loss, known minimisers, certificates, bad inputs."""

import numpy as np
import pytest

from bvpo_analysis.theory import convex, weighted_optimal_weight

RUN = {
    "initial_distance": 2.0,
    "radius": 3.0,
    "steps": 5,
    "step_size": 0.2,
    "smoothness": 2.0,
    "bias_bound": 0.6,
    "noise_var": 1.4,
}
LAW = {"bias_t_sq": 0.04, "bias_e_sq": 0.25, "bias_inner": 0.06, "var_t": 2.0, "var_e": 0.5, "cov_te": 0.3}


def test_worked_value():
    """Catches a lost factor: 4/2 + 0.6 * 3 + 0.2 * 0.36 + 0.1 * 1.4."""
    assert float(convex.convex_bound(**RUN)) == pytest.approx(2.0 + 1.8 + 0.072 + 0.14)


@pytest.mark.parametrize("zeta", [0.1, 1.0, 10.0])
def test_the_linear_floor_is_real(zeta):
    """Catches a floor in zeta^2: on zeta times the Huber loss the bias -grad f freezes the iterate at distance R."""
    radius, width = 3.0, 0.01
    excess = zeta * (radius - width / 2)
    bound = convex.convex_bound(
        initial_distance=radius,
        radius=radius,
        steps=1e9,
        step_size=width / (2 * zeta),
        smoothness=zeta / width,
        bias_bound=zeta,
        noise_var=0.0,
    )
    assert excess <= float(bound) <= excess * 1.01


def test_without_bias_the_weight_is_that_of_the_variance():
    """Catches a bias term that does not vanish."""
    best = convex.convex_optimal_weight(
        **{**LAW, "bias_t_sq": 0.0, "bias_e_sq": 0.0, "bias_inner": 0.0}, radius=5.0, step_size=0.1
    )
    assert float(best.alpha) == pytest.approx((0.5 - 0.3) / (2.0 + 0.5 - 0.6), abs=1e-8)


def test_without_radius_it_is_the_weight_at_kappa_one_half():
    """Catches S for S/2: with R = 0 the criterion is |b|^2 + S/2."""
    best = convex.convex_optimal_weight(**LAW, radius=0.0, step_size=0.1)
    assert float(best.alpha) == pytest.approx(float(weighted_optimal_weight(**LAW, kappa=0.5)), abs=1e-12)


@pytest.mark.parametrize("radius", [0.0, 0.01, 0.3, 3.0])
@pytest.mark.parametrize("eta", [0.01, 0.5])
def test_no_weight_on_a_grid_is_better(radius, eta):
    """Catches a slope that is not the derivative of the criterion; the certificate is tight."""
    best = convex.convex_optimal_weight(**LAW, radius=radius, step_size=eta)
    alpha = np.linspace(0, 1, 100001)
    bias_sq = alpha**2 * 0.04 + (1 - alpha) ** 2 * 0.25 + 2 * alpha * (1 - alpha) * 0.06
    spread = alpha**2 * 2.0 + (1 - alpha) ** 2 * 0.5 + 2 * alpha * (1 - alpha) * 0.3
    values = np.sqrt(bias_sq) * radius + eta * (bias_sq + spread / 2)
    assert float(best.value) <= values.min() * (1 + 1e-14)
    assert float(best.value) >= values.min() * (1 - 1e-9)
    assert abs(float(best.alpha) - alpha[values.argmin()]) <= 1e-4
    assert float(best.gap) <= 1e-15


def test_a_kink_in_the_interior_is_found():
    """Catches a division by a zero bias: b_t = 1, b_e = -1 cancel at 1/2, and a large radius insists on it."""
    law = {"bias_t_sq": 1.0, "bias_e_sq": 1.0, "bias_inner": -1.0, "var_t": 9.0, "var_e": 0.0, "cov_te": 0.0}
    best = convex.convex_optimal_weight(**law, radius=[0.0, 100.0], step_size=0.1)
    assert best.alpha[0] == pytest.approx(4 / (8 + 9), abs=1e-9)
    assert best.alpha[1] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("swap", "alpha"), [(False, 1.0), (True, 0.0)])
def test_the_better_endpoint_is_returned_exactly(swap, alpha):
    """Catches a weight that stops short of the end of the interval."""
    better, worse = ("e", "t") if swap else ("t", "e")
    law = {f"bias_{better}_sq": 0.0, f"bias_{worse}_sq": 1.0, f"var_{better}": 0.1, f"var_{worse}": 1.0}
    best = convex.convex_optimal_weight(**law, bias_inner=0.0, cov_te=0.1, radius=1.0, step_size=0.1)
    assert float(best.alpha) == alpha


def test_identical_estimators_are_flagged():
    """Catches 0/0: every weight is optimal, 1/2 is returned."""
    law = {"bias_t_sq": 1.0, "bias_e_sq": 1.0, "bias_inner": 1.0, "var_t": 2.0, "var_e": 2.0, "cov_te": 2.0}
    best = convex.convex_optimal_weight(**law, radius=1.0, step_size=0.5)
    assert bool(best.degenerate)
    assert float(best.alpha) == 0.5
    assert float(best.value) == pytest.approx(1.0 + 0.5 * (1.0 + 1.0))


def test_equal_biases_leave_the_variances_to_decide():
    """Catches a test for coinciding estimators that forgets the noise of one of them."""
    law = {"bias_t_sq": 1.0, "bias_e_sq": 1.0, "bias_inner": 1.0, "radius": 1.0, "step_size": 0.1}
    quiet = convex.convex_optimal_weight(**law, var_t=4.0, var_e=0.0, cov_te=0.0)
    assert not bool(quiet.degenerate)
    assert float(quiet.alpha) == pytest.approx(0.0, abs=1e-9)


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    values = convex.convex_bound(**{**RUN, "bias_bound": np.array([[0.0], [0.6]]), "steps": np.array([1, 5, 10])})
    assert values.shape == (2, 3)
    assert values[1, 1] == float(convex.convex_bound(**RUN))
    grid = convex.convex_optimal_weight(**LAW, radius=np.array([[0.1], [1.0]]), step_size=np.array([0.1, 0.2, 0.3]))
    alone = convex.convex_optimal_weight(**LAW, radius=1.0, step_size=0.2)
    assert grid.alpha.shape == grid.gap.shape == (2, 3)
    assert grid.alpha[1, 1] == float(alone.alpha)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.26}, r"step_size must be at most 1 / \(2 smoothness\) = 0.25"),
        ({"radius": 1.9}, "initial_distance must be at most radius"),
        ({"steps": 0}, "steps must be at least 1"),
        *(({name: np.nan}, f"^{name} must be finite") for name in RUN),
        *(({name: -1.0}, f"^{name} must") for name in RUN),
    ],
)
def test_outside_its_conditions_the_bound_raises(change, message):
    """Catches a bound quoted where it does not hold, and bad numbers."""
    with pytest.raises(ValueError, match=message):
        convex.convex_bound(**{**RUN, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_inner": 1.0}, "bias_inner violates Cauchy-Schwarz"),
        ({"cov_te": -1.1}, "cov_te violates Cauchy-Schwarz"),
        ({"var_t": -1.0}, "var_t must not be negative"),
        ({"radius": -1.0}, "radius must not be negative"),
        ({"step_size": 0.0}, "step_size must be positive"),
        *(({name: np.nan}, f"^{name} must be finite") for name in (*LAW, "radius", "step_size")),
    ],
)
def test_bad_moments_raise(change, message):
    """Catches moments of no pair of estimators."""
    with pytest.raises(ValueError, match=message):
        convex.convex_optimal_weight(**{**LAW, "radius": 1.0, "step_size": 0.1, **change})
