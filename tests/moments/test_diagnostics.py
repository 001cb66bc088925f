"""Effective sample sizes and tail shapes of weights, against other implementations and laws with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.stats import binomtest

from bvpo_analysis import theory
from bvpo_analysis.moments.diagnostics import (
    FEWEST_DRAWS,
    WeightDiagnostics,
    ess_share,
    khat_threshold,
    summarise_weights,
    tail_shape,
    weight_diagnostics,
)
from bvpo_analysis.testing import toy_pair

LAWS = {
    "normal": lambda rng, s: rng.normal(size=s),
    "wide normal": lambda rng, s: 5 * rng.normal(size=s),
    "uniform weights": lambda rng, s: np.log(rng.uniform(size=s)),
    "nearly equal": lambda rng, s: 1e-3 * rng.normal(size=s),
    "Pareto .3": lambda rng, s: 0.3 * rng.exponential(size=s),
    "Pareto 1": lambda rng, s: rng.exponential(size=s),
    "Pareto 2.5": lambda rng, s: 2.5 * rng.exponential(size=s),
    "Student": lambda rng, s: rng.standard_t(2, size=s),
    "shifted by 1e4": lambda rng, s: 1e4 + rng.normal(size=s),
}


def sampled(rng, draws, *, spread=0.0, prior=0):
    """A sampled pair whose policy differs from the reference by ``spread``, with prior traces if asked for."""
    size = 2 * draws + 2 + 2 * prior
    ref = rng.normal(-5.0, 1.0, size)
    current = ref + spread * rng.normal(size=size)
    rows = np.arange(size)
    return replace(
        toy_pair(),
        log_prob=current,
        log_prob_ref=ref,
        log_prob_answer=rng.normal(-2.0, 1.0, size),
        tokens=np.full(size, 5),
        tokens_answer=np.full(size, 2),
        length=np.full(size, 9),
        draws=rows[: 2 * draws].reshape(2, draws).T.copy(),
        weights=np.full(draws, 1.0 / draws),
        empty=rows[2 * draws : 2 * draws + 2],
        prior=rows[2 * draws + 2 :].reshape(-1, 2),
    )


# --- tail shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [25, 60, 224, 225, 226, 1000])
@pytest.mark.parametrize("law", LAWS)
def test_the_tail_shape_is_that_of_an_established_implementation(law, draws):
    """Catches another tail length, cutoff or grid, a missing prior on the shape, and the other sign of the shape."""
    logs = LAWS[law](np.random.default_rng(draws), draws)
    _, expected = array_stats.psislw(-logs)  # it takes log-likelihoods, whose negatives are the log-weights
    assert tail_shape(logs).khat == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0, 2.0])
def test_the_shape_of_pareto_weights_is_found(shape):
    """Weights exp(shape E), E exponential, are Pareto with that shape. Over 200 sets the mean is within 4 SE of it.

    The prior moves the estimate by (1/2 - shape) 10 / (T + 10), which is added to the expectation; power: a shape off
    by 0.06 would be seen, as the standard error is below 0.015.
    """
    rng = np.random.default_rng(3)
    found = [tail_shape(shape * rng.exponential(size=4000)) for _ in range(200)]
    assert {f.tail for f in found} == {189}
    shapes = np.array([f.khat for f in found])
    error = shapes.std(ddof=1) / np.sqrt(200)
    assert error < 0.015
    # The generalised Pareto fit itself has a bias of order 1/T, below 0.01 here.
    assert abs(shapes.mean() - (189 * shape + 5) / 199) < 4 * error + 0.01


def test_a_constant_in_the_log_weights_changes_nothing():
    logs = np.random.default_rng(0).standard_t(3, size=400)
    for shift in (1e4, -1e4, 3.0):
        assert tail_shape(logs + shift).khat == pytest.approx(tail_shape(logs).khat, rel=1e-9)
        assert ess_share(logs + shift) == pytest.approx(ess_share(logs), rel=1e-9)


def test_where_no_tail_can_be_fitted_the_reason_is_given():
    few = tail_shape(np.random.default_rng(0).normal(size=FEWEST_DRAWS - 1))
    assert np.isnan(few.khat)
    assert few.unavailable == "24 draws per side, a tail shape needs 25"
    assert "equal" in tail_shape(np.full(50, -3.0)).unavailable
    two_values = tail_shape(np.repeat([0.0, 1.0], 50))
    assert np.isnan(two_values.khat)
    assert "few values" in two_values.unavailable
    enough = tail_shape(np.random.default_rng(0).normal(size=FEWEST_DRAWS))
    assert np.isfinite(enough.khat)
    assert enough.unavailable == ""
    assert enough.tail == 5


def test_weights_beyond_floating_point_have_an_infinite_shape():
    """Distinct log-weights, all but one of which vanish: a missing value would hide the worst case."""
    logs = np.concatenate([-1e4 - np.arange(99.0), [0.0]])
    assert tail_shape(logs).khat == np.inf
    assert ess_share(logs) == pytest.approx(0.01)


def test_the_threshold_depends_on_the_sample_size():
    assert [khat_threshold(s) for s in (10, 100, 1000, 2154, 10**6)] == pytest.approx(
        [0, 0.5, 2 / 3, 0.7, 0.7], abs=1e-4
    )
    with pytest.raises(ValueError, match="at least 2"):
        khat_threshold(1)


@pytest.mark.parametrize("bad", [[], [[0.0]], [0.0, np.nan], [np.inf]])
def test_log_weights_must_be_finite_numbers(bad):
    with pytest.raises(ValueError, match="finite numbers"):
        tail_shape(bad)
    with pytest.raises(ValueError, match="finite numbers"):
        ess_share(bad)


# --- effective sample sizes --------------------------------------------------------------------------------


def test_the_effective_sample_size_is_that_of_the_closed_form():
    rng = np.random.default_rng(1)
    for size in (1, 2, 7, 300):
        logs = 3 * rng.normal(size=size)
        assert ess_share(logs) * size == pytest.approx(float(theory.effective_sample_size(logs)), rel=1e-12)


def test_at_the_reference_the_effective_sample_size_is_the_number_of_draws():
    d = weight_diagnostics([sampled(np.random.default_rng(i), 8) for i in range(5)])
    assert (d.ess == 8.0).all()  # exactly, not up to rounding
    assert (d.chi_square == 0.0).all()
    assert not d.low.any()


def test_sides_and_sources_take_their_own_weights():
    """Catches swapped sides, and posterior weights where the prior traces are asked about."""
    pair = sampled(np.random.default_rng(2), 30, spread=0.7, prior=40)
    posterior, prior = weight_diagnostics([pair]), weight_diagnostics([pair], "prior")
    assert (posterior.draws[0], prior.draws[0]) == (30, 40)
    for side in (0, 1):
        rows, pool = pair.draws[:, side], pair.prior[:, side]
        logs = pair.log_prob[rows] - pair.log_prob_ref[rows]
        assert posterior.ess[0, side] == pytest.approx(float(theory.effective_sample_size(logs)), rel=1e-12)
        assert posterior.khat[0, side] == tail_shape(logs).khat
        assert prior.ess[0, side] == pytest.approx(
            float(theory.effective_sample_size(pair.log_prob_answer[pool])), rel=1e-12
        )
        assert prior.khat[0, side] == tail_shape(pair.log_prob_answer[pool]).khat


def test_enumerated_weights_give_the_limit_of_sampled_ones(by_hand):
    """1 / (1 + chi^2) by the closed form of the divergence, and what 20 000 draws of the posterior come to."""
    rng = np.random.default_rng(4)
    pair = by_hand.pair(rng, 5, shift=0.8)
    d = weight_diagnostics([pair])
    assert np.isnan(d.ess).all()
    assert np.isnan(d.khat).all()
    for side, rows in enumerate(pair.support):
        reference = theory.normalised_weights(pair.log_prob_ref[rows])
        policy = theory.normalised_weights(pair.log_prob[rows])
        exact = theory.chi_square(policy, reference)
        assert d.chi_square[0, side] == pytest.approx(exact, rel=1e-9)
        drawn = rng.choice(rows, size=20_000, p=reference)
        assert ess_share(pair.log_prob[drawn] - pair.log_prob_ref[drawn]) == pytest.approx(1 / (1 + exact), rel=0.05)


# --- summaries ---------------------------------------------------------------------------------------------


def diagnostics(share, khat, draws, source="posterior"):
    share, khat = np.asarray(share, dtype=float), np.asarray(khat, dtype=float)
    n = len(share)
    return WeightDiagnostics(source, tuple(map(str, range(n))), np.full(n, draws), share, khat)


def test_shares_count_sides_and_take_prompts_as_clusters():
    """Catches sides counted as independent prompts: both sides of a prompt fail together here."""
    share = np.repeat([[0.01], [0.9], [0.9], [0.9], [0.9], [0.9], [0.9], [0.01]], 2, axis=1)
    s = summarise_weights(diagnostics(share, np.where(share < 0.5, 1.2, 0.1), 100))
    assert s.low_ess.value == pytest.approx(0.25)
    by_prompt = (share[:, 0] < 0.5).astype(float)
    assert s.low_ess.se == pytest.approx(by_prompt.std(ddof=1) / np.sqrt(8), rel=1e-9)
    size = 0.25 * 0.75 / s.low_ess.se**2
    assert size == pytest.approx(7)  # prompts less one, not sixteen sets
    p, z2 = 0.25, 1.959963984540054**2  # the ends solve (end - p)^2 = z^2 end (1 - end) / size
    for end in (s.low_ess.ci_low, s.low_ess.ci_high):
        assert (end - p) ** 2 == pytest.approx(z2 * end * (1 - end) / size, rel=1e-9)
    assert (s.high_khat.value, s.unusable_khat.value) == (0.25, 0.25)
    assert s.ess_quantiles[2] == 0.9
    assert s.khat_quantiles[0] == 0.1
    assert s.khat_quantiles[-1] == 1.2


def test_no_failure_among_few_prompts_is_no_proof():
    """Catches the interval [0, 0]: among 30 prompts of which 5 % fail, none fails in a fifth of the samples."""
    s = summarise_weights(diagnostics(np.full((30, 2), 0.9), np.full((30, 2), 0.1), 100))
    exact = binomtest(0, 30).proportion_ci(method="wilson")
    for share in (s.low_ess, s.high_khat, s.unusable_khat):
        assert (share.value, share.ci_low) == (0.0, 0.0)
        assert share.ci_high == pytest.approx(exact.high, rel=1e-9)
    rng = np.random.default_rng(0)
    covered = []
    for fails in rng.random((400, 30)) < 0.05:
        share = np.where(fails, 0.01, 0.9)[:, None] * np.ones(2)
        low = summarise_weights(diagnostics(share, np.full((30, 2), 0.1), 100)).low_ess
        covered.append(low.ci_low <= 0.05 <= low.ci_high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_equal_weights_cannot_fail():
    s = summarise_weights(diagnostics(np.ones((5, 2)), np.full((5, 2), np.nan), 100))
    assert (s.low_ess.method, s.low_ess.ci_high) == ("exact", 0.0)


def test_low_means_below_ten_or_for_few_draws_below_half():
    for draws, shares, expected in (
        (100, [[0.09, 0.11]], [[True, False]]),
        (20, [[0.49, 0.51]], [[True, False]]),
        (8, [[0.49, 0.51]], [[True, False]]),
        (0, [[0.49, 0.51]], [[True, False]]),
    ):
        assert diagnostics(shares, [[np.nan, np.nan]], draws).low.tolist() == expected


def test_usable_shapes_depend_on_the_number_of_draws():
    s = summarise_weights(diagnostics(np.full((5, 2), 0.6), np.full((5, 2), 0.55), 100))
    assert (s.high_khat.value, s.unusable_khat.value) == (0.0, 1.0)


def test_flags_say_what_fails_and_what_to_do():
    fine = summarise_weights(diagnostics(np.full((5, 2), 0.9), np.full((5, 2), 0.1), 100))
    assert fine.flags == ()
    bad = summarise_weights(diagnostics(np.full((5, 2), 0.02), np.full((5, 2), np.inf), 100, "prior"))
    assert [flag.level for flag in bad.flags] == ["warning", "warning"]
    assert "effective sample size below 10" in bad.flags[0].text
    assert "tail shape above 0.7" in bad.flags[1].text
    assert all("pooled estimator stays unbiased" in flag.text for flag in bad.flags)
    share = np.full((20, 2), 0.9)
    share[0, 0] = 0.02
    rare = summarise_weights(diagnostics(share, np.full((20, 2), 0.1), 100))
    assert [flag.level for flag in rare.flags] == ["note"]
    assert "2%" in rare.flags[0].text


def test_a_missing_shape_is_a_note_and_not_a_zero():
    s = summarise_weights(weight_diagnostics([sampled(np.random.default_rng(i), 6, spread=0.1) for i in range(4)]))
    assert s.high_khat is None
    assert s.khat_quantiles is None
    assert [flag.level for flag in s.flags] == ["note"]
    assert "6 draws per side, a tail shape needs 25" in s.flags[0].text


def test_shapes_that_are_missing_for_some_do_not_count_as_good():
    khat = np.full((6, 2), np.nan)
    khat[:3] = 0.9
    s = summarise_weights(diagnostics(np.full((6, 2), 0.6), khat, 100))
    assert s.high_khat.value == 1.0


def test_too_few_prompts_have_no_interval():
    s = summarise_weights(diagnostics(np.full((3, 2), 0.6), np.full((3, 2), 0.1), 100))
    assert np.isnan(s.low_ess.ci_low)
    assert s.low_ess.method == "degenerate"


def test_what_cannot_be_judged_is_refused(by_hand):
    with pytest.raises(ValueError, match="no pairs"):
        weight_diagnostics([])
    with pytest.raises(ValueError, match="no prior traces were scored"):
        weight_diagnostics([replace(toy_pair(), prior=np.empty((0, 2), dtype=np.int64))], "prior")
    with pytest.raises(ValueError, match="judge them apart"):
        weight_diagnostics([toy_pair(), toy_pair(enumerated=True)])
