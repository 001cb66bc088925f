"""Moments of batch gradients from halves: unbiased, and the weights that follow from them."""

import itertools

import numpy as np
import pytest
import torch

from bvpo_analysis import theory
from bvpo_analysis.errors import InputError
from bvpo_analysis.training import RunningMoments, WeightRule, weight_rule
from bvpo_analysis.training.running_moments import PRODUCTS
from bvpo_analysis.training.weights import FIRST_STEPS, RULES, START

ATOMS_T = np.array([[1.0, 0.0], [2.0, 3.0], [-1.0, 1.0]])
ATOMS_E = np.array([[0.5, 0.5], [0.0, 2.0], [1.0, -1.0]])


def enumerated():
    """Mean of every product over all pairs of halves, each half one draw of the three atoms."""
    total = dict.fromkeys(PRODUCTS, 0.0)
    for i, j in itertools.product(range(3), repeat=2):
        halves = [[torch.tensor(a[k]) for k in (i, j)] for a in (ATOMS_T, ATOMS_E)]
        found = RunningMoments(decay=0.0).updated(*halves)[0]
        for name in total:
            total[name] += found.sums[name] / 9
    return total


def test_every_product_is_unbiased_for_the_whole_batch():
    """Catches a factor of 2 or 4, and a product of a half with itself: all outcomes of two halves are enumerated."""
    found, (t, e) = enumerated(), (ATOMS_T, ATOMS_E)

    def cov(x, y):
        return ((x - x.mean(0)) * (y - y.mean(0))).sum(1).mean() / 2  # the batch is the mean of two draws

    expected = {"var_t": cov(t, t), "var_e": cov(e, e), "cov_te": cov(t, e)}
    expected |= {
        "mean_t_sq": t.mean(0) @ t.mean(0),
        "mean_e_sq": e.mean(0) @ e.mean(0),
        "mean_te": t.mean(0) @ e.mean(0),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_successive_noises_give_the_trace_of_the_squared_covariance():
    """Catches noise at the size of a half batch: E<n, n'>^2 = Tr S^2 with S the covariance of the whole batch."""
    mean = 0.0
    for i, j, k, m in itertools.product(range(3), repeat=4):
        first, noise = RunningMoments(decay=0.0).updated(*[[torch.tensor(ATOMS_T[x]) for x in (i, j)]] * 2)
        second = first.updated(*[[torch.tensor(ATOMS_T[x]) for x in (k, m)]] * 2, noise)[0]
        mean += second.sums["noise_sq"] / 81
    centred = ATOMS_T - ATOMS_T.mean(0)
    covariance = centred.T @ centred / 3 / 2
    assert mean == pytest.approx(np.trace(covariance @ covariance), rel=1e-12)


def made(**values):
    """Moments as after many batches."""
    sums = dict.fromkeys(PRODUCTS, 0.0) | values
    return RunningMoments(decay=0.0, steps=100, sums=sums)


def test_weights_are_those_of_the_closed_forms():
    """Catches a weight of the wrong gradient and kappa on the bias."""
    moments = made(var_t=4.0, var_e=0.5, cov_te=0.25, mean_t_sq=1.0, mean_e_sq=3.0, mean_te=1.2)
    law = {
        "bias_t_sq": 0.0,
        "bias_e_sq": 1.0 + 3.0 - 2.4,
        "bias_inner": 0.0,
        "var_t": 4.0,
        "var_e": 0.5,
        "cov_te": 0.25,
    }
    for kappa in (1.0, 0.3, 0.01):
        assert moments.weight(kappa) == pytest.approx(float(theory.weighted_optimal_weight(**law, kappa=kappa)))
    assert weight_rule("auto").weight(moments, rate=0.1) == pytest.approx(moments.weight(1.0))
    assert weight_rule("kappa", kappa=0.5).weight(moments, rate=0.2) == pytest.approx(moments.weight(0.5))
    assert weight_rule("schedule", kappa=0.5).weight(moments, rate=0.2) == pytest.approx(moments.weight(0.1))
    cosine = theory.cosine_optimal_weight(second_t=5.0, second_e=3.5, second_te=1.45, signal_t=1.0, signal_e=1.2)
    assert moments.cosine_weight() == pytest.approx(float(cosine.convex_alpha), rel=1e-9)


def test_james_stein_shrinks_by_the_distance_of_this_batch():
    moments = made(var_t=5.0, cov_te=1.0, noise_sq=1.0)
    trace, empty = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0])
    assert moments.shrinkage_constant() == pytest.approx(5.0 - 1.0 - 2.0)
    assert weight_rule("james_stein").weight(moments, 1.0, trace, empty) == pytest.approx(1 - 2 / 9)
    assert weight_rule("james_stein").weight(moments, 1.0, trace, trace) == 0.0
    assert weight_rule("james_stein").weight(made(var_t=1.0, noise_sq=1.0), 1.0, trace, empty) == 1.0


def test_averages_are_corrected_for_their_start():
    """Catches the pull towards zero of an average that starts there."""
    halves = [[torch.tensor([1.0]), torch.tensor([3.0])]] * 2
    moments = RunningMoments(decay=0.9)
    with pytest.raises(ValueError, match="no batch has been seen"):
        moments["var_t"]
    noise = None
    for _ in range(4):
        moments, noise = moments.updated(*halves, noise)
        assert moments["var_t"] == pytest.approx(1.0, rel=1e-12)
    assert moments["noise_sq"] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_rules_wait_for_their_moments(rule):
    assert weight_rule(rule).weight(RunningMoments(steps=FIRST_STEPS - 1), 1.0) == START


@pytest.mark.parametrize(
    ("alpha", "options", "says"),
    [
        ("half", {}, "--alpha must be a number or one of auto, kappa, schedule, cosine, james_stein, got 'half'"),
        (1.5, {}, r"--alpha must be in \[0, 1\], got 1.5; --allow-extrapolation"),
        ("nan", {"allow_extrapolation": True}, "--alpha must be finite"),
        ("auto", {"kappa": 0.0}, "--kappa must be a positive number, got 0.0"),
    ],
)
def test_rules_that_make_no_sense(alpha, options, says):
    with pytest.raises(InputError, match=says):
        weight_rule(alpha, **options)


def test_extrapolation_is_allowed_when_asked_for():
    assert weight_rule(1.5, allow_extrapolation=True) == WeightRule("fixed", 1.5)
