"""Training methods as gradient estimators: what is differentiated on which rows of a batch.

| method | first gradient | second gradient |
|---|---|---|
| dpo | g_t, one trace per answer | |
| empty | g_e | |
| bvpo | g_t | g_e, mixed by a weight rule |
| multi_trace | mean over K traces, the K-trace marginal, or a pool of one trace per answer and K - 1 prior traces | |
| mixed_data | g_t on rows of D_t and g_e on rows of D_e, both in one shuffled data set | |
"""

from dataclasses import dataclass

from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Estimator, KMarginal, MultiTrace, Pooled, Trace
from bvpo_analysis.objectives import Objective

METHODS = ("dpo", "empty", "bvpo", "multi_trace", "mixed_data")
COMBINATIONS = ("average", "marginal", "pooled")
"""How ``multi_trace`` uses several traces.

"average" keeps the bias of g_t however many there are; "marginal" and "pooled" tend to the gradient of the marginal
loss with bias O(1/K). The pool weighs its traces, which are those of the reference, by
pi_theta(r, y | x) / pi_ref(r | x), so it stays consistent off the reference; its weights degenerate as the policy
leaves the traces of the reference.
"""


@dataclass(frozen=True)
class Method:
    """What a step differentiates.

    Attributes:
        name: its name, with what it depends on.
        trace: estimator on trace-based sequences, or None.
        empty: estimator on empty-trace sequences, or None.
        traces: posterior traces per answer it needs.
        prior: prior traces per prompt it needs.
        separate_rows: True where a row of a batch has either a trace or an empty trace, not both (mixed data).
    """

    name: str
    trace: Estimator | None
    empty: Estimator | None
    traces: int = 1
    prior: int = 0
    separate_rows: bool = False

    @property
    def mixes(self) -> bool:
        """Whether a weight between two gradients is needed."""
        return self.trace is not None and self.empty is not None and not self.separate_rows


def method_of(
    name: str,
    objective: Objective,
    *,
    traces: int = 1,
    combination: str = "average",
) -> Method:
    """A method by name.

    Args:
        name: one of ``METHODS``.
        objective: the loss.
        traces: K of ``multi_trace``; of a pool, all its members.
        combination: how ``multi_trace`` combines them.

    Raises:
        InputError: an unknown name or combination, fewer than two traces for ``multi_trace``, or the marginal of a
            reference-free loss.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> method_of("bvpo", DPO(0.1)).mixes, method_of("dpo", DPO(0.1)).mixes
        (True, False)
    """
    if name not in METHODS:
        raise InputError(f"unknown --method {name!r}; choose among {', '.join(METHODS)}")
    if name == "dpo":
        return Method(name, Trace(objective), None)
    if name == "empty":
        return Method(name, None, EmptyTrace(objective))
    if name == "bvpo":
        return Method(name, Trace(objective), EmptyTrace(objective))
    if name == "mixed_data":
        return Method(name, Trace(objective), EmptyTrace(objective), separate_rows=True)
    if combination not in COMBINATIONS:
        raise InputError(f"unknown --combination {combination!r}; choose among {', '.join(COMBINATIONS)}")
    if traces < 2:
        raise InputError(f"multi_trace needs --traces 2 or more, got {traces}; with one trace it is --method dpo")
    label = f"{name}.{combination}.K{traces}"
    if combination == "average":
        return Method(label, MultiTrace(objective, traces=traces), None, traces=traces)
    if combination == "pooled":
        return Method(label, Pooled(objective, pool=traces), None, prior=traces - 1)
    if objective.reference_free:
        raise InputError(
            f"--combination marginal needs a loss of log-ratios, which {objective.name} is not; use average or pooled"
        )
    return Method(label, KMarginal(objective, traces=traces), None, traces=traces)
