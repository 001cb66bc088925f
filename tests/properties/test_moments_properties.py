"""Invariants of estimated moments: jackknives, U-statistics, Gram matrices, the weight given the data.

Numbered G47, G51 to G57. Expectations are sums over all samples of a finite law, or over all resamples of a sample.
"""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, REL

from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import (
    enumerated_moments,
    jackknife_covariance,
    leave_one_out_mean,
    leave_one_out_ustatistic,
    population_moments,
    prompt_moments,
)
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.theory.importance_sampling import jackknife_corrected, jackknife_weights
from bvpo_analysis.theory.weight_given_data import conditional_weight, conditional_weight_from_squares

SEEDS = st.integers(0, 2**32 - 1)
LOSS = DPO(2.0)
TRACE, EMPTY = Trace(LOSS), EmptyTrace(LOSS)


@st.composite
def samples(draw, smallest=3, largest=7):
    """Vectors a_i of n prompts, [n, d]."""
    shape = draw(st.tuples(st.integers(smallest, largest), st.integers(1, 4)))
    return draw(hnp.arrays(float, shape, elements=ENTRIES))


@st.composite
def trace_laws(draw):
    """Three trace gradients with probabilities p, and an empty-trace gradient."""
    d = draw(st.integers(1, 3))
    p = np.array(draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)), dtype=float)
    t, e = draw(hnp.arrays(float, (3, d), elements=ENTRIES)), draw(hnp.arrays(float, d, elements=ENTRIES))
    return p / p.sum(), t, e


def ustatistic(a):
    return leave_one_out_ustatistic((a * a).sum(axis=1), a @ a.sum(axis=0), a @ a.sum(axis=0))


def pair_sum(a, b):
    """sum_{i != j} <a_i, b_j> / (n (n - 1)) by two loops."""
    n = len(a)
    return sum(float(a[i] @ b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))


def all_samples(p, k):
    """Every K-tuple of atoms with its probability."""
    index = np.array(list(itertools.product(range(len(p)), repeat=k)))
    return index, p[index].prod(axis=1)


def sq(x):
    return (x**2).sum(axis=-1)


# --- jackknife -------------------------------------------------------------------------------------------


@given(samples())
def test_g47_the_jackknife_leaves_a_linear_statistic_and_mends_the_plug_in_variance(x):
    """Catches M - 1 for M in the correction, and leave-one-out values of another statistic."""
    means, scale = x.mean(axis=0), max(1.0, float((x**2).max()))
    left = np.stack([np.delete(x, i, axis=0) for i in range(len(x))])
    np.testing.assert_allclose(jackknife_corrected(means, left.mean(axis=1)), means, atol=1e-12 * scale)
    np.testing.assert_allclose(
        jackknife_corrected(x.var(axis=0), left.var(axis=1)), x.var(axis=0, ddof=1), atol=1e-11 * scale
    )


@given(samples())
def test_g47_replicates_give_the_same_correction(x):
    """Catches leave-one-out means that are not those of the smaller sample."""
    one = x[:, 0]
    plug_in = leave_one_out_mean(one**2) - leave_one_out_mean(one) ** 2
    corrected = float(jackknife_corrected(plug_in[0], plug_in[1:]))
    assert abs(corrected - one.var(ddof=1)) <= 1e-11 * max(1.0, float((one**2).max()))


@given(hnp.arrays(float, st.integers(2, 6), elements=st.floats(-6, 6)), SEEDS)
def test_g47_signed_weights_are_the_jackknife_of_the_self_normalised_mean(logs, seed):
    """Catches weights of a row that still contain the draw left out."""
    f, w = np.random.default_rng(seed).normal(size=len(logs)), np.exp(logs)
    left = [np.delete(w, i) @ np.delete(f, i) / np.delete(w, i).sum() for i in range(len(w))]
    expected = len(w) * (w @ f) / w.sum() - (len(w) - 1) * np.mean(left)
    assert float(jackknife_weights(logs) @ f) == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --- unbiasedness over all samples of traces -------------------------------------------------------------


@given(trace_laws(), st.sampled_from([2, 3, 4]))
def test_g51_conditional_estimates_are_unbiased(law, k):
    """Catches ddof = 0 in Vhat, ddof = 1 in Dhat, and the plug-in |b_e|^2, whose excess is S_t / K."""
    p, t, e = law
    index, chance = all_samples(p, k)
    found = conditional_weight(t[index], np.broadcast_to(e, (len(index), len(e))))
    mean = p @ t
    var_t, bias_sq, distance = float(p @ sq(t - mean)), float(sq(mean - e)), float(p @ sq(t - e))
    bound = 1e-11 * (float(p @ sq(t)) + float(sq(e)) + 1e-300)
    assert abs(chance @ found.var_t - var_t) <= bound
    assert abs(chance @ found.distance - distance) <= bound
    assert abs(chance @ found.bias_e_sq - bias_sq) <= bound
    plug_in = float(chance @ sq(t[index].mean(axis=1) - e))
    assert abs(plug_in - bias_sq - var_t / k) <= bound


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([2, 3]))
def test_g51_population_moments_are_unbiased_over_traces(by_hand, seed, k):
    """Catches the same mistakes in moments from Gram matrices: four prompts that share their trace sample."""
    rng = np.random.default_rng(seed)
    pair = by_hand.pair(rng, 3, single=True)
    vectors = rng.normal(size=(pair.size, 3)) + rng.normal(size=3)
    t, e = TRACE.coefficients(pair)[::3] @ vectors, (EMPTY.coefficients(pair) @ vectors)[0]
    p = pair.weights.reshape(3, 3).sum(axis=1)
    index, chance = all_samples(p, k)
    total = np.zeros(3)
    for choice, q in zip(index, chance, strict=True):
        drawn = by_hand.sampled(pair, np.column_stack([choice, np.full(k, pair.support[1][0])]))
        m = population_moments(by_hand.scores([drawn] * 4, [vectors] * 4, TRACE, EMPTY), TRACE, EMPTY)
        total += q * np.array([m.trace_var[0], m.prompt_bias_e_sq[0], m.var_diff[0] + m.bias_diff_sq[0]])
    expected = [p @ sq(t - p @ t), sq(p @ t - e), p @ sq(t - e)]
    np.testing.assert_allclose(total, expected, atol=1e-11 * float(p @ sq(t) + sq(e)))


# --- U-statistics ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(SEEDS, st.integers(4, 7))
def test_g52_squared_means_are_pair_sums(by_hand, seed, n):
    """Catches equal-index pairs kept, n^2 for n (n - 1), and totals of the wrong estimator."""
    rng = np.random.default_rng(seed)
    pairs = [by_hand.sampled(p, p.draws[rng.integers(4, size=2)]) for p in (by_hand.pair(rng) for _ in range(n))]
    vectors = [rng.normal(size=(p.size, 3)) + 1.0 for p in pairs]
    m = population_moments(by_hand.scores(pairs, vectors, TRACE, EMPTY), TRACE, EMPTY)
    t = np.stack([(TRACE.coefficients(p) @ v).mean(axis=0) for p, v in zip(pairs, vectors, strict=True)])
    e = np.stack([(EMPTY.coefficients(p) @ v)[0] for p, v in zip(pairs, vectors, strict=True)])
    for found, a, b in (
        (m.target_sq, t, t),
        (m.mean_e_sq, e, e),
        (m.target_dot_e, t, e),
        (m.bias_e_sq, e - t, e - t),
    ):
        assert found[0] == pytest.approx(pair_sum(a, b), rel=1e-9, abs=1e-9)
        gram = a @ b.T
        assert found[0] == pytest.approx((gram.sum() - np.trace(gram)) / (n * (n - 1)), rel=1e-9, abs=1e-9)


@given(samples(4, 6))
def test_g52_replicates_are_the_statistic_without_one_prompt(a):
    """Catches own and cross products of the prompt left out that are taken off once instead of twice."""
    found, bound = ustatistic(a), 1e-9 * max(1.0, float(sq(a).max()))
    for left in range(len(a)):
        rest = np.delete(a, left, axis=0)
        assert abs(found[left + 1] - pair_sum(rest, rest)) <= bound


@given(samples(), SEEDS)
def test_g53_order_and_rotation_change_nothing(a, seed):
    """Catches a statistic that reads coordinates or the order of prompts."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(a.shape[1],) * 2))
    moved = ustatistic(a[rng.permutation(len(a))] @ q)[0]
    assert abs(moved - ustatistic(a)[0]) <= 1e-9 * max(1.0, float(sq(a).max()))


@given(samples(), st.floats(0.1, 10.0))
def test_g53_an_unbiased_square_may_be_negative(a, size):
    """Catches clipping at zero: of a centred sample it is minus the variance of the mean."""
    centred = size * (a - a.mean(axis=0))
    n = len(a)
    expected = -float(sq(centred).sum()) / (n * (n - 1))
    assert abs(ustatistic(centred)[0] - expected) <= REL * max(1.0, -expected)
    if expected < -1e-6:
        assert ustatistic(centred)[0] < 0


# --- Gram matrices ---------------------------------------------------------------------------------------


def gradient(loss, pair, vectors, chosen, rejected):
    """The loss gradient of one comparison from its definition: slope of the loss times the gradient of the margin."""
    log_p, ref, length = (x[[chosen, rejected]] for x in (pair.log_prob, pair.log_prob_ref, pair.tokens))
    if isinstance(loss, SimPO):
        each = vectors[[chosen, rejected]] / length[:, None]
        margin = loss.beta * (log_p[0] / length[0] - log_p[1] / length[1]) - loss.gamma
        return -loss.beta / (1 + np.exp(margin)) * (each[0] - each[1])
    difference, gap = (log_p - ref)[0] - (log_p - ref)[1], vectors[chosen] - vectors[rejected]
    if isinstance(loss, IPO):
        return 2 * (difference - 1 / (2 * loss.beta)) * gap
    return -loss.beta / (1 + np.exp(loss.beta * difference)) * gap


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([DPO(0.7), IPO(0.7), SimPO(2.0, 0.5)]), st.floats(0.0, 1.0))
def test_g54_inner_products_give_the_moments_of_the_vectors(by_hand, seed, loss, shift):
    """Catches coefficients on the wrong sequence, a transposed Gram, lengths swapped between the answers."""
    rng = np.random.default_rng(seed)
    pair = by_hand.pair(rng, 3, shift=shift)
    vectors = rng.normal(size=(pair.size, 4))
    trace, empty, marginal = Trace(loss), EmptyTrace(loss), Marginal(loss)
    scores = by_hand.scores([pair], [vectors], trace, empty, marginal, split=2)
    t = np.stack([gradient(loss, pair, vectors, *draw) for draw in pair.draws])
    e = gradient(loss, pair, vectors, *pair.empty)
    mu = (marginal.coefficients(pair) @ vectors)[0]
    mean = pair.weights @ t
    found = prompt_moments(scores.pairs[0], trace, empty, marginal)
    expected = {
        "trace_var": pair.weights @ sq(t - mean),
        "bias_t_sq": sq(mean - mu),
        "bias_e_sq": sq(e - mu),
        "bias_inner": (mean - mu) @ (e - mu),
        "bias_diff_sq": sq(mean - e),
        "bias_t_diff": (mean - mu) @ (mean - e),
        "mean_t_sq": sq(mean),
        "mean_te": mean @ e,
    }
    scale = float(pair.weights @ sq(t) + sq(e) + sq(mu))
    for name, value in expected.items():
        assert abs(getattr(found, name) - value) <= REL * scale, name


@settings(max_examples=30)
@given(SEEDS)
def test_g54_a_gram_matrix_is_positive_and_the_sum_of_its_groups(by_hand, seed):
    """Catches moments of a group that use the products of the whole vector."""
    rng = np.random.default_rng(seed)
    pairs = [by_hand.pair(rng, 2, shift=0.3) for _ in range(4)]
    vectors = [rng.normal(size=(p.size, 4)) for p in pairs]
    marginal = Marginal(LOSS)
    scores = by_hand.scores(pairs, vectors, TRACE, EMPTY, marginal, split=1)
    for pair, v in zip(scores.pairs, vectors, strict=True):
        whole = pair.gram.sum(axis=0)
        np.testing.assert_allclose(whole, v @ v.T, atol=REL * float(np.trace(whole)))
        assert np.linalg.eigvalsh(whole)[0] >= -REL * np.trace(whole)
    whole_moments = enumerated_moments(scores, TRACE, EMPTY, marginal)
    parts = [enumerated_moments(scores, TRACE, EMPTY, marginal, group=name) for name in scores.groups]
    for name in ("bias_e_sq", "bias_inner", "var_t", "cov_te", "var_diff", "trace_var", "target_sq"):
        expected = sum(float(getattr(part, name)[0]) for part in parts)
        assert float(getattr(whole_moments, name)[0]) == pytest.approx(expected, rel=1e-9, abs=1e-9), name


# --- the weight given the data ---------------------------------------------------------------------------


@given(hnp.arrays(float, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=ENTRIES), st.booleans(), SEEDS)
def test_g55_the_weight_of_one_trace_lies_between_minus_one_over_k_minus_one_and_one(t, at_mean, seed):
    """Catches K for K - 1 in Vhat, which would move the lower end to 0, and K - 1 for K in Dhat."""
    k = len(t)
    e = t.mean(axis=0) if at_mean else np.random.default_rng(seed).normal(size=t.shape[1])
    found = conditional_weight(t, e)
    spread, gap = float(sq(t - t.mean(axis=0)).sum()), float(sq(e - t.mean(axis=0)))
    assume(spread / k + gap > 1e-12 * float(sq(t).mean() + sq(e)))
    assert -1 / (k - 1) - 1e-9 <= found.single <= 1
    assert float(found.single) == pytest.approx(1 - (spread / (k - 1)) / float(sq(t - e).mean()), abs=1e-9)
    if at_mean:
        assert float(found.single) == pytest.approx(-1 / (k - 1), abs=1e-9)
    elif spread > 1e-3:
        assert -1 / (k - 1) < found.single < 1
    if not at_mean:
        assert found.average == pytest.approx(1 - spread / (k - 1) / k / gap, rel=1e-6, abs=1e-9)


@given(st.integers(2, 6), st.floats(0.1, 10), st.floats(0.1, 10))
def test_g55_ends_of_the_range(k, spread, gap):
    """Catches an end that is reached in other cases: 1 iff the traces agree, the other iff g_e is their mean."""
    assert float(conditional_weight_from_squares(np.zeros(k), gap).single) == 1.0
    assert float(conditional_weight_from_squares(np.full(k, spread), 0.0).single) == pytest.approx(-1 / (k - 1))
    both = float(conditional_weight_from_squares(np.full(k, spread), gap).single)
    assert -1 / (k - 1) < both < 1


@settings(max_examples=40)
@given(SEEDS, st.floats(-0.5, 1.5), st.floats(1.0, 8.0))
def test_g56_jackknife_and_delta_standard_errors_of_a_ratio_agree(seed, slope, shape):
    """Catches a mean of ratios, a jackknife factor of 1/n or n, and leave-one-out values of one of the two means."""
    rng, n = np.random.default_rng(seed), 400
    d = rng.gamma(shape, size=n)
    top = slope * d + rng.normal(size=n) * np.sqrt(d)
    assert d.max() < 0.05 * d.sum()
    ratio = leave_one_out_mean(top) / leave_one_out_mean(d)
    delta = np.sqrt(sq(top - ratio[0] * d) / (n * (n - 1))) / d.mean()
    assert float(np.sqrt(jackknife_covariance(ratio)[0, 0])) == pytest.approx(delta, rel=0.25)


# --- resampling ------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(samples(3, 4))
def test_g57_bootstrap_of_a_ustatistic_counts_copies_as_pairs(a):
    """Catches a bootstrap that keeps pairs of copies; and, with them left out, the missing factor n/(n - 1).

    Over all n^n resamples.
    """
    n, u, own = len(a), ustatistic(a)[0], float(sq(a).mean())
    naive, without = 0.0, 0.0
    for choice in itertools.product(range(n), repeat=n):
        value = ustatistic(a[list(choice)])[0]
        times = np.bincount(choice, minlength=n)
        copies = float((times * (times - 1)) @ sq(a)) / (n * (n - 1))
        naive += value / n**n
        without += (value - copies) / n**n
    bound = 1e-10 * max(1.0, float(sq(a).sum()))
    assert abs(without - u * (n - 1) / n) <= bound
    assert abs(naive - (u + (own - u) / n)) <= bound
