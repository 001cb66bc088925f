"""One run of the study: train, follow the held-out loss, look at the gradients, and answer fresh prompts at the end."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from bvpo_analysis.evaluation import (
    MODES,
    REWARDS,
    AnswerSet,
    HeldOut,
    HeldOutValues,
    comparisons,
    fresh_prompts,
    length_controlled_win_rate,
    sample_answers,
)
from bvpo_analysis.evaluation.divergence import sequence_divergence
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.lrm.shipped.task import is_right
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import Regime, shipped_pairs
from bvpo_analysis.records import Floats, PreferencePair
from bvpo_analysis.training import train
from bvpo_analysis.training.loop import STOPPING
from bvpo_analysis.training_study.arms import Arm, Run
from bvpo_analysis.training_study.probe import Probe

REFERENCE_STREAM = "reference"
UNPROBED = ("mixed data", "pool of 4", "james-stein")
"""Methods whose batch gradient is not a mix of g_t and g_e of the same rows, or whose weight depends on the batch, so
that its variance does not follow from moments."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        prompts: fresh prompts that are answered at the end.
        policy_answers: answers of a policy to each; two, so that policies can be compared whose answers come from the
            same random streams.
        divergence_prompts: those of them, the first ones, on which divergence and entropy are taken.
        reference_answers: answers of the reference to each.
        train_pairs: pairs trained on, the first of a regime.
        stopping_pairs: the next ones, on which early stopping decides, and nothing else is measured.
        held_out_pairs: the pairs behind those, on which losses are measured during training and at its end.
        probe_pairs: held-out pairs whose gradients are enumerated.
        probe_every: steps between probes.
        steps: steps of a run; None for those of its arm.

    Example:
        >>> Size().train_pairs + Size().stopping_pairs + Size().held_out_pairs
        256
    """

    prompts: int = 384
    policy_answers: int = 2
    divergence_prompts: int = 128
    reference_answers: int = 4
    train_pairs: int = 208
    stopping_pairs: int = 16
    held_out_pairs: int = 32
    probe_pairs: int = 16
    probe_every: int = 20
    steps: int | None = None


TINY = Size(
    prompts=8,
    policy_answers=2,
    divergence_prompts=4,
    reference_answers=2,
    train_pairs=32,
    stopping_pairs=4,
    held_out_pairs=4,
    probe_pairs=4,
    probe_every=2,
    steps=4,
)
"""A size for tests and dry runs."""


def training_pairs(regime: Regime, size: Size) -> tuple[PreferencePair, ...]:
    """The pairs trained on."""
    return shipped_pairs(regime)[: size.train_pairs]


@cache
def the_reference() -> ReasoningModel:
    """The model in the box, loaded once per process; runs train copies of it."""
    return load_model()


@cache
def measured_pairs(regime: Regime, size: Size, which: str) -> HeldOut:
    """Pairs whose loss is measured: "held out" with all their traces, for "stopping", and the first ones trained on.

    Always by the DPO loss with beta = 0.1, so that what was trained by other losses can be compared.
    """
    reference, pairs = the_reference(), shipped_pairs(regime)
    if which in TRAINED:
        return HeldOut(reference, pairs[: size.held_out_pairs], DPO(), traces=TRAINED[which])
    if which == "stopping":
        return HeldOut(reference, pairs[size.train_pairs :][: size.stopping_pairs], DPO())
    return HeldOut(reference, held_out_pairs(regime, size), DPO(), enumerate_traces=shipped_traces)


TRAINED = {"trained": 1, "trained on 4 traces": 4}
"""Traces per answer of the loss on pairs that were trained on: those that the method saw."""


def held_out_pairs(regime: Regime, size: Size) -> tuple[PreferencePair, ...]:
    """The pairs that no run trains on or stops by."""
    return shipped_pairs(regime)[size.train_pairs + size.stopping_pairs :][: size.held_out_pairs]


def per_pair(values: HeldOutValues) -> dict[str, list[float]]:
    """Losses and accuracies by name, [n] each."""
    return {name: _rounded(getattr(values, name)) for name in values.__dataclass_fields__}


def at_start(pairs: int) -> dict[str, list[float]]:
    """The same of the reference: every margin is zero.

    Example:
        >>> at_start(2)["trace_accuracy"], round(at_start(1)["marginal_loss"][0], 6)
        ([0.5, 0.5], 0.693147)
    """
    values = {n: 0.5 if n.endswith("accuracy") else float(np.log(2)) for n in HeldOutValues.__dataclass_fields__}
    return {name: [value] * pairs for name, value in values.items()}


def probe_of(reference: ReasoningModel, regime: Regime, size: Size) -> Probe:
    """The held-out pairs at which the gradients are looked."""
    return Probe(reference, held_out_pairs(regime, size)[: size.probe_pairs])


def is_probed(arm: Arm) -> bool:
    """Whether the gradients of the runs of an arm are looked at: those of the sweep and of the methods.

    Example:
        >>> [is_probed(Arm(name, group, "style")) for name, group in (("alpha=0", "sweep"), ("mixed data", "method"))]
        [True, False]
    """
    return arm.group in ("sweep", "method") and arm.name not in UNPROBED


def run_one(run: Run, size: Size) -> dict[str, Any]:
    """Train and evaluate one run, as JSON values.

    Returns:
        config; log (one mapping per step); curve (losses and accuracies of the held-out pairs every ten steps, DPO
        whatever loss is trained); held_out (its end) and trained, per pair as well; final (answers of both modes per
        prompt, with the rewards of each, None for an unreadable one); probes (moments of the gradients); displacement;
        seconds.

    Raises:
        StudyError: the run diverged.
    """
    torch.set_num_threads(1)
    regime = run.arm.regime
    changes = {} if size.steps is None else {"steps": size.steps, "evaluate_every": max(size.steps // 2, 1)}
    config = run.arm.config(run.seed, **changes)
    reference = the_reference()
    policy = replace(reference, model=copy.deepcopy(reference.model))
    followed = measured_pairs(regime, size, "held out")
    probe = probe_of(reference, regime, size) if is_probed(run.arm) else None
    curve: list[dict[str, Any]] = []
    end: dict[str, list[float]] = {}
    probes: list[dict[str, Any]] = []
    clock = _Clock()

    def follow(step: int, lrm: ReasoningModel) -> Mapping[str, float]:
        nonlocal end
        with clock.stopped():
            end = at_start(size.held_out_pairs) if step == 0 else per_pair(followed.values(lrm.model))
            if curve and curve[-1]["step"] == step:
                return {}  # weights of an earlier step, put back at the end
            curve.append({"step": step} | end)
            if probe is not None and step > 0 and step % size.probe_every == 0:
                probes.append({"step": step} | probe.at(lrm))
            if config.patience is None:
                return {}
            stopping = measured_pairs(regime, size, "stopping").values(lrm.model)
            return {STOPPING: float(stopping.trace_accuracy.mean())}

    start = clock.now()
    done = train(config, policy, training_pairs(regime, size), callbacks=[follow])
    seconds = clock.now() - start
    which = "trained on 4 traces" if config.training_method.traces > 1 else "trained"
    trained = per_pair(measured_pairs(regime, size, which).values(policy.model))
    return {
        "arm": run.arm.name,
        "group": run.arm.group,
        "regime": regime,
        "seed": run.seed,
        "lr": config.lr,
        "steps": done.steps,
        "kept_step": done.kept_step,
        "stopped": done.stopped,
        "log": [_plain(entry) for entry in done.log[:-1]],
        "curve": curve,
        "probes": probes,
        "held_out": end,
        "trained": {name: trained[name] for name in ("trace_loss", "empty_loss", "trace_accuracy")},
        "final": final_answers(policy, reference, regime, size),
        "displacement": displacement(policy, reference),
        "seconds": seconds,
    }


def final_answers(policy: ReasoningModel, reference: ReasoningModel, regime: Regime, size: Size) -> dict[str, Any]:
    """Per mode: numbers of every fresh prompt, and the length-controlled win rate."""
    found: dict[str, Any] = {}
    for mode in MODES:
        prompts = fresh_prompts(size.prompts)
        answers = sample_answers(policy, prompts, mode, answers=size.policy_answers, max_new_tokens=48)
        other = reference_answers(reference, mode, size)
        own, others = answers.rewards(REWARDS[regime]), other.rewards(REWARDS[regime])
        controlled = length_controlled_win_rate(own, others, answers.lengths(), other.lengths())
        found[mode] = answer_numbers(policy, reference, answers, size.divergence_prompts) | {
            "won": comparisons(own, others).mean(axis=1).tolist(),
            "rewards": [[reward if np.isfinite(reward) else None for reward in row] for row in own.tolist()],
            "length_controlled": [controlled.value, controlled.se],
        }
    return found


def answer_numbers(
    policy: ReasoningModel, reference: ReasoningModel, answers: AnswerSet, divergence_prompts: int
) -> dict[str, list[float]]:
    """Task accuracy, readability and lengths of every prompt, [n] each; divergence and entropy of the first ones."""
    first = [answer for row in answers.answers[:divergence_prompts] for answer in row]
    shape = -1, len(answers.answers[0])
    kl, entropy = (x.reshape(shape) for x in sequence_divergence(policy.model, reference.model, first))

    def right(text: str, answer: str | None) -> float:
        return float(answer is not None and is_right(text, answer))

    columns = {
        "right": answers.values(lambda prompt, answer: right(prompt.text, answer.answer)),
        "unreadable": answers.unreadable(),
        "tokens_answer": answers.lengths(),
        "tokens_trace": answers.trace_lengths(),
        "kl": kl,
        "trace_entropy": entropy,
    }
    return {name: _rounded(values.mean(axis=1)) for name, values in columns.items()}


@cache
def _reference_answers(fingerprint: str, mode: str, prompts: int, answers: int) -> AnswerSet:
    return sample_answers(
        the_reference(),
        fresh_prompts(prompts),
        "thinking" if mode == "thinking" else "empty",
        answers=answers,
        stream=REFERENCE_STREAM,
        max_new_tokens=48,
    )


def reference_answers(reference: ReasoningModel, mode: str, size: Size) -> AnswerSet:
    """The reference's answers to the fresh prompts, the same in every run."""
    return _reference_answers(reference.fingerprint, mode, size.prompts, size.reference_answers)


def run_reference(regime: Regime, size: Size) -> dict[str, Any]:
    """The reference itself as a policy: what a run would record at step 0."""
    torch.set_num_threads(1)
    reference = the_reference()
    return {
        "regime": regime,
        "held_out": per_pair(measured_pairs(regime, size, "held out").values(reference.model)),
        "probe": {"step": 0} | probe_of(reference, regime, size).at(reference),
        "final": final_answers(reference, reference, regime, size),
    }


SKETCH = 512
"""Length of the sketch of a displacement."""


def displacement(policy: ReasoningModel, reference: ReasoningModel) -> dict[str, Any]:
    """theta - theta_ref: its norm, and a count sketch, whose inner products estimate those of the vectors."""
    ends = dict(policy.model.named_parameters())
    parts = [ends[name].detach().double() - p.detach().double() for name, p in reference.model.named_parameters()]
    vector = torch.cat([part.flatten() for part in parts])
    hashes = torch.Generator().manual_seed(0)
    bucket = torch.randint(SKETCH, (len(vector),), generator=hashes)
    sign = torch.randint(2, (len(vector),), generator=hashes) * 2.0 - 1.0
    sketch = torch.zeros(SKETCH, dtype=torch.float64).index_add_(0, bucket, vector * sign)
    return {"norm": float(vector.norm()), "sketch": _rounded(sketch.numpy())}


class _Clock:
    """CPU seconds of this process, which stand still while something else is measured."""

    def __init__(self) -> None:
        self._left_out = 0.0

    def now(self) -> float:
        return time.process_time() - self._left_out

    def stopped(self) -> "_Pause":
        return _Pause(self)


class _Pause:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._clock._left_out += time.process_time() - self._start


def _rounded(values: Floats) -> list[float]:
    """To six digits: what is behind them is noise of the platform."""
    return [float(f"{value:.6g}") for value in values]


def _plain(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(f"{value:.9g}") for name, value in entry.items() if isinstance(value, int | float)}
