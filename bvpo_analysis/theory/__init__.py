"""Closed forms on plain numbers and NumPy arrays: what is proved about BVPO's mixed gradient, callable. No torch.

One file per family of statements; every function states its equation, its assumptions and its proof or source, and
broadcasts over arrays in float64. Symbols of the paper (BVPO, arXiv 2510.05095) and of the theory around it, and the
words used for them as arguments. The target is mu = grad L_m; brackets are inner products, |.| Euclidean norms.

    ====================  ==========================================  ===============================================
    symbol                meaning                                     argument
    ====================  ==========================================  ===============================================
    alpha                 weight of g_t in g_c                        ``alpha``
    A                     E|g_t - mu|^2                               ``error_t``
    C                     E|g_e - mu|^2                               ``error_e``
    B                     E<g_t - mu, g_e - mu>                       ``cross``
    D                     E|g_t - g_e|^2 = A + C - 2B                 ``distance``
    b_t, b_e              biases E g_t - mu, E g_e - mu               ``bias_t_sq``, ``bias_e_sq``, ``bias_inner``
    S_t, S_e, S_te        traces of covariances, all randomness       ``var_t``, ``var_e``, ``cov_te``
    V, tau                Tr Var_r(g_t) of one trace, its mean        ``trace_var``
    v_t, v_e, c           data parts of S_t, S_e, S_te (one prompt)   ``data_var_t``, ``data_var_e``, ``data_cov``
    B, K                  prompts per batch, traces per answer        ``batch_size``, ``traces``
    eta, L, kappa         step size, smoothness, eta L                ``step_size``, ``smoothness``, ``kappa``
    zeta, sigma^2         bounds on the bias and the noise variance   ``bias_bound``, ``noise_var``
    Delta, T              f(x_0) - f*, number of steps                ``initial_gap``, ``steps``
    m                     strong convexity, PL constant               ``strong_convexity``, ``pl_constant``
    Q_ij, u_i             E<g_i, g_j>, <mu, E g_i>                    ``second_moments``, ``signals``
    Q_tt, Q_ee, Q_te      the same for two                            ``second_t``, ``second_e``, ``second_te``
    u_t, u_e              <mu, E g_t>, <mu, E g_e>                    ``signal_t``, ``signal_e``
    M_ij                  E<g_i - mu, g_j - mu>                       ``moments``
    S                     covariance matrix of g_t                    ``covariance``
    c_t, c_e, c_x         cost of a trace pair, empty pair, prompt    ``cost_trace``, ``cost_empty``, ``cost_prompt``
    rho+, rho-            log pi_theta(r, y|x) - log pi_ref(r, y|x)   ``log_ratios_chosen``, ``log_ratios_rejected``
    s(r, y), C(y)         score, its posterior covariance             fields of ``TraceLaw``
    Tr C                  trace of a covariance of scores             ``score_var``
    beta                  inverse temperature of DPO                  ``beta``
    M, chi^2              draws of a proposal, its divergence         ``count``, ``divergence``
    ====================  ==========================================  ===============================================

The argument's name says whether B is a batch or a cross moment. ``batch_optimal_weight`` and ``population_mix`` take
``var_e`` of one prompt: g_e may have noise of its own beside v_e.
"""

from bvpo_analysis.theory.batch import (
    BatchWeightLimits,
    batch_optimal_weight,
    batch_weight_limits,
)
from bvpo_analysis.theory.blocks import (
    BlockGain,
    blockwise_gain,
)
from bvpo_analysis.theory.combination import (
    Combination,
    affine_combination,
    error_moments,
    scaling_combination,
    simplex_combination,
    weighted_moments,
)
from bvpo_analysis.theory.compute import (
    PopulationMix,
    consistent_error,
    equal_budget_batch,
    equal_budget_traces,
    fixed_weight_error,
    mixed_error,
    mixed_weight,
    optimal_traces,
    population_mix,
    traces_an_empty_is_worth,
    traces_to_reach,
    variance_at_budget,
)
from bvpo_analysis.theory.convex import (
    ConvexWeight,
    convex_bound,
    convex_floor,
    convex_optimal_weight,
)
from bvpo_analysis.theory.descent import (
    CosineMix,
    DescentBound,
    RetunedStep,
    RetunedWeights,
    cosine,
    cosine_optimal_weight,
    descent_bound,
    descent_optimal_weight,
    descent_weight_shift,
    retuned_step,
    retuned_weights,
)
from bvpo_analysis.theory.empty_trace import (
    empty_trace_bias,
    initial_weight,
    largest_gap,
    largest_initial_weight,
    posterior_variance_from_tokens,
)
from bvpo_analysis.theory.equal_weight import (
    EqualMix,
    equal_mix,
    equal_mix_ratio,
)
from bvpo_analysis.theory.importance_sampling import (
    PooledMean,
    chi_square,
    effective_sample_size,
    jackknife_corrected,
    jackknife_weights,
    leave_one_out_weights,
    limiting_sample_size,
    log_mean_weight,
    log_mean_weight_bias,
    normalised_weights,
    pooled_mean,
    self_normalised_bias,
    self_normalised_mean,
    self_normalised_variance,
)
from bvpo_analysis.theory.literature_bounds import (
    BiasedABC,
    biased_abc_bound,
    biased_abc_constants,
    biased_abc_looseness,
    relative_bias_bound,
)
from bvpo_analysis.theory.marginal_estimator import (
    AnswerLaw,
    MarginalCoefficients,
    MarginalRate,
    antithetic_coefficients,
    expected_traces,
    level_probability,
    marginal_coefficients,
    marginal_rate,
)
from bvpo_analysis.theory.mixing import (
    ClippedOptimum,
    OptimumRange,
    clipped_optimum,
    error_curve,
    is_degenerate,
    optimal_error,
    optimal_error_from_distance,
    optimal_weight,
    optimal_weight_dual,
    optimal_weight_from_distance,
    optimum_range,
    regret,
    weight_change_with_target,
)
from bvpo_analysis.theory.nonconvex import (
    StationarityFloor,
    classical_bound,
    improved_bound,
    one_step_bound,
    sharp_bound,
    stationarity_floor,
    telescoped_bound,
    varying_steps_bound,
)
from bvpo_analysis.theory.quadratics import (
    QuadraticPath,
    QuadraticStationary,
    quadratic_path,
    quadratic_stationary,
    steady_variance_weight,
)
from bvpo_analysis.theory.shrinkage import (
    Spectrum,
    estimated_constant,
    exact_risk,
    inverse_chi_square,
    inverse_distance_moment,
    isotropic_risk,
    risk_bound,
    shrinkage_spectrum,
    shrinkage_weight,
)
from bvpo_analysis.theory.step_size import (
    WeightPath,
    bias_optimal_weight,
    cosine_step_sizes,
    horizon_kappa,
    scheduled_weights,
    step_size_regret,
    step_size_regret_factor,
    unit_kappa_horizon,
    variance_optimal_weight,
    weight_path,
    weight_shift,
    weighted_error_curve,
    weighted_optimal_weight,
)
from bvpo_analysis.theory.strongly_convex import (
    distance_bound,
    pl_bound,
    pl_decreasing_bound,
    pl_decreasing_steps,
    pl_floor,
    worst_excess_loss_at_least,
)
from bvpo_analysis.theory.targets import (
    EmptyBiasSplit,
    PromptLaw,
    TargetErrors,
    pooled_weight,
    split_empty_bias,
)
from bvpo_analysis.theory.total_variance import (
    VarianceOfMix,
    conditional_variance_of_mix,
    mixing_raises_total_variance,
    variance_of_mix,
)
from bvpo_analysis.theory.trace_bias import (
    offline_trace_bias,
    on_policy_trace_bias,
    prior_trace_bias,
    small_beta_bias,
    small_beta_remainder,
    trace_loss_lower_bound,
    trace_variance_at_reference,
)
from bvpo_analysis.theory.trace_laws import (
    LossAtReference,
    TraceLaw,
    difference_covariance,
    posterior_divergence,
)
from bvpo_analysis.theory.weight_given_data import (
    ConditionalWeight,
    conditional_weight,
    conditional_weight_from_squares,
)

__all__ = [  # noqa: RUF022 - by family, in reading order
    # what mixing does to the error and to the variance
    "ClippedOptimum",
    "OptimumRange",
    "is_degenerate",
    "optimal_weight_from_distance",
    "optimal_weight_dual",
    "optimal_weight",
    "error_curve",
    "regret",
    "optimal_error",
    "optimal_error_from_distance",
    "clipped_optimum",
    "optimum_range",
    "weight_change_with_target",
    "EqualMix",
    "equal_mix",
    "equal_mix_ratio",
    "VarianceOfMix",
    "conditional_variance_of_mix",
    "variance_of_mix",
    "mixing_raises_total_variance",
    # which target, which batch, which traces
    "TargetErrors",
    "PromptLaw",
    "pooled_weight",
    "EmptyBiasSplit",
    "split_empty_bias",
    "BatchWeightLimits",
    "batch_optimal_weight",
    "batch_weight_limits",
    "ConditionalWeight",
    "conditional_weight",
    "conditional_weight_from_squares",
    # step sizes
    "WeightPath",
    "weighted_error_curve",
    "weighted_optimal_weight",
    "bias_optimal_weight",
    "variance_optimal_weight",
    "weight_path",
    "weight_shift",
    "step_size_regret",
    "step_size_regret_factor",
    "cosine_step_sizes",
    "scheduled_weights",
    "horizon_kappa",
    "unit_kappa_horizon",
    "DescentBound",
    "RetunedStep",
    "CosineMix",
    "RetunedWeights",
    "descent_bound",
    "descent_optimal_weight",
    "descent_weight_shift",
    "cosine",
    "retuned_step",
    "cosine_optimal_weight",
    "retuned_weights",
    # more than two estimators, blocks of parameters, shrinkage, cost
    "Combination",
    "error_moments",
    "weighted_moments",
    "affine_combination",
    "simplex_combination",
    "scaling_combination",
    "BlockGain",
    "blockwise_gain",
    "Spectrum",
    "shrinkage_spectrum",
    "shrinkage_weight",
    "estimated_constant",
    "inverse_chi_square",
    "isotropic_risk",
    "inverse_distance_moment",
    "exact_risk",
    "risk_bound",
    "mixed_error",
    "mixed_weight",
    "fixed_weight_error",
    "traces_an_empty_is_worth",
    "equal_budget_traces",
    "equal_budget_batch",
    "PopulationMix",
    "population_mix",
    "optimal_traces",
    "variance_at_budget",
    "consistent_error",
    "traces_to_reach",
    # biased SGD
    "one_step_bound",
    "classical_bound",
    "improved_bound",
    "telescoped_bound",
    "varying_steps_bound",
    "sharp_bound",
    "StationarityFloor",
    "stationarity_floor",
    "pl_bound",
    "pl_floor",
    "pl_decreasing_steps",
    "pl_decreasing_bound",
    "distance_bound",
    "worst_excess_loss_at_least",
    "convex_bound",
    "convex_floor",
    "ConvexWeight",
    "convex_optimal_weight",
    "QuadraticPath",
    "QuadraticStationary",
    "quadratic_path",
    "quadratic_stationary",
    "steady_variance_weight",
    "relative_bias_bound",
    "BiasedABC",
    "biased_abc_constants",
    "biased_abc_bound",
    "biased_abc_looseness",
    # is g_t unbiased, and how far off is g_e
    "LossAtReference",
    "TraceLaw",
    "difference_covariance",
    "posterior_divergence",
    "trace_variance_at_reference",
    "prior_trace_bias",
    "offline_trace_bias",
    "on_policy_trace_bias",
    "small_beta_bias",
    "small_beta_remainder",
    "trace_loss_lower_bound",
    "empty_trace_bias",
    "initial_weight",
    "largest_gap",
    "largest_initial_weight",
    "posterior_variance_from_tokens",
    # estimating the target from several traces
    "normalised_weights",
    "log_mean_weight",
    "effective_sample_size",
    "chi_square",
    "limiting_sample_size",
    "self_normalised_mean",
    "self_normalised_bias",
    "self_normalised_variance",
    "log_mean_weight_bias",
    "jackknife_corrected",
    "leave_one_out_weights",
    "jackknife_weights",
    "PooledMean",
    "pooled_mean",
    "MarginalCoefficients",
    "marginal_coefficients",
    "AnswerLaw",
    "MarginalRate",
    "marginal_rate",
    "antithetic_coefficients",
    "level_probability",
    "expected_traces",
]
