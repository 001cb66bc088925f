"""A study off the reference from sampled traces, on populations of known truth and on the model in the box."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.errors import InputError
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.objectives import DPO, SimPO
from bvpo_analysis.off_reference.checkpoints import ShortRun, train_briefly
from bvpo_analysis.off_reference.replications import sampled_study
from bvpo_analysis.off_reference.studies import StudyTables
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.results import study_results
from bvpo_analysis.sampled_target import (
    correction_flag,
    coverage_flag,
    estimate_off_reference,
    off_reference_estimators,
    off_reference_totals,
    squared_bias,
)
from bvpo_analysis.scores import score_pairs
from bvpo_analysis.study import Study

LOSS = DPO(1.0)


def study(population, *, prompts=12, traces=4, seed=0):
    sample = population.draw(np.random.default_rng(seed), prompts, traces)
    scores = population.scores_of(sample, *off_reference_estimators(LOSS, traces).values())
    return estimate_off_reference(scores, LOSS, traces), sample


def test_numbers_are_those_of_the_jackknife_target(population_of):
    population = population_of(0.3)
    found, sample = study(population)
    expected = sampled_study(population, sample, LOSS)
    for ours, theirs in ((found.joint, expected["jackknife"]), (found.plug_in, expected["plug-in"])):
        np.testing.assert_allclose(ours.bias_gram, theirs.bias_gram, rtol=1e-10, atol=1e-14)
        assert ours.target_bias == theirs.target_bias
    # The intervals are those whose coverage is measured.
    fast = StudyTables(population, LOSS).moments(sample, "jackknife")["jackknife"]
    for first, second in ((found.bias_t_sq, fast.bias_t_sq), (found.bias_e_sq, fast.bias_e_sq)):
        for name in ("value", "se", "ci_low", "ci_high"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-6, abs=1e-9), name
        assert first.method == second.method == "score-jackknife"
    assert found.alpha(8, 0.5) == mixing.optimal_alpha(found.joint.law("trace", "empty", 8), 0.5)
    assert found.traces == 4


def test_nothing_is_flagged_at_the_reference(population_of):
    found, _ = study(population_of(0.0))
    assert found.flags() == tuple(flag for flag in found.weights.flags if flag.level == "note")
    np.testing.assert_allclose(found.joint.bias_gram, found.plug_in.bias_gram, atol=1e-12)


def test_far_off_few_traces_are_flagged(population_of):
    found, _ = study(population_of(1.5), prompts=64)
    warnings = [flag.text for flag in found.flags() if flag.level == "warning"]
    assert any("|b_t|^2: the jackknife corrects the estimate from 4 traces" in text for text in warnings)
    assert any("ESS below half the draws" in text for text in warnings)


def test_the_correction_is_judged_in_standard_errors():
    number = Estimate(1.0, 0.1, 0.8, 1.2, 64, "jackknife")
    assert correction_flag("x", number, replace(number, value=0.951), 4) is None
    flag = correction_flag("x", number, replace(number, value=0.949), 4)
    assert flag is not None
    assert "by 0.5 standard errors" in flag.text
    assert correction_flag("x", replace(number, se=0.0), replace(number, value=0.9), 4).level == "warning"
    assert correction_flag("x", replace(number, se=0.0), number, 4) is None


def test_traces_that_no_longer_cover_the_policy_are_flagged(population_of):
    far, _ = study(population_of(1.5), prompts=24, traces=32)
    assert far.weights.ess_share.value < 2 / 3
    assert any("hardly ever drawn from the reference" in flag.text for flag in far.flags())
    near, _ = study(population_of(0.1), prompts=24, traces=32)
    assert near.weights.ess_share.value > 0.85
    assert not any("hardly ever drawn" in flag.text for flag in near.flags())
    assert coverage_flag(2 / 3) is None
    assert "66% count" in coverage_flag(0.66).text


def test_one_trace_is_too_few():
    with pytest.raises(InputError, match="two or more traces per answer"):
        off_reference_estimators(LOSS, 1)


@pytest.fixture(scope="module")
def pairs():
    return shipped_pairs("valid", limit=8)


@pytest.fixture(scope="module")
def trained(lrm, pairs):
    return train_briefly(lrm, pairs, DPO(), ShortRun(steps=4, batch_size=8))


def test_a_study_of_a_checkpoint_is_that_of_the_jackknife_target(lrm, trained, pairs):
    objective = DPO()
    study = Study.from_pairs(trained, pairs, traces=4, reference=lrm)
    scores = score_pairs(lrm=trained, pairs=pairs, traces=4, reference=lrm, totals=off_reference_totals(objective, 4))
    found = estimate_off_reference(scores, objective, 4)
    assert study.off_reference is not None
    assert study.off_reference.traces == 4
    assert 0 < study.off_reference.weights.ess_share.value < 1
    assert study.off_reference.joint.target_bias == "O(1/K^2)"
    for name in ("bias_t_sq", "bias_e_sq", "bias_inner", "var_t", "trace_var", "cov_te", "target_sq"):
        np.testing.assert_array_equal(getattr(study.whole, name), getattr(found.moments, name), err_msg=name)
    assert study.optimal_alpha(batch_size=8, kappa=0.5).estimate == found.alpha(8, 0.5).estimate
    assert found.bias_t_sq.value != squared_bias(found.plug_in, "trace").value
    # The gradient of the model is that of its groups put together.
    np.testing.assert_allclose(sum(moments.var_t for moments in study.by_group.values()), study.whole.var_t, rtol=1e-5)
    # K traces make one estimate of the target, so that nothing is known about its spread given the prompt.
    assert study.whole.trace_var is not None
    with pytest.raises(ValueError, match="do not identify the per-prompt target"):
        study.optimal_alpha(target="per_prompt")


def test_sampled_traces_tell_what_enumerated_ones_do(lrm, trained, pairs):
    """Catches an unbiased g_t taken for granted, and ratios of the wrong sign: |b_t|^2 and alpha* agree with truth."""
    sampled = Study.from_pairs(trained, pairs, traces=4, reference=lrm)
    exact = Study.from_pairs(trained, pairs, reference=lrm, enumerate_traces=shipped_traces)
    assert exact.off_reference is None
    for batch_size in (1, 16):
        law, truth = (study.law(batch_size=batch_size) for study in (sampled, exact))
        se = mixing.optimal_alpha(law).estimate.se
        assert mixing.optimal_alpha(law).estimate.value == pytest.approx(
            mixing.optimal_alpha(truth).estimate.value, abs=4 * se
        )
        assert law.var_t[0] == pytest.approx(truth.var_t[0], rel=0.3)


def test_a_report_takes_no_biased_gradient_for_an_unbiased_one(lrm, trained, pairs):
    """The estimate of |b_t|^2 may be negative; that is no sign of an unbiased g_t."""
    study = Study.from_pairs(trained, pairs, traces=4, reference=lrm)
    bias = np.abs(study.whole.bias_t_sq)
    for value in (bias, -bias):
        biased = replace(study, whole=replace(study.whole, bias_t_sq=value))
        found = study_results(biased, pairs, batch_size=16, kappa=1.0)
        assert found["headline"]["traces_worth"] is None
        assert found["headline"]["batch_equivalent"] is None


def test_what_does_not_identify_the_target_is_refused(lrm, trained, pairs):
    with pytest.raises(InputError, match="two or more traces per answer, got --traces 1"):
        Study.from_pairs(trained, pairs, traces=1, reference=lrm)
    with pytest.raises(InputError, match="simpo loss g_t is biased"):
        Study.from_pairs(trained, pairs, objective=SimPO(), traces=4, reference=lrm)
    assert Study.from_pairs(lrm, pairs[:4], traces=1, reference=lrm).off_reference is None
