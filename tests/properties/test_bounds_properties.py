"""Invariants of the bounds on biased SGD: against exact runs on quadratics and enumerated noise paths.

Numbered G58 to G62. The runs are made here: second moments by matrices [d, d], or every path of two-atom noise on
losses that are not quadratic, with biases that depend on the point.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import laws

from bvpo_analysis.records import Floats
from bvpo_analysis.theory import convex, literature_bounds, nonconvex, quadratics, strongly_convex

SLACK = 1e-10
"""Relative slack of every inequality: rounding of sums of squares."""

SEEDS = st.integers(0, 2**32 - 1)
KAPPAS_UP_TO_ONE = st.one_of(st.just(1.0), st.floats(0.01, 1.0))
SIZES = st.one_of(st.just(0.0), st.floats(1e-2, 1e2))


# --- exact runs on quadratics ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Biased SGD on (1/2) x'Hx with constant bias and noise covariance; L and m are the extreme eigenvalues."""

    hessian: Floats
    start: Floats
    bias: Floats
    noise_cov: Floats
    kappa: float
    smoothness: float
    pl_constant: float

    @property
    def step_size(self) -> float:
        return self.kappa / self.smoothness

    @property
    def gap(self) -> float:
        return float(self.start @ self.hessian @ self.start / 2)

    @property
    def zeta(self) -> float:
        return float(np.sqrt(self.bias @ self.bias))

    @property
    def noise_var(self) -> float:
        return float(np.trace(self.noise_cov))

    @property
    def law(self) -> dict[str, float]:
        return {"smoothness": self.smoothness, "bias_bound": self.zeta, "noise_var": self.noise_var}

    def moments(self, etas: Floats) -> tuple[Floats, Floats]:
        """E|grad f|^2 and E f before every step and after the last, by E xx' as a matrix."""
        mean, second = self.start, np.outer(self.start, self.start)
        rows = []
        for eta in [*etas, 0.0]:
            rows.append((np.trace(self.hessian @ second @ self.hessian), np.trace(self.hessian @ second) / 2))
            step = np.eye(len(mean)) - eta * self.hessian
            cross = np.outer(step @ mean, eta * self.bias)
            second = step @ second @ step - cross - cross.T + eta**2 * (np.outer(self.bias, self.bias) + self.noise_cov)
            mean = step @ mean - eta * self.bias
        gradient_sq, loss = np.array(rows).T
        return gradient_sq, loss


@st.composite
def runs(draw: st.DrawFn, *, isotropic: bool = False, kappas: st.SearchStrategy[float] = KAPPAS_UP_TO_ONE) -> Run:
    """Random rotation, spectrum between 0.01 L and L, sizes of start, bias and noise over four decades."""
    rng = np.random.default_rng(draw(SEEDS))
    d, smoothness = draw(st.integers(1, 4)), 10.0 ** draw(st.floats(-1.0, 1.0))
    spectrum = np.full(d, smoothness) if isotropic else smoothness * 10.0 ** rng.uniform(-2, 0, size=d)
    spectrum[0] = smoothness
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    root = draw(SIZES) * rng.normal(size=(d, d))
    return Run(
        hessian=basis @ np.diag(spectrum) @ basis.T,
        start=draw(SIZES) * rng.normal(size=d),
        bias=draw(SIZES) * rng.normal(size=d),
        noise_cov=root @ root.T,
        kappa=draw(kappas),
        smoothness=smoothness,
        pl_constant=float(spectrum.min()),
    )


@given(runs(), st.integers(1, 12))
def test_g58_bounds_hold_on_exact_quadratic_runs(run, steps):
    """Catches a bound that is too small anywhere: missing noise, bias or start, 1/T for (1 - 1/T)."""
    gradient_sq, loss = run.moments(np.full(steps, run.step_size))
    average = gradient_sq[:-1].mean()
    law = {**run.law, "steps": steps, "step_size": run.step_size}
    improved = float(nonconvex.improved_bound(**law, initial_gap=run.gap))
    classical = float(nonconvex.classical_bound(**law, initial_gap=run.gap))
    assert average <= improved * (1 + SLACK)
    assert improved <= classical * (1 + 1e-12)
    slack = SLACK * classical
    telescoped = float(nonconvex.telescoped_bound(**law, decrease=loss[0] - loss[-1]))
    sharp = float(nonconvex.sharp_bound(**law, decrease=loss[0] - loss[-1]))
    assert average <= sharp + slack
    assert sharp <= telescoped + slack


@given(runs(), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8))
def test_g58_varying_steps_on_exact_quadratic_runs(run, fractions):
    """Catches an unweighted average, and L eta for L eta^2."""
    etas = np.array(fractions) / run.smoothness
    gradient_sq, _ = run.moments(etas)
    bound = nonconvex.varying_steps_bound(
        initial_gap=run.gap,
        step_sizes=etas,
        smoothness=run.smoothness,
        bias_bounds=run.zeta,
        noise_vars=run.noise_var,
    )
    assert etas @ gradient_sq[:-1] / etas.sum() <= float(bound) * (1 + SLACK)


@given(runs(isotropic=True, kappas=st.just(1.0)), st.integers(3, 12))
def test_g59_at_kappa_one_an_isotropic_quadratic_attains_the_bound(run, steps):
    """Catches any looseness, and 1/T for (1 - 1/T) where the two differ: T >= 3."""
    gradient_sq, loss = run.moments(np.full(steps, run.step_size))
    average = gradient_sq[:-1].mean()
    law = {**run.law, "steps": steps, "step_size": run.step_size}
    assert float(nonconvex.improved_bound(**law, initial_gap=run.gap)) == pytest.approx(average, rel=1e-9, abs=1e-12)
    slack = SLACK * float(nonconvex.classical_bound(**law, initial_gap=run.gap))
    for bound in (nonconvex.telescoped_bound, nonconvex.sharp_bound):
        assert abs(float(bound(**law, decrease=loss[0] - loss[-1])) - average) <= slack


@given(runs(), st.integers(1, 30))
def test_g60_pl_bounds_hold_on_exact_quadratic_runs(run, steps):
    """Catches a wrong rate or floor with m the smallest eigenvalue, at constant and at decreasing steps."""
    law = {**run.law, "initial_gap": run.gap, "pl_constant": run.pl_constant}
    _, loss = run.moments(np.full(steps, run.step_size))
    bound = strongly_convex.pl_bound(**law, steps=np.arange(steps + 1), step_size=run.step_size)
    assert (loss <= bound * (1 + SLACK) + SLACK * run.gap).all()
    offset = 2 * run.smoothness / run.pl_constant
    schedule = {"smoothness": run.smoothness, "pl_constant": run.pl_constant, "offset": offset}
    _, loss = run.moments(strongly_convex.pl_decreasing_steps(steps=steps, **schedule))
    bound = strongly_convex.pl_decreasing_bound(**law, steps=np.arange(1, steps + 1), offset=offset)
    assert (loss[1:] <= bound * (1 + SLACK) + SLACK * run.gap).all()


@given(runs(kappas=st.floats(0.01, 1.9)), st.integers(0, 12))
def test_g60_the_recursion_in_the_eigenbasis_is_the_one_on_matrices(run, steps):
    """Catches a wrong eigenbasis, noise dropped off its diagonal, and an index shifted by one."""
    gradient_sq, loss = run.moments(np.full(steps, run.step_size))
    path = quadratics.quadratic_path(
        hessian=run.hessian,
        start=run.start,
        bias=run.bias,
        noise_cov=run.noise_cov,
        step_size=run.step_size,
        steps=steps,
    )
    scale = max(gradient_sq.max(), run.zeta**2, run.noise_var)
    assert np.abs(path.gradient_sq - gradient_sq).max() <= 1e-9 * scale
    assert np.abs(path.excess_loss - loss).max() <= 1e-9 * max(loss.max(), scale / run.pl_constant)


@given(runs(kappas=st.floats(0.01, 1.9)))
def test_g60_stationary_values_are_a_fixed_point(run):
    """Catches formulas that the recursion moves: one step from the stationary second moment returns it."""
    kwargs = {"hessian": run.hessian, "bias": run.bias, "noise_cov": run.noise_cov, "step_size": run.step_size}
    stationary = quadratics.quadratic_stationary(**kwargs)
    step = np.eye(len(run.bias)) - run.step_size * run.hessian
    values, basis = np.linalg.eigh(step)
    noise = basis.T @ run.noise_cov @ basis * run.step_size**2
    covariance = basis @ (noise / (1 - np.outer(values, values))) @ basis.T
    assert np.abs(step @ covariance @ step + run.step_size**2 * run.noise_cov - covariance).max() <= 1e-9 * max(
        np.abs(covariance).max(), 1e-300
    )
    mean = -np.linalg.solve(run.hessian, run.bias)
    second = covariance + np.outer(mean, mean)
    np.testing.assert_allclose(stationary.mean, mean, rtol=1e-8, atol=1e-12 * run.zeta / run.pl_constant)
    assert stationary.gradient_sq == pytest.approx(np.trace(run.hessian @ second @ run.hessian), rel=1e-8, abs=1e-12)
    assert stationary.excess_loss == pytest.approx(np.trace(run.hessian @ second) / 2, rel=1e-8, abs=1e-12)


# --- every noise path on losses that are not quadratic ---------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """All 2^T paths of two-atom noise; index j is after j steps."""

    points: list[Floats]
    gradients: list[Floats]
    loss: Floats

    def average(self, weights: Floats) -> float:
        """Weighted average of E|grad f(x_j)|^2 before the steps."""
        squares = [(g**2).sum(axis=1).mean() for g in self.gradients[:-1]]
        return float(weights @ squares / weights.sum())


BIASES = {
    "against": lambda gradient, direction: -_unit(gradient),
    "along": lambda gradient, direction: _unit(gradient),
    "constant": lambda gradient, direction: np.broadcast_to(direction, gradient.shape),
    "across": lambda gradient, direction: np.roll(_unit(gradient), 1, axis=1),
}


def _unit(vectors: Floats) -> Floats:
    norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return vectors / np.where(norms > 0, norms, 1.0)


def all_paths(loss, gradient, start, etas, zetas, sigmas, bias, rng) -> Paths:
    """Steps x - eta (grad f + b(x) +- sigma w(x)), w a unit vector that depends on the point."""
    direction, tilt = _unit(rng.normal(size=(1, start.size))), rng.normal(size=(start.size, start.size))
    x = start[None]
    points, gradients, losses = [], [], []
    for eta, zeta, sigma in zip([*etas, 0.0], [*zetas, 0.0], [*sigmas, 0.0], strict=True):
        g = gradient(x)
        points.append(x)
        gradients.append(g)
        losses.append(loss(x).mean())
        mean = x - eta * (g + zeta * BIASES[bias](g, direction))
        noise = eta * sigma * _unit(np.cos(x @ tilt) + 0.1)
        x = np.concatenate([mean + noise, mean - noise])
    return Paths(points, gradients, np.array(losses))


SETTINGS = {
    "seed": SEEDS,
    "kappa": KAPPAS_UP_TO_ONE,
    "zeta": st.floats(0.0, 2.0),
    "sigma": st.floats(0.0, 2.0),
    "bias": st.sampled_from(sorted(BIASES)),
    "steps": st.integers(1, 6),
}


@given(**SETTINGS)
def test_g58_bounds_hold_on_every_noise_path_of_a_nonconvex_loss(seed, kappa, zeta, sigma, bias, steps):
    """Catches a bound that needs convexity or a constant bias: sum of 1 - cos(x_i), adversarial biases."""
    rng = np.random.default_rng(seed)
    smoothness, start = 10.0 ** rng.uniform(-1, 1), rng.uniform(-4, 4, size=rng.integers(1, 4))
    eta = kappa / smoothness
    paths = all_paths(
        lambda x: smoothness * (1 - np.cos(x)).sum(axis=1),
        lambda x: smoothness * np.sin(x),
        start,
        np.full(steps, eta),
        np.full(steps, zeta),
        np.full(steps, sigma),
        bias,
        rng,
    )
    average = paths.average(np.ones(steps))
    law = {"steps": steps, "step_size": eta, "smoothness": smoothness, "bias_bound": zeta, "noise_var": sigma**2}
    slack = SLACK * float(nonconvex.classical_bound(**law, initial_gap=paths.loss[0]))
    assert average <= float(nonconvex.improved_bound(**law, initial_gap=paths.loss[0])) + slack
    decrease = paths.loss[0] - paths.loss[-1]
    for bound in (nonconvex.telescoped_bound, nonconvex.sharp_bound):
        assert average <= float(bound(**law, decrease=decrease)) + slack
    one = nonconvex.one_step_bound(
        gradient_sq=(paths.gradients[0] ** 2).sum(),
        step_size=eta,
        smoothness=smoothness,
        bias_bound=zeta,
        noise_var=sigma**2,
    )
    assert paths.loss[1] - paths.loss[0] <= float(one) + slack


@given(**SETTINGS)
def test_g58_varying_steps_biases_and_noises(seed, kappa, zeta, sigma, bias, steps):
    """Catches weights of the wrong step: step size, bias and noise all change from step to step."""
    rng = np.random.default_rng(seed)
    etas, zetas, sigmas = (size * rng.uniform(0.05, 1, size=steps) for size in (kappa, zeta, sigma))
    start = rng.uniform(-4, 4, size=2)
    paths = all_paths(lambda x: (1 - np.cos(x)).sum(axis=1), np.sin, start, etas, zetas, sigmas, bias, rng)
    bound = nonconvex.varying_steps_bound(
        initial_gap=paths.loss[0], step_sizes=etas, smoothness=1.0, bias_bounds=zetas, noise_vars=sigmas**2
    )
    assert paths.average(etas) <= float(bound) * (1 + SLACK)


@given(**SETTINGS)
def test_g58_the_convex_bound_holds_on_every_noise_path(seed, kappa, zeta, sigma, bias, steps):
    """Catches a bound that is too small on log cosh, with R the largest distance of any path."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-4, 4, size=rng.integers(1, 4))
    eta = kappa / 2
    paths = all_paths(
        lambda x: np.logaddexp(x, -x).sum(axis=1) - start.size * np.log(2),
        np.tanh,
        start,
        np.full(steps, eta),
        np.full(steps, zeta),
        np.full(steps, sigma),
        bias,
        rng,
    )
    # Paths double at every step, the two halves in order: those of step j repeat 2^(T-1-j) times among the last.
    last = 2 ** (steps - 1)
    average = np.mean([np.tile(x, (last // len(x), 1)) for x in paths.points[:-1]], axis=0)
    excess = (np.logaddexp(average, -average) - np.log(2)).sum(axis=1).mean()
    bound = convex.convex_bound(
        initial_distance=np.linalg.norm(start),
        radius=max(np.linalg.norm(x, axis=1).max() for x in paths.points[:-1]),
        steps=steps,
        step_size=eta,
        smoothness=1.0,
        bias_bound=zeta,
        noise_var=sigma**2,
    )
    assert excess <= float(bound) * (1 + SLACK)


@given(runs(), st.integers(1, 10))
def test_g60_the_distance_bound_holds_without_noise(run, steps):
    """Catches a contraction that is too fast: gradient steps with the bias pointing away, and up to eta = 2/(L + m)."""
    eta = 2 * run.kappa / (run.smoothness + run.pl_constant)
    x, distances = run.start, [np.linalg.norm(run.start)]
    for _ in range(steps):
        away = x / np.linalg.norm(x) if x.any() else np.eye(len(x))[0]
        x = x - eta * (run.hessian @ x - run.zeta * away)
        distances.append(np.linalg.norm(x))
    bound = strongly_convex.distance_bound(
        initial_distance=distances[0],
        steps=np.arange(steps + 1),
        step_size=eta,
        smoothness=run.smoothness,
        strong_convexity=run.pl_constant,
        bias_bound=run.zeta,
    )
    assert (np.array(distances) <= bound * (1 + SLACK) + SLACK * distances[0]).all()


@given(runs(kappas=st.just(1.0)), st.floats(0, 0.99), st.floats(0, 5.0), st.integers(1, 8))
def test_g58_relative_errors_on_an_exact_run(run, relative_bias, relative_noise, steps):
    """Catches m' or M in the wrong place: a bias against the gradient, noise proportional to the mean step."""
    eta = run.kappa / ((relative_noise + 1) * run.smoothness)
    second, squares = np.outer(run.start, run.start), []
    shrink = 1 - np.sqrt(relative_bias)
    for _ in range(steps):
        squares.append(np.trace(run.hessian @ second @ run.hessian))
        step = np.eye(len(run.start)) - eta * shrink * run.hessian
        noise = relative_noise * shrink**2 * squares[-1] + run.noise_var
        second = step @ second @ step + eta**2 * noise * np.eye(len(run.start)) / len(run.start)
    bound = literature_bounds.relative_bias_bound(
        initial_gap=run.gap,
        steps=steps,
        step_size=eta,
        smoothness=run.smoothness,
        bias_bound=0.0,
        noise_var=run.noise_var,
        relative_bias=relative_bias,
        relative_noise=relative_noise,
    )
    assert np.mean(squares) <= float(bound) * (1 + SLACK)


# --- floors, order and monotony --------------------------------------------------------------------------


@given(KAPPAS_UP_TO_ONE, SIZES, SIZES)
def test_g61_the_floor_lies_between_that_of_a_constant_and_of_any_bias(kappa, zeta, sigma):
    """Catches a floor of the wrong bound; the gaps are those of the completed square."""
    floor = nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=sigma**2)
    slack = SLACK * float(floor.upper)
    assert float(floor.lower) - slack <= float(floor.floor) <= float(floor.upper) + slack
    root = np.sqrt(zeta**2 + kappa * (2 - kappa) * sigma**2)
    below = 2 * (1 - kappa) * zeta * (root - zeta) / (2 - kappa) ** 2
    above = (1 - kappa) * (root - zeta) ** 2 / (2 - kappa) ** 2
    assert abs(float(floor.floor - floor.lower) - below) <= slack
    assert abs(float(floor.upper - floor.floor) - above) <= slack


@given(KAPPAS_UP_TO_ONE, SIZES, SIZES)
def test_g61_the_floor_is_where_one_step_changes_nothing(kappa, zeta, sigma):
    """Catches a floor that no function attains: on (L/2) x^2, |grad f|^2 = Phi, bias against it, E f(x+) = f(x)."""
    floor = float(nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=sigma**2).floor)
    x = np.sqrt(floor)  # L = 1
    after = ((x - kappa * (x - zeta)) ** 2 + kappa**2 * sigma**2) / 2
    assert after == pytest.approx(x**2 / 2, rel=1e-9, abs=1e-15)


LAWS = st.fixed_dictionaries(
    {
        "gap": SIZES,
        "zeta": SIZES,
        "noise_var": SIZES,
        "kappa": KAPPAS_UP_TO_ONE,
        "smoothness": st.floats(0.1, 10.0),
        "steps": st.integers(1, 50),
        "modulus": st.floats(0.01, 1.0),
    }
)


def every_bound(gap, zeta, noise_var, kappa, smoothness, steps, modulus):
    """All bounds of this family at one setting, by name; m = modulus L."""
    law = {"smoothness": smoothness, "bias_bound": zeta, "noise_var": noise_var, "steps": steps}
    constant, short = {**law, "step_size": kappa / smoothness}, {**law, "step_size": kappa / (4 * smoothness)}
    pl = {"initial_gap": gap, "pl_constant": modulus * smoothness}
    abc = literature_bounds.biased_abc_constants(bias_bound=zeta, noise_var=noise_var)
    values = {
        "classical": nonconvex.classical_bound(**constant, initial_gap=gap),
        "improved": nonconvex.improved_bound(**constant, initial_gap=gap),
        "telescoped": nonconvex.telescoped_bound(**constant, decrease=gap),
        "sharp": nonconvex.sharp_bound(**constant, decrease=gap),
        "pl": strongly_convex.pl_bound(**constant, **pl),
        "pl-decreasing": strongly_convex.pl_decreasing_bound(**law, **pl, offset=2 / modulus),
        "convex": convex.convex_bound(**short, initial_distance=gap, radius=gap),
        "distance": strongly_convex.distance_bound(
            initial_distance=gap,
            steps=steps,
            step_size=kappa / smoothness,
            smoothness=smoothness,
            strong_convexity=modulus * smoothness,
            bias_bound=zeta,
        ),
        "relative": literature_bounds.relative_bias_bound(**constant, initial_gap=gap, relative_bias=0.3),
        "abc": literature_bounds.biased_abc_bound(
            initial_gap=gap,
            steps=steps,
            step_size=kappa / (4 * smoothness),
            smoothness=smoothness,
            constants=abc,
        ),
        "phi": nonconvex.stationarity_floor(kappa=kappa, bias_bound=zeta, noise_var=noise_var).floor,
    }
    return {name: float(value) for name, value in values.items()}


@given(LAWS, st.sampled_from(["gap", "zeta", "noise_var"]), st.floats(1e-3, 1e2))
def test_g62_bounds_grow_with_start_bias_and_noise(law, name, more):
    """Catches a sign, and a floor that is subtracted: no error makes a bound smaller."""
    before, after = every_bound(**law), every_bound(**{**law, name: law[name] + more})
    for bound in before:
        assert after[bound] >= before[bound] * (1 - SLACK), bound


@given(LAWS)
def test_g62_the_classical_bound_falls_with_the_number_of_steps(law):
    """Catches a power of T; of the others, those from an observed decrease fall too."""
    before, after = every_bound(**law), every_bound(**{**law, "steps": law["steps"] + 1})
    for bound in ("classical", "telescoped", "sharp", "convex", "relative", "abc"):
        assert after[bound] <= before[bound] * (1 + SLACK), bound


@given(LAWS)
def test_g62_the_order_of_the_bounds(law):
    """Catches an improvement that is none."""
    values = every_bound(**law)
    assert values["improved"] <= values["classical"] * (1 + 1e-12)
    assert values["sharp"] <= values["telescoped"] * (1 + SLACK)
    assert values["classical"] <= values["relative"] * (1 + SLACK)
    assert values["phi"] <= values["sharp"] * (1 + SLACK)


# --- the weight of the convex criterion ------------------------------------------------------------------


@settings(max_examples=60)
@given(laws(), st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), st.floats(1e-3, 10.0))
def test_the_convex_weight_is_optimal(law, radius, eta):
    """Catches a slope of something else: against |b(alpha)| R + eta(|b(alpha)|^2 + S(alpha)/2) of explicit vectors."""
    assume(law.scale > 1e-3)
    best = convex.convex_optimal_weight(**law.moments, radius=radius, step_size=eta)

    def criterion(alpha):
        g = alpha * law.t + (1 - alpha) * law.e
        bias = law.p @ g - law.mu
        return np.sqrt(bias @ bias) * radius + eta * (bias @ bias + law.cov(g, g) / 2)

    grid = [criterion(alpha) for alpha in np.linspace(0, 1, 201)]
    scale = np.sqrt(law.scale) * radius + eta * law.scale
    assert criterion(float(best.alpha)) <= min(grid) + 1e-9 * scale
    assert 0 <= float(best.gap) <= 1e-9 * scale
    # From squared moments, a vanishing |b| is known to the root of rounding only.
    assert abs(float(best.value) - criterion(float(best.alpha))) <= 1e-7 * scale
