"""Off the reference: what a step away from theta_ref does to b_t, to the weights, and to what samples can tell.

Predictions (``leading_bias``) and the shift of the traces (``shift``) are plain arrays. Checkpoints, the path through
parameter space and the sampled studies need a language model and are imported by their module names; what they gave on
the model in the box is committed (``measured``).

    >>> from bvpo_analysis.off_reference import stale_trace_bias, trace_shift
"""

from bvpo_analysis.off_reference.leading_bias import (
    fresh_trace_bias,
    small_beta_trace_bias,
    stale_trace_bias,
    with_fresh_traces,
)
from bvpo_analysis.off_reference.measured import off_reference_rows, sampled_rows
from bvpo_analysis.off_reference.shift import TraceShift, enumeration_flag, trace_shift, weight_if_unbiased

__all__ = [
    "TraceShift",
    "enumeration_flag",
    "fresh_trace_bias",
    "off_reference_rows",
    "sampled_rows",
    "small_beta_trace_bias",
    "stale_trace_bias",
    "trace_shift",
    "weight_if_unbiased",
    "with_fresh_traces",
]
