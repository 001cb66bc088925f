"""Moments of gradient estimators from inner products of scores: bias, variance, covariance, with intervals.

Knows no language model. ``population_moments`` estimates from sampled traces at the reference, where g_t is unbiased
and the target needs no extra traces; ``joint_moments`` does so for any number of estimators against any target;
``enumerated_moments`` computes exactly where every trace is enumerated.
"""

from bvpo_analysis.moments.bias_split import BiasSplit, split_bias
from bvpo_analysis.moments.bootstrap import PromptBootstrap, bootstrap_interval, cross_products, prompt_bootstrap
from bvpo_analysis.moments.enumerated import PromptMoments, enumerated_moments, prompt_moments
from bvpo_analysis.moments.intervals import (
    FiellerSet,
    SquaredBiasNoise,
    bounded_ratio_set,
    fieller_set,
    jackknife_covariance,
    jackknife_estimate,
    profile_estimate,
    score_estimate,
)
from bvpo_analysis.moments.joint import JointMoments, PairMoments, joint_moments
from bvpo_analysis.moments.label_noise import flip_labels
from bvpo_analysis.moments.law import GradientLaw, Moments
from bvpo_analysis.moments.population import population_moments, squared_bias_noise
from bvpo_analysis.moments.power import (
    Pilot,
    SampleSize,
    VarianceComponents,
    alpha_pilot,
    halves,
    predicted_width,
    prompts_for_width,
)
from bvpo_analysis.moments.ustatistics import leave_one_out_mean, leave_one_out_ustatistic

__all__ = [
    "BiasSplit",
    "FiellerSet",
    "GradientLaw",
    "JointMoments",
    "Moments",
    "PairMoments",
    "Pilot",
    "PromptBootstrap",
    "PromptMoments",
    "SampleSize",
    "SquaredBiasNoise",
    "VarianceComponents",
    "alpha_pilot",
    "bootstrap_interval",
    "bounded_ratio_set",
    "cross_products",
    "enumerated_moments",
    "fieller_set",
    "flip_labels",
    "halves",
    "jackknife_covariance",
    "jackknife_estimate",
    "joint_moments",
    "leave_one_out_mean",
    "leave_one_out_ustatistic",
    "population_moments",
    "predicted_width",
    "profile_estimate",
    "prompt_bootstrap",
    "prompt_moments",
    "prompts_for_width",
    "score_estimate",
    "split_bias",
    "squared_bias_noise",
]
