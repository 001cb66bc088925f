"""A diagonal metric: every inner product <s, s'> becomes <s, P s'> with a positive P, one number per parameter.

A step of a preconditioned optimiser is -eta P g, so what matters for it of an estimator are bias, variance and weight
in the products <., .>_P. For Adam, P = 1 / (sqrt(v) + eps) with v the second moments of its gradients. The metric is
applied to the rows of scores as they are filled, s -> sqrt(P) s, and everything behind them is unchanged: products
within pairs, totals, sketches and groups are those of the metric.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.scores.engines import ScoreEngine
from bvpo_analysis.scores.pair_work import BLOCK, MeanCoefficients, PairWork
from bvpo_analysis.scores.plan import plan_pair

EPSILON = 1e-8
"""Adam's eps."""
STATE_KEYS = ("{}", "{}.exp_avg_sq", "exp_avg_sq.{}", "optimizer.state.exp_avg_sq.{}")
"""How files of Adam states name the second moment of a parameter."""


class MetricEngine(ScoreEngine):
    """An engine whose rows are sqrt(P) grad log pi.

    Args:
        engine: the engine that fills the rows.
        metric: P [P], positive and finite, in the order of the engine's columns.

    Raises:
        InputError: the metric has another size, or an entry that is not positive and finite.
    """

    name = "metric"

    def __init__(self, engine: ScoreEngine, metric: torch.Tensor):
        if metric.shape != (engine.size,):
            raise InputError(
                f"the metric has shape {tuple(metric.shape)}, but {engine.size} parameters are differentiated; make it "
                "with the same --params"
            )
        if not bool(torch.isfinite(metric).all()) or not bool((metric > 0).all()):
            raise InputError("a metric must be positive and finite in every parameter")
        self.engine = engine
        self.model = engine.model
        self.token_budget = engine.token_budget
        self.names, self.groups, self.columns, self.size = engine.names, engine.groups, engine.columns, engine.size
        self._selected, self._fixed = engine._selected, engine._fixed
        self._root = metric.double().sqrt().to(engine.device, engine.buffer(0).dtype)

    @property
    def fingerprint(self) -> str:
        """Hash of the metric, as part of the key of blocks."""
        return hashlib.blake2b(self._root.cpu().numpy().tobytes(), digest_size=16).hexdigest()

    def fill(self, sequences: Sequence[TokenSequence], out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write sqrt(P) grad log pi of each sequence into ``out`` [n, P]; returns what the engine returns."""
        parts = self.engine.fill(sequences, out)
        out.mul_(self._root)
        return parts

    def _batches(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        return self.engine._batches(sequences)

    def _write(
        self, sequences: Sequence[TokenSequence], out: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = self.engine._write(sequences, out, rows)
        out[rows] *= self._root
        return parts


def adam_metric(
    lrm: ReasoningModel,
    pairs: Sequence[PreferencePair],
    gradient: MeanCoefficients,
    *,
    batch_size: float,
    epsilon: float = EPSILON,
    traces: int = 1,
    reference: ReasoningModel | None = None,
    empty_mode: EmptyMode = "prefilled",
    parameters: str | None = None,
    engine: str = "auto",
) -> torch.Tensor:
    """P = 1 / (sqrt(v) + eps) with v = E[g_B^2], the second moments of the batch gradients that Adam would see.

    Per parameter, with mean gbar and variance s^2 of the n per-pair gradients, E[g_B^2] = (E g)^2 + Var g / B is
    estimated by gbar^2 + s^2 (1/B - 1/n), without bias and, for B <= n, never below gbar^2. One pass over the pairs.

    Args:
        lrm: the model.
        pairs: the data.
        gradient: coefficients of the gradient that is optimised on a pair, such as
            ``partial(mean_coefficients, mix(trace, empty, 0.5))``.
        batch_size: B, at most the number of pairs.
        epsilon: Adam's eps.
        traces, reference, empty_mode, parameters, engine: as for :func:`score_pairs`.

    Returns:
        P [P] in float64, in the order of the engine's columns.

    Raises:
        InputError: fewer than two pairs, B outside [1, n], or eps not positive.
    """
    if len(pairs) < 2 or not 1 <= batch_size <= len(pairs):
        raise InputError(
            f"a metric from {len(pairs)} pairs needs at least two of them and a batch size between 1 and their number, "
            f"got {batch_size:g}"
        )
    if not epsilon > 0:
        raise InputError(f"epsilon must be positive, got {epsilon}; without it a parameter without gradient has none")
    plans = [plan_pair(lrm.assembler, pair, traces=traces, empty_mode=empty_mode) for pair in pairs]
    scorer = score_engine(engine, lrm.model, parameters)
    work = PairWork(lrm, reference, scorer, plans, {"gradient": gradient})
    mean = torch.zeros(scorer.size, dtype=torch.float64, device=scorer.device)
    spread = torch.zeros_like(mean)
    seen = 0
    for start in range(0, len(plans), BLOCK):
        for plan, rows, parts in work.rows(start):
            weights = work.weights(work.log_probs(plan, parts), rows)
            seen += 1
            for _, columns in work.panels():
                g = (weights @ rows[:, columns].to(weights.dtype))[0].double()
                step = g - mean[columns]
                mean[columns] += step / seen
                spread[columns] += step * (g - mean[columns])
    variance = spread / (seen - 1)
    return _preconditioner(mean.square() + variance * (1 / batch_size - 1 / seen), epsilon)


def adam_metric_from_state(
    lrm: ReasoningModel,
    path: str | Path,
    *,
    step: int,
    beta2: float = 0.999,
    epsilon: float = EPSILON,
    parameters: str | None = None,
) -> torch.Tensor:
    """P = 1 / (sqrt(v / (1 - beta2^step)) + eps) from the second moments of an Adam state.

    Args:
        lrm: the model.
        path: safetensors file with one tensor per parameter, named as the parameter or ``NAME.exp_avg_sq``.
        step: optimiser steps behind the state, for Adam's correction of its start at zero.
        beta2, epsilon: as in the optimiser.
        parameters: regular expression of the parameters to differentiate.

    Returns:
        P [P] in float64, in the order of the engine's columns.

    Raises:
        InputError: the file cannot be read, lacks a parameter, or holds another shape or a negative entry; step < 1,
            beta2 outside [0, 1) or eps not positive.
    """
    if step < 1 or not 0 <= beta2 < 1 or not epsilon > 0:
        raise InputError(f"step >= 1, 0 <= beta2 < 1 and epsilon > 0 are needed, got {step}, {beta2} and {epsilon}")
    scorer = score_engine("loop", lrm.model, parameters)
    sizes = dict(lrm.model.named_parameters())
    moments = torch.empty(scorer.size, dtype=torch.float64)
    try:
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
            for name, place in scorer.places().items():
                key = next((k.format(name) for k in STATE_KEYS if k.format(name) in held), None)
                if key is None:
                    raise InputError(f"{path}: no second moment of {name!r}; expected a tensor {name}.exp_avg_sq")
                tensor = file.get_tensor(key)
                if tensor.shape != sizes[name].shape:
                    raise InputError(
                        f"{path}: {key} has shape {tuple(tensor.shape)}, the parameter {tuple(sizes[name].shape)}; "
                        "take the state of this very model"
                    )
                moments[place] = tensor.double().reshape(-1)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({type(error).__name__})") from error
    if not bool((moments >= 0).all()):
        raise InputError(f"{path}: a second moment is negative or not a number")
    return _preconditioner(moments / (1 - beta2**step), epsilon)


def _preconditioner(second_moments: torch.Tensor, epsilon: float) -> torch.Tensor:
    return 1.0 / (second_moments.clamp_min(0.0).sqrt() + epsilon)
