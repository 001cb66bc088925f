"""A minimal preference trainer whose gradient is the one that is analysed.

Every method is a pair of gradient estimators and a rule for the weight between them: a step forms g_t and g_e from the
same coefficients that the analysis uses, mixes them, and hands the result to the optimiser. So what a study says about
an estimator it says about this trainer.

    batches    which pairs a step sees: a pure function of seed and step
    losses     the mixed loss as a function of log-probabilities, to drop into another training loop
    gradients  g = sum_j c_j s_j of a batch, by one forward and one backward pass
    methods    dpo, empty, bvpo, multi_trace, mixed_data as estimators
    weights    rules for alpha: fixed, or from running moments of independent half batches
    smoothness L where a run starts, for kappa = eta L
    loop       the loop itself
    held_out   loss and preference accuracy on pairs that are not trained on, for early stopping
    probe      variances, biases and alpha* of a policy in training, by the analyser
    parameters all, those of a name, or low-rank adapters
    run        one run from its options to its folder, which ``python -m bvpo_analysis.train`` calls
    checkpoints, progress, config   exact resumption, and the options of a run
"""

from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.gradients import BatchGradient, batch_gradient
from bvpo_analysis.training.held_out import HeldOut, split_pairs
from bvpo_analysis.training.loop import TrainingRun, train
from bvpo_analysis.training.losses import bvpo_loss
from bvpo_analysis.training.methods import Method, method_of
from bvpo_analysis.training.running_moments import RunningMoments
from bvpo_analysis.training.weights import WeightRule, weight_rule

__all__ = [
    "BatchGradient",
    "HeldOut",
    "Method",
    "RunningMoments",
    "TrainConfig",
    "TrainingRun",
    "WeightRule",
    "batch_gradient",
    "bvpo_loss",
    "method_of",
    "split_pairs",
    "train",
    "weight_rule",
]
