"""Batches, trace counts and targets: closed forms against the enumeration of every batch with all of its traces.

Numbered G30 to G34. A population has two or three prompts with one or two traces each; a batch of B prompts with K
traces is one outcome of a finite law, so its mean squared error against any target is a sum.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import KAPPAS, REL, Law, close

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.batch import batch_optimal_weight, batch_weight_limits
from bvpo_analysis.theory.targets import PromptLaw, pooled_weight, split_empty_bias

NUMBERS = st.one_of(st.just(0.0), st.floats(1e-2, 1e2), st.floats(-1e2, -1e-2))


@dataclass(frozen=True)
class Population:
    """Prompts with probabilities p [n], traces q [n, R] with gradients t [n, R, d], g_e e [n, d], targets mu [n, d]."""

    p: Floats
    q: Floats
    t: Floats
    e: Floats
    mu: Floats

    @property
    def mean_t(self) -> Floats:
        return np.einsum("ir,ird->id", self.q, self.t)

    @property
    def trace_var(self) -> Floats:
        return np.einsum("ir,ird->i", self.q, (self.t - self.mean_t[:, None]) ** 2)

    @property
    def law(self) -> PromptLaw:
        """The same for the package."""
        return PromptLaw(self.p, self.mean_t - self.mu, self.e - self.mu, self.mu, self.trace_var)

    @property
    def unit(self) -> dict[str, float]:
        """Arguments of the closed form for a batch, from vectors."""
        mu = self.p @ self.mu
        one = Law(self.p, self.mean_t, self.e, mu)
        b_t, b_e = self.p @ self.mean_t - mu, self.p @ self.e - mu
        return {
            "bias_t_sq": float(b_t @ b_t),
            "bias_e_sq": float(b_e @ b_e),
            "bias_inner": float(b_t @ b_e),
            "data_var_t": one.cov(one.t, one.t),
            "trace_var": float(self.p @ self.trace_var),
            "var_e": one.cov(one.e, one.e),
            "data_cov": one.cov(one.t, one.e),
        }

    @property
    def scale(self) -> float:
        return float((self.t**2).sum() + (self.e**2).sum() + (self.mu**2).sum())

    def batches(self, size: int, traces: int, *, separate: bool = False) -> tuple[Law, Floats]:
        """The law of the batch means of g_t and g_e over every batch, and the mean mu [m, d] of each batch.

        With ``separate`` g_e takes a batch of its own.
        """
        slots = [
            (p * np.prod([self.q[i, r] for r in chosen]), i, self.t[i, list(chosen)].mean(axis=0))
            for i, p in enumerate(self.p)
            for chosen in itertools.product(range(self.q.shape[1]), repeat=traces)
        ]
        first = list(itertools.product(slots, repeat=size))
        p = np.array([np.prod([slot[0] for slot in batch]) for batch in first])
        t = np.array([np.mean([slot[2] for slot in batch], axis=0) for batch in first])
        e, mu = (np.array([np.mean([x[i] for _, i, _ in batch], axis=0) for batch in first]) for x in (self.e, self.mu))
        if separate:
            m = len(p)
            return Law(np.outer(p, p).ravel(), np.repeat(t, m, axis=0), np.tile(e, (m, 1)), self.p @ self.mu), mu
        return Law(p, t, e, self.p @ self.mu), mu


@st.composite
def populations(draw: st.DrawFn, *, smallest: float = 1e-6) -> Population:
    n, traces, d = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))

    def array(*shape: int) -> Floats:
        return draw(hnp.arrays(float, shape, elements=NUMBERS))

    p = draw(hnp.arrays(float, n, elements=st.integers(1, 9).map(float)))
    q = draw(hnp.arrays(float, (n, traces), elements=st.integers(1, 9).map(float)))
    found = Population(p / p.sum(), q / q.sum(axis=1, keepdims=True), array(n, traces, d), array(n, d), array(n, d))
    apart = ((found.mean_t - found.e) ** 2).sum() + found.trace_var.sum()
    shift = found.p @ (found.mean_t - found.e)
    assume(apart > smallest * found.scale)
    assume(shift @ shift > smallest * found.scale)
    return found


def best_by_enumeration(law: Law, target: Floats) -> float:
    """argmin over alpha of the error against the target of every outcome, from differences."""
    gap = law.t - law.e
    return law.mean_product(target - law.e, gap) / law.mean_product(gap, gap)


def error_by_enumeration(law: Law, target: Floats, alpha: float) -> float:
    x = alpha * law.t + (1 - alpha) * law.e - target
    return law.mean_product(x, x)


SIZES = st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3)])


@given(populations(), SIZES, st.booleans())
@settings(max_examples=60)
def test_g30_closed_form_is_the_optimum_over_all_batches(population, sizes, separate):
    """Catches 1/K on the data noise, B on the bias, a doubled covariance, and c kept for separate batches."""
    size, traces = sizes
    assume(not (separate and size * traces > 2))
    law, _ = population.batches(size, traces, separate=separate)
    unit = population.unit | ({"data_cov": 0.0} if separate else {})
    alpha = float(batch_optimal_weight(**unit, batch_size=size, traces=traces))
    assert close(alpha, best_by_enumeration(law, law.mu), 1e-8)


@given(populations(), SIZES, KAPPAS)
@settings(max_examples=60)
def test_g30_kappa_weighs_the_variance_of_the_batch_gradient(population, sizes, kappa):
    """Catches kappa on the bias and 1/kappa for kappa: the derivative of |b_c|^2 + kappa Tr Var vanishes there."""
    size, traces = sizes
    law, _ = population.batches(size, traces)
    alpha = float(batch_optimal_weight(**population.unit, batch_size=size, traces=traces, kappa=kappa))

    def value(a: float) -> float:
        mixed = a * law.t + (1 - a) * law.e
        bias = law.p @ mixed - law.mu
        return float(bias @ bias) + kappa * law.cov(mixed, mixed)

    # On a parabola the difference of values at equal distances from the minimum is zero, without rounding of a slope.
    assert abs(value(alpha + 1) - value(alpha - 1)) <= REL * max(1, alpha**2) * max(1, kappa) * population.scale


@given(populations(), st.integers(1, 1000), st.floats(1.0, 1e3), st.integers(1, 9), KAPPAS)
def test_g30_only_the_ratio_of_kappa_to_the_batch_counts(population, size, factor, traces, kappa):
    """Catches B or kappa to another power on one of the terms."""
    unit = population.unit
    alpha = batch_optimal_weight(**unit, batch_size=size, traces=traces, kappa=kappa)
    scaled = batch_optimal_weight(**unit, batch_size=size * factor, traces=traces, kappa=kappa * factor)
    assert close(float(alpha), float(scaled))


@given(populations(), KAPPAS)
def test_g31_large_batches_leave_the_bias_optimum(population, kappa):
    """Catches a variance term that the batch does not divide, and a limit that belongs to another end."""
    unit = population.unit
    shift, b_e = population.p @ (population.e - population.mean_t), population.p @ (population.e - population.mu)
    d0 = float(shift @ shift)
    noise = unit["data_var_t"] + unit["trace_var"] + unit["var_e"]
    alpha_bias = float(b_e @ shift) / d0
    size = max(1.0, 1e9 * kappa * noise / d0)
    alpha = float(batch_optimal_weight(**unit, batch_size=size, kappa=kappa))
    assert abs(alpha - alpha_bias) <= 1e-6 * max(1, abs(alpha_bias))
    limits = batch_weight_limits(**unit, batch_size=3, kappa=kappa)
    assert abs(float(limits.bias_only) - alpha_bias) <= 1e-8 * max(1, abs(alpha_bias))


@given(populations())
def test_g31_large_steps_leave_the_variance_optimum(population):
    """Catches a bias that grows with kappa, and a limit without the noise of the traces."""
    unit = population.unit
    spread = Law(population.p, population.mean_t, population.e, np.zeros(population.mu.shape[1]))
    gap = spread.t - spread.e
    d1 = spread.cov(gap, gap) + unit["trace_var"]
    assume(d1 > 1e-6 * population.scale)
    alpha_var = spread.cov(spread.e, -gap) / d1
    assert close(float(batch_weight_limits(**unit, batch_size=1).variance_only), alpha_var, 1e-8)
    kappa = 1e9 * population.scale / d1
    alpha = float(batch_optimal_weight(**unit, batch_size=1, kappa=kappa))
    assert abs(alpha - alpha_var) <= 1e-6 * max(1, abs(alpha_var))


@given(populations(), st.integers(1, 64), KAPPAS)
def test_g32_many_traces_remove_the_noise_of_traces_and_nothing_else(population, size, kappa):
    """Catches 1/K on the noise of the data, and traces that also reduce the bias."""
    unit = population.unit
    many = batch_optimal_weight(**unit, batch_size=size, traces=1e15, kappa=kappa)
    averaged = population.batches(1, 1)[0]
    without = {**unit, "trace_var": 0.0}
    assert close(float(many), float(batch_optimal_weight(**without, batch_size=size, kappa=kappa)), 1e-8)
    limit = batch_weight_limits(**unit, batch_size=size, kappa=kappa).no_trace_noise
    assert close(float(limit), float(many), 1e-8)
    # K -> inf is the law in which every prompt has one trace, of gradient E[g_t | x].
    single = Population(
        population.p, np.ones((len(population.p), 1)), population.mean_t[:, None], population.e, population.mu
    )
    law, _ = single.batches(1, 1)
    assert close(
        float(batch_weight_limits(**unit, batch_size=1).no_trace_noise), best_by_enumeration(law, averaged.mu), 1e-8
    )


@given(populations(), st.sampled_from([1, 2]), st.floats(-2, 2))
@settings(max_examples=60)
def test_g33_per_prompt_and_batch_target_agree_on_batches_of_one(population, traces, alpha):
    """Catches cross-prompt terms at B = 1, and a per-prompt error taken against the population gradient."""
    one, batch = population.law.per_prompt(traces), population.law.batch(1, traces)
    outcomes, own_targets = population.batches(1, traces)
    truth = error_by_enumeration(outcomes, own_targets, alpha)
    slack = REL * max(1, alpha**2) * population.scale
    assert abs(float(one.error(alpha)) - truth) <= slack
    assert abs(float(batch.error(alpha)) - truth) <= slack
    assert close(float(one.weight), float(batch.weight))


@given(populations(), SIZES, st.floats(-2, 2))
@settings(max_examples=60)
def test_g33_all_three_targets_over_all_batches(population, sizes, alpha):
    """Catches a target mixed up with another, a dropped cross-prompt term, and a wrong difference of the last two."""
    size, traces = sizes
    law, (outcomes, batch_mu) = population.law, population.batches(size, traces)
    slack = REL * max(1, alpha**2) * population.scale
    truth = {
        "batch": error_by_enumeration(outcomes, batch_mu, alpha),
        "population": error_by_enumeration(outcomes, outcomes.mu, alpha),
    }
    for errors, target in ((law.batch(size, traces), batch_mu), (law.population(size, traces), outcomes.mu)):
        assert abs(float(errors.error(alpha)) - truth[errors.target]) <= slack
        assert close(float(errors.weight), best_by_enumeration(outcomes, target), 1e-8)
        assert abs(float(errors.distance) - outcomes.distance) <= REL * population.scale
    gap = float(law.population_minus_batch(alpha, size))
    assert abs(gap - (truth["population"] - truth["batch"])) <= slack
    apart = best_by_enumeration(outcomes, outcomes.mu) - best_by_enumeration(outcomes, batch_mu)
    assert abs(float(law.weight_population_minus_batch(size, traces)) - apart) <= 1e-8 * max(1, abs(apart))


@given(populations(), SIZES)
def test_g33_the_population_target_is_the_closed_form_of_the_batch(population, sizes):
    """Catches two ways to one number that have come apart."""
    size, traces = sizes
    closed = float(batch_optimal_weight(**population.unit, batch_size=size, traces=traces))
    assert close(float(population.law.population(size, traces).weight), closed, 1e-8)


@given(populations(), st.sampled_from([1, 2, 5]))
def test_g34_pooled_weight_is_a_mean_weighted_by_distances(population, traces):
    """Catches a plain mean of the per-prompt optima, which is the optimum of nothing."""
    law = population.law
    each, distances = [], []
    for i in range(len(population.p)):
        alone = Population(np.ones(1), population.q[[i]], population.t[[i]], population.e[[i]], population.mu[[i]])
        outcomes, own_targets = alone.batches(1, traces)
        assume(outcomes.distance > 1e-6 * population.scale)
        each.append(best_by_enumeration(outcomes, own_targets))
        distances.append(outcomes.distance)
    weighted = population.p * distances @ np.array(each) / (population.p @ distances)
    pooled = float(pooled_weight(population.p, law.prompt_numerators(traces), law.prompt_distances(traces)))
    scale = max(1.0, float(np.abs(each).max()))
    assert abs(pooled - weighted) <= 1e-8 * scale
    assert abs(float(law.per_prompt(traces).weight) - weighted) <= 1e-8 * scale


def test_g34_has_power_the_plain_mean_is_elsewhere():
    """A prompt whose gradients nearly coincide has an optimum of its own, and no say in the pooled one."""
    numerators, distances = np.array([0.0, 0.01]), np.array([1.0, 0.01])
    assert float(pooled_weight([0.5, 0.5], numerators, distances)) == pytest.approx(1 - 0.01 / 1.01)
    assert float(np.mean(1 - numerators / distances)) == 0.5


@given(populations(), hnp.arrays(float, (3, 3), elements=NUMBERS))
def test_a_shift_of_the_data_and_a_shift_of_the_traces_add_up_to_the_bias(population, other):
    """Catches a part taken against the wrong pairs, and an interaction that is dropped or not doubled."""
    own = population.p @ other[: len(population.p), : population.mu.shape[1]]
    shared, mu = population.p @ population.e, population.p @ population.mu
    split = split_empty_bias(own, shared, mu)
    scale = population.scale + float((other**2).sum())
    np.testing.assert_allclose(split.bias_e, own - mu, rtol=0, atol=1e-12 * np.sqrt(scale))
    np.testing.assert_allclose(split.trace_shift, population.law.bias_e.T @ population.p, atol=1e-12 * np.sqrt(scale))
    total = float(split.data_sq + split.trace_sq + split.interaction)
    assert abs(total - float((own - mu) @ (own - mu))) <= 1e-12 * scale
