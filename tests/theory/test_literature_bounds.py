"""Bounds of the literature on single inputs: special cases, worked values, conditions, and the price of generality."""

import numpy as np
import pytest

from bvpo_analysis.theory import literature_bounds as literature
from bvpo_analysis.theory import nonconvex

RUN = {
    "initial_gap": 1.3,
    "steps": 5,
    "step_size": 0.125,
    "smoothness": 2.0,
    "bias_bound": 0.6,
    "noise_var": 1.4,
}
STEPS = {name: RUN[name] for name in ("initial_gap", "steps", "step_size", "smoothness")}
CONSTANTS = literature.biased_abc_constants(bias_bound=0.6, noise_var=1.4)


def test_without_relative_errors_it_is_theorem_3():
    """Catches a lost factor."""
    assert float(literature.relative_bias_bound(**RUN)) == pytest.approx(float(nonconvex.classical_bound(**RUN)))


def test_relative_errors_worked_value():
    """Catches m' on the wrong term: everything is divided by 1 - m', and M only shortens the step."""
    value = literature.relative_bias_bound(**RUN, relative_bias=0.2, relative_noise=3.0)
    assert float(value) == pytest.approx((2 * 1.3 / 0.625 + 0.36 + 0.25 * 1.4) / 0.8)


def test_relative_errors_hold_on_a_quadratic_that_uses_them_up():
    """Catches a bound below a run: (L/2) x^2, b = -sqrt(m') grad f and noise of size sqrt(M)|grad f + b|."""
    smoothness, m, noise = 2.0, 0.36, 1.5
    eta = 1 / ((noise + 1) * smoothness)
    second, squares = 4.0, []
    for steps in range(1, 30):
        squares.append(smoothness**2 * second)
        mean_step = smoothness * (1 - np.sqrt(m))
        second *= (1 - eta * mean_step) ** 2 + eta**2 * noise * mean_step**2
        bound = literature.relative_bias_bound(
            initial_gap=smoothness / 2 * 4.0,
            steps=steps,
            step_size=eta,
            smoothness=smoothness,
            bias_bound=0.0,
            noise_var=0.0,
            relative_bias=m,
            relative_noise=noise,
        )
        assert np.mean(squares) <= float(bound)


def test_constants_fit_the_assumption():
    """Catches constants too small, and c or C larger than the worst gradient needs: scalar gradients, adverse bias."""
    zeta, var = 0.6, 1.4
    u = np.linspace(-5, 5, 20001)
    for bias in (zeta, -zeta):
        alignment = u * (u + bias) - (0.5 * u**2 - CONSTANTS.alignment_slack)
        growth = 2 * u**2 + CONSTANTS.constant - ((u + bias) ** 2 + var)
        assert min(alignment.min(), growth.min()) >= -1e-12
        assert max(alignment.min(), growth.min()) <= 1e-6


def test_abc_worked_value():
    """Catches a lost 1/b: [2 * 1.3/0.625 + 0.36 + 0.25 * 2.12] / 0.5."""
    assert float(literature.biased_abc_bound(**STEPS, constants=CONSTANTS)) == pytest.approx(
        (2 * 1.3 / 0.625 + 0.36 + 0.25 * 2.12) / 0.5
    )


@pytest.mark.parametrize(("zeta", "var"), [(0.0, 1.0), (0.6, 1.4), (2.0, 0.0)])
@pytest.mark.parametrize("kappa", [0.25, 0.01])
def test_looseness_is_the_ratio_of_the_floors(zeta, var, kappa):
    """Catches a factor that belongs to other constants; it is between 2 and 3."""
    constants = literature.biased_abc_constants(bias_bound=zeta, noise_var=var)
    run = {"initial_gap": 1.0, "steps": 1e12, "step_size": kappa / 2, "smoothness": 2.0}
    general = float(literature.biased_abc_bound(**run, constants=constants))
    special = float(nonconvex.classical_bound(**run, bias_bound=zeta, noise_var=var))
    factor = float(literature.biased_abc_looseness(kappa=kappa, bias_bound=zeta, noise_var=var))
    assert general / special == pytest.approx(factor, rel=1e-8)
    assert factor == 2.0 if zeta == 0 else 2.0 < factor <= 3.0


def test_the_part_of_the_start_is_twice_as_large():
    """Catches an unequal comparison of the two bounds where there is no error at all."""
    constants = literature.biased_abc_constants(bias_bound=0.0, noise_var=0.0)
    exact = {**RUN, "bias_bound": 0.0, "noise_var": 0.0}
    ratio = literature.biased_abc_bound(**STEPS, constants=constants) / nonconvex.classical_bound(**exact)
    assert float(ratio) == pytest.approx(2.0)


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    constants = literature.biased_abc_constants(
        bias_bound=np.array([[0.0], [0.6]]), noise_var=np.array([0.0, 1.0, 1.4])
    )
    values = literature.biased_abc_bound(**STEPS, constants=constants)
    assert values.shape == constants.growth.shape == (2, 3)
    assert values[1, 2] == float(literature.biased_abc_bound(**STEPS, constants=CONSTANTS))
    assert literature.relative_bias_bound(**RUN, relative_bias=[[0.0], [0.5]], relative_noise=[0.0, 1.0]).shape == (
        2,
        2,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relative_bias": 1.0}, "relative_bias must be below 1"),
        ({"relative_noise": 3.1}, r"step_size must be at most 1 / \(\(relative_noise \+ 1\) smoothness\)"),
        ({"relative_noise": -0.1}, "relative_noise must not be negative"),
        *(({name: np.nan}, f"^{name} must be finite") for name in (*RUN, "relative_bias", "relative_noise")),
        *(({name: -1.0}, f"^{name} must") for name in RUN),
    ],
)
def test_outside_its_conditions_the_relative_bound_raises(change, message):
    """Catches a bound quoted where it does not hold, and bad numbers."""
    with pytest.raises(ValueError, match=message):
        literature.relative_bias_bound(**{**RUN, **change})


def test_outside_its_conditions_the_abc_bound_raises():
    """Catches a step beyond b/(L B) = 1/(4L), and constants of no estimator."""
    with pytest.raises(ValueError, match=r"step_size must be at most alignment / \(smoothness growth\) = 0.125"):
        literature.biased_abc_bound(**{**STEPS, "step_size": 0.13}, constants=CONSTANTS)
    aligned = literature.BiasedABC(*(np.asarray(x) for x in (-0.5, 0.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="alignment must be positive"):
        literature.biased_abc_bound(**STEPS, constants=aligned)
    with pytest.raises(ValueError, match="kappa must be at most 1/4"):
        literature.biased_abc_looseness(kappa=0.26, bias_bound=1.0, noise_var=1.0)
    with pytest.raises(ValueError, match="must not both be zero"):
        literature.biased_abc_looseness(kappa=0.1, bias_bound=[0.0, 1.0], noise_var=0.0)


def test_the_looseness_is_a_ratio_of_any_size():
    """Catches a quotient of squares that overflow or vanish."""
    for scale in (1e-200, 1e200):
        assert float(literature.biased_abc_looseness(kappa=0.25, bias_bound=scale, noise_var=0.0)) == pytest.approx(
            3.0, rel=1e-15
        )
