"""One protocol for every estimator: shapes, probabilities, the laws of the algebra, and what each one refuses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import estimators
from bvpo_analysis.estimators import (
    ControlledPriorTrace,
    CoupledTrace,
    EmptyTrace,
    EmptyVariant,
    Estimator,
    IndependentPriorTraces,
    JackknifeMarginal,
    KMarginal,
    Marginal,
    MultiTrace,
    Pooled,
    PriorTrace,
    RandomisedMarginal,
    ShortTrace,
    Sum,
    Trace,
    mean_coefficients,
    mix,
    totals_of,
)
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

RNG = np.random.default_rng(5)
REF, SHIFT = RNG.normal(-4.0, 1.0, 6), RNG.normal(0.0, 0.8, 6)
ENUMERATED = toy_pair(enumerated=True, log_prob=REF + SHIFT, log_prob_ref=REF)
"""Off the reference, all four trace combinations with unequal probabilities."""
SAMPLED = replace(
    toy_pair(log_prob=REF + SHIFT, log_prob_ref=REF),
    draws=np.array([[0, 2], [1, 3], [1, 2], [0, 2], [1, 3]]),
    weights=np.full(5, 0.2),
)
"""Off the reference, five draws from two traces per answer."""

AT_REFERENCE = toy_pair(log_prob_ref=RNG.normal(-4.0, 1.0, 21), further=True)
"""At the reference, two draws, three prior traces and all variants."""
FURTHER = toy_pair(
    log_prob=RNG.normal(-4.0, 1.0, 21), log_prob_ref=RNG.normal(-4.0, 1.0, 21), enumerated=True, further=True
)
"""The same off the reference, with enumerated draws."""

LOSSES = (DPO(0.7), IPO(0.4), SimPO(2.0, 0.5))
PROTOCOL = {
    Trace: [(Trace(loss), pair) for loss in LOSSES for pair in (SAMPLED, ENUMERATED)],
    EmptyTrace: [(EmptyTrace(loss), pair) for loss in LOSSES for pair in (SAMPLED, ENUMERATED)],
    MultiTrace: [(MultiTrace(loss, k), SAMPLED) for loss in LOSSES for k in (1, 2, 5)],
    Marginal: [(Marginal(loss), ENUMERATED) for loss in LOSSES],
    KMarginal: [(KMarginal(loss, k), SAMPLED) for loss in LOSSES[:2] for k in (1, 2, 5)],
    JackknifeMarginal: [(JackknifeMarginal(loss, k), SAMPLED) for loss in LOSSES[:2] for k in (2, 5)],
    RandomisedMarginal: [(RandomisedMarginal(loss, k), SAMPLED) for loss in LOSSES[:2] for k in (2, 4)],
    CoupledTrace: [(CoupledTrace(loss, k), SAMPLED) for loss in LOSSES for k in (1, 2, 5)],
    Pooled: [(Pooled(loss, m), AT_REFERENCE) for loss in LOSSES for m in (1, 2, 4)],
    PriorTrace: [(PriorTrace(loss), pair) for loss in LOSSES for pair in (AT_REFERENCE, FURTHER)],
    IndependentPriorTraces: [
        (IndependentPriorTraces(loss), pair) for loss in LOSSES for pair in (AT_REFERENCE, FURTHER)
    ],
    ControlledPriorTrace: [
        (ControlledPriorTrace(loss, a), pair) for loss in LOSSES for pair in (AT_REFERENCE, FURTHER) for a in (0.3, 1.0)
    ],
    EmptyVariant: [
        (EmptyVariant(loss, name), AT_REFERENCE) for loss in LOSSES for name in ("empty_shared", "empty_generated")
    ],
    ShortTrace: [(ShortTrace(loss), AT_REFERENCE) for loss in LOSSES],
    Sum: [
        (Trace(LOSSES[0]) - EmptyTrace(LOSSES[1]), SAMPLED),
        (0.3 * (Trace(LOSSES[0]) + Trace(LOSSES[2])) + 0.7 * Marginal(LOSSES[1]), ENUMERATED),
    ],
}
CASES = [case for cases in PROTOCOL.values() for case in cases]
IDS = [f"{estimator!r}-{'enumerated' if pair.enumerated else 'sampled'}" for estimator, pair in CASES]
each_estimator = pytest.mark.parametrize(("estimator", "pair"), CASES, ids=IDS)


def test_every_estimator_is_held_to_the_protocol():
    """Catches an estimator that is added without tests."""
    public = {x for x in vars(estimators).values() if isinstance(x, type) and issubclass(x, Estimator)}
    assert public - {Estimator} == set(PROTOCOL)


@each_estimator
def test_one_row_per_realisation_with_probabilities(estimator, pair):
    """Catches transposed coefficients, rows without a probability, and probabilities that do not sum to one."""
    c, w = estimator.coefficients(pair), estimator.weights(pair)
    assert c.dtype == w.dtype == np.float64
    assert c.shape == (len(w), pair.size)
    assert np.isfinite(c).all()
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1.0, abs=1e-15)
    assert mean_coefficients(estimator, pair).shape == (pair.size,)
    np.testing.assert_allclose(mean_coefficients(estimator, pair), w @ c, rtol=1e-14)


@each_estimator
def test_a_call_changes_neither_the_pair_nor_the_next_call(estimator, pair):
    """Catches in-place arithmetic on shared arrays."""
    before = pair.log_prob.copy()
    first = estimator.coefficients(pair).copy()
    estimator.coefficients(pair)[:] += 1.0
    np.testing.assert_array_equal(estimator.coefficients(pair), first)
    np.testing.assert_array_equal(pair.log_prob, before)


@each_estimator
@pytest.mark.parametrize("scale", [-1.5, 0.0, 2.0])
def test_scaling_and_sign(estimator, pair, scale):
    """Catches a scale applied to the probabilities or lost, and -a that is not a times -1."""
    c = estimator.coefficients(pair)
    np.testing.assert_array_equal((scale * estimator).coefficients(pair), scale * c)
    np.testing.assert_array_equal((estimator * scale).coefficients(pair), scale * c)
    np.testing.assert_array_equal((-estimator).coefficients(pair), -c)
    np.testing.assert_array_equal((scale * estimator).weights(pair), estimator.weights(pair))


COMPATIBLE = [
    (a, b, pair)
    for pair in (SAMPLED, ENUMERATED, AT_REFERENCE)
    for a, b in itertools.product([e for e, p in CASES if p is pair][::3], repeat=2)
    if np.array_equal(a.weights(pair), b.weights(pair)) or 1 in (len(a.weights(pair)), len(b.weights(pair)))
]


def test_sums_differences_and_mixtures_act_on_coefficients():
    """Catches a sign in -, swapped weights of a mix, and one row that is not broadcast to R rows."""
    assert len(COMPATIBLE) > 100
    for a, b, pair in COMPATIBLE:
        ca, cb = a.coefficients(pair), b.coefficients(pair)
        np.testing.assert_allclose((a + b).coefficients(pair), ca + cb, rtol=1e-15, atol=1e-15)
        np.testing.assert_allclose((a - b).coefficients(pair), ca - cb, rtol=1e-15, atol=1e-15)
        mixed = mix(a, b, 0.3)
        np.testing.assert_allclose(mixed.coefficients(pair), 0.3 * ca + 0.7 * cb, rtol=1e-14, atol=1e-15)
        assert len(mixed.weights(pair)) == len(mixed.coefficients(pair)) == max(len(ca), len(cb))
        expected = 0.3 * mean_coefficients(a, pair) + 0.7 * mean_coefficients(b, pair)
        np.testing.assert_allclose(mean_coefficients(mixed, pair), expected, rtol=1e-13, atol=1e-14)


def test_the_ends_of_a_mixture_and_a_mixture_with_itself():
    """Catches alpha on the wrong estimator: mix(a, b, 1) is a, mix(a, b, 0) is b, mix(a, a, alpha) is a."""
    for a, b, pair in COMPATIBLE:
        rows = max(len(a.weights(pair)), len(b.weights(pair)))
        ca, cb = (np.broadcast_to(x.coefficients(pair), (rows, pair.size)) for x in (a, b))
        np.testing.assert_array_equal(mix(a, b, 1.0).coefficients(pair), ca)
        np.testing.assert_array_equal(mix(a, b, 0.0).coefficients(pair), cb)
        np.testing.assert_allclose(mix(a, a, 0.37).coefficients(pair), a.coefficients(pair), rtol=1e-14)


def test_a_mixture_shares_the_draws_of_its_terms():
    """Catches independent draws for two terms: g - g is zero in every realisation, not on average."""
    trace = Trace(LOSSES[0])
    np.testing.assert_array_equal((trace - trace).coefficients(SAMPLED), np.zeros((5, 6)))
    np.testing.assert_array_equal((trace + EmptyTrace(LOSSES[0])).weights(ENUMERATED), ENUMERATED.weights)


def test_terms_with_different_numbers_of_realisations_do_not_mix():
    """Catches silent broadcasting of 2 rows against 5."""
    with pytest.raises(ValueError, match=r"terms have \[2, 5\] realisations; they must agree"):
        (Trace(LOSSES[0]) + MultiTrace(LOSSES[0], 2)).coefficients(SAMPLED)
    with pytest.raises(ValueError, match="terms give their realisations different probabilities"):
        (MultiTrace(LOSSES[0], 2) + RandomisedMarginal(LOSSES[0], 4)).coefficients(SAMPLED)


# --- single estimators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES[:2], ids=repr)
@pytest.mark.parametrize("pair", [SAMPLED, ENUMERATED], ids=["sampled", "enumerated"])
def test_trace_puts_the_loss_coefficients_on_the_drawn_rows(loss, pair):
    """Catches chosen and rejected columns swapped, and coefficients of another draw."""
    c = Trace(loss).coefficients(pair)
    rho = pair.log_prob - pair.log_prob_ref
    for row, (i, j) in zip(c, pair.draws, strict=True):
        margin = rho[i] - rho[j]
        slope = -loss.beta / (1 + np.exp(loss.beta * margin)) if loss.name == "dpo" else 2 * margin - 1 / loss.beta
        expected = np.zeros(6)
        expected[i], expected[j] = slope, -slope
        np.testing.assert_allclose(row, expected, rtol=1e-13)


def test_trace_and_empty_trace_agree_where_the_traces_are_the_empty_ones():
    """Catches an empty-trace gradient with another loss, sign or side."""
    pair = replace(SAMPLED, draws=SAMPLED.empty[None, :], weights=np.ones(1))
    for loss in LOSSES:
        np.testing.assert_array_equal(Trace(loss).coefficients(pair), EmptyTrace(loss).coefficients(pair))


def test_length_normalised_losses_see_all_scored_tokens_of_a_trace_and_the_answer_of_the_marginal():
    """Catches SimPO normalised by the answer alone in g_t, or by the trace in mu."""
    pair, beta = toy_pair(enumerated=True), 2.0
    c = Trace(SimPO(beta, 0.0)).coefficients(pair)
    for row, (i, j) in zip(c, pair.draws, strict=True):
        margin = beta * (pair.log_prob[i] / pair.tokens[i] - pair.log_prob[j] / pair.tokens[j])
        slope = beta / (1 + np.exp(margin))
        np.testing.assert_allclose(row[[i, j]], [-slope / pair.tokens[i], slope / pair.tokens[j]], rtol=1e-14)
    mu = Marginal(SimPO(beta, 0.0)).coefficients(pair)[0]
    np.testing.assert_allclose(mu[:4], beta * 0.5 / 3 * np.array([-0.5, -0.5, 0.5, 0.5]), rtol=1e-14)


@pytest.mark.parametrize("traces", [1, 2, 3, 5])
def test_multi_trace_averages_disjoint_groups_in_file_order(traces):
    """Catches overlapping groups, a sum for a mean, and the leftover draws put into a group."""
    single = Trace(LOSSES[0]).coefficients(SAMPLED)
    c = MultiTrace(LOSSES[0], traces).coefficients(SAMPLED)
    assert len(c) == 5 // traces
    for k, row in enumerate(c):
        np.testing.assert_allclose(row, single[k * traces : (k + 1) * traces].sum(axis=0) / traces, rtol=1e-14)


def test_multi_trace_refuses_what_it_cannot_average():
    """Catches groups of enumerated draws, which are not an i.i.d. sample, and empty means."""
    with pytest.raises(ValueError, match="draws are enumerated"):
        MultiTrace(LOSSES[0], 2).coefficients(ENUMERATED)
    with pytest.raises(ValueError, match="'toy' has 5 trace draws, 6 are needed"):
        MultiTrace(LOSSES[0], 6).coefficients(SAMPLED)
    with pytest.raises(ValueError, match="traces must be at least 1, got 0"):
        MultiTrace(LOSSES[0], 0)


def test_marginal_needs_enumerated_traces():
    """Catches a target made of the few traces that happen to be sampled."""
    with pytest.raises(ValueError, match="'toy' has sampled traces; the marginal needs enumerated ones"):
        Marginal(LOSSES[0]).coefficients(SAMPLED)


def test_marginal_weights_traces_by_the_current_policy():
    """Catches reference-posterior weights in mu off the reference, and log-probabilities averaged for summed."""
    c = Marginal(DPO(0.7)).coefficients(ENUMERATED)[0]
    p, ref = np.exp(ENUMERATED.log_prob), np.exp(ENUMERATED.log_prob_ref)
    margin = 0.7 * (np.log(p[:2].sum() / ref[:2].sum()) - np.log(p[2:4].sum() / ref[2:4].sum()))
    slope = 0.7 / (1 + np.exp(margin))
    np.testing.assert_allclose(c[:2], -slope * p[:2] / p[:2].sum(), rtol=1e-13)
    np.testing.assert_allclose(c[2:4], slope * p[2:4] / p[2:4].sum(), rtol=1e-13)
    np.testing.assert_array_equal(c[4:], 0.0)


def test_a_single_trace_makes_trace_and_marginal_gradients_equal():
    """Catches a marginal with its own margin (G44): with one trace there is nothing to marginalise."""
    pair = replace(ENUMERATED, draws=np.array([[0, 2]]), weights=np.ones(1), support=np.array([[0], [2]]))
    for loss in LOSSES[:2]:
        np.testing.assert_allclose(Marginal(loss).coefficients(pair), Trace(loss).coefficients(pair), rtol=1e-14)


def test_a_trace_listed_twice_counts_twice_in_the_marginal():
    """Catches assignment for accumulation when two enumerated traces are the same sequence."""
    pair = replace(ENUMERATED, support=np.array([[0, 0], [2, 3]]))
    c = Marginal(IPO(0.4)).coefficients(pair)[0]
    assert c[:2].sum() == pytest.approx(-c[2:4].sum(), rel=1e-13)
    assert c[1] == 0.0


def test_totals_have_one_name_per_estimator_and_hold_the_mean():
    """Catches totals that collide by name, or that take one draw for the mean."""
    named = totals_of(*(e for e, p in CASES[:6] if p is SAMPLED), MultiTrace(LOSSES[0], 2))
    assert len(named) == 4
    for name, f in named.items():
        assert "object at 0x" not in name
        assert f(SAMPLED).shape == (6,)
    np.testing.assert_allclose(named[repr(Trace(LOSSES[0]))](SAMPLED), Trace(LOSSES[0]).coefficients(SAMPLED).mean(0))
