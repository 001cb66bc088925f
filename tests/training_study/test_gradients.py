"""Variances along training: the weight and the traces they belong to, and intervals that count runs and pairs."""

import numpy as np
import pytest

from bvpo_analysis.moments import leave_one_out_mean
from bvpo_analysis.training_study import gradients
from bvpo_analysis.training_study.summaries import ArmRuns

MOMENTS = {"var_t": 16.0, "var_e": 8.0, "cov_te": 4.0, "trace_var": 8.0}


def probe(step=20, scale=1.0, pairs=4, **changes):
    """A probe whose variances without a pair are those with all of them."""
    moments = {name: scale * value for name, value in MOMENTS.items()}
    without = {name: [value] * pairs for name, value in moments.items()}
    return {"step": step, **moments, "without": without, "alpha": 0.4, "alpha_low": 0.3, "alpha_high": 0.6} | changes


def test_the_variance_of_a_mix_takes_its_mean_weight(made_up):
    """Catches the weight of the first step, a probe that failed, and traces that are averaged but not counted."""
    run = made_up(alpha=0.5, probes=[probe(), {"step": 40}])
    assert gradients.gradient_variance(run) == pytest.approx([(4 + 2 + 2) / 16] * 5)
    assert gradients.gradient_variance(made_up("4 traces", probes=[probe()]))[0] == pytest.approx((16 - 6) / 16)
    assert gradients.gradient_variance(made_up("mixed data", probes=[probe()])) is None
    assert gradients.gradient_variance(made_up()) is None


def test_the_ratio_of_variances_is_over_the_same_seeds(made_up):
    """Catches a ratio of means over different seeds, and one upside down."""

    def arm(name, scales, weight):
        runs = {s: made_up(name, s, alpha=weight, probes=[probe(scale=x)]) for s, x in scales.items()}
        return ArmRuns("style", name, "sweep", runs, ())

    base = arm("alpha=1", {0: 1.0, 1: 2.0, 2: 3.0, 3: 100.0}, 1.0)
    half = arm("alpha=0.5", {0: 1.0, 1: 2.0, 2: 3.0}, 0.5)
    found = gradients.variance_ratio(half, base)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((0.5, 0.5, 0.5))
    assert gradients.variance_of(base).value == pytest.approx(26.5)
    assert np.isnan(gradients.variance_of(arm("alpha=1", {0: 1.0, 1: 2.0}, 1.0)).ci_low)


def test_intervals_count_runs_and_pairs():
    """400 draws of 5 runs on 16 pairs, both with an effect: intervals over runs alone hold the truth in few of them."""
    rng = np.random.default_rng(0)
    held, runs_only = 0, 0
    for _ in range(400):
        pairs = rng.normal(size=16)
        rows = [leave_one_out_mean(3.0 + 0.1 * rng.normal() + pairs + 0.2 * rng.normal(size=16)) for _ in range(5)]
        found = gradients.crossed(lambda x: x, rows)
        held += found.ci_low <= 3.0 <= found.ci_high
        firsts = np.array([row[0] for row in rows])
        half = 2.776 * firsts.std(ddof=1) / np.sqrt(5)
        runs_only += abs(firsts.mean() - 3.0) <= half
    assert 0.93 <= held / 400 <= 0.995
    assert runs_only / 400 < 0.6


def test_the_interval_of_a_weight_is_no_shorter_than_that_over_pairs():
    """Catches ends over pairs that are divided by the number of runs, which all see the same pairs."""
    same = gradients.weight_at([probe() for _ in range(5)])
    assert (same.value, same.ci_low, same.ci_high) == pytest.approx((0.4, 0.3, 0.6))
    spread = gradients.weight_at([probe(alpha=a, alpha_low=a - 0.1, alpha_high=a + 0.2) for a in (0.2, 0.4, 0.6)])
    assert spread.ci_low < 0.3
    assert spread.ci_high > 0.6
    two = gradients.weight_at([probe(), probe()])
    assert np.isnan(two.ci_low)
    unbounded = gradients.weight_at([probe(alpha_low=None) for _ in range(5)])
    assert unbounded.value == pytest.approx(0.4)
    assert np.isnan(unbounded.ci_low)


def test_the_reference_is_one_policy_and_has_an_interval_over_pairs():
    start = probe(step=0)
    assert gradients.weight_at([start]).ci_low == pytest.approx(0.3)
    found = gradients.path_point([start], lambda p: gradients.replicates(p)["var_t"])
    assert (found.value, found.ci_low) == (16.0, 16.0)
