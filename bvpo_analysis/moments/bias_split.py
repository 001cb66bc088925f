"""The bias of the empty-trace gradient, split into what its data and what its missing trace contribute.

L_e is trained on pairs of its own, whose answers were generated without thinking. So with g_e on these answers and
g_es on the answers of the trace-based pair, both with an empty trace,

    b_e = (E g_e - E g_es)  +  (E g_es - mu)
           data shift           trace shift

and |b_e|^2 = |data|^2 + |trace|^2 + 2 <data, trace>. Both shifts are differences of means over prompts, estimated by
cross-prompt U-statistics as everything else.
"""

from dataclasses import dataclass

from bvpo_analysis.moments.intervals import jackknife_estimate
from bvpo_analysis.moments.joint import JointMoments
from bvpo_analysis.records import Estimate


@dataclass(frozen=True)
class BiasSplit:
    """|b_e|^2 and its parts; unbiased estimates, which may be negative.

    Attributes:
        total: |b_e|^2.
        data_sq: |E g_e - E g_es|^2.
        trace_sq: |E g_es - mu|^2.
        inner: <E g_e - E g_es, E g_es - mu>; total = data_sq + trace_sq + 2 inner.
    """

    total: Estimate
    data_sq: Estimate
    trace_sq: Estimate
    inner: Estimate


def split_bias(joint: JointMoments, own: str = "empty", shared: str = "empty_shared") -> BiasSplit:
    """Split the bias of the empty-trace gradient.

    Args:
        joint: joint moments that hold both.
        own: the estimator on the answers of the empty-trace data.
        shared: the estimator on the answers of the trace-based pairs.

    Raises:
        ValueError: one of them is missing, or is declared unbiased.
    """
    a, b = joint.index(own), joint.index(shared)
    for name in (own, shared):
        if name in joint.unbiased:
            raise ValueError(f"{name!r} is declared unbiased; there is no bias to split")
    return BiasSplit(
        total=joint.bias_sq(own),
        data_sq=joint.shift_sq(own, shared),
        trace_sq=joint.bias_sq(shared),
        inner=jackknife_estimate(-joint.bias_with_diff[:, b, a]),
    )
