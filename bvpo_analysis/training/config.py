"""The options of a training run as one frozen record, replayable from YAML."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from bvpo_analysis.errors import InputError
from bvpo_analysis.objectives import OBJECTIVES, Objective
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.training.methods import COMBINATIONS, METHODS, Method, method_of
from bvpo_analysis.training.weights import WeightRule, weight_rule

CONFIG_HEADER = "# Options of a bvpo_analysis training run; replay with: python -m bvpo_analysis.train --config FILE\n"
"""First line of a config.yaml, by which a run folder is recognised."""
OPTIMISERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainConfig:
    """Options of ``python -m bvpo_analysis.train``.

    Attributes:
        method, combination, traces: what is differentiated, see :mod:`bvpo_analysis.training.methods`.
        alpha: weight of g_t, a number or the name of a rule; used by the method "bvpo".
        allow_extrapolation: accept a weight outside [0, 1].
        loss, beta: the base loss.
        model, data, regime: what is trained, on which pairs.
        held_out: share of the pairs kept for the preference accuracy.
        steps, batch_size, seed: length of the run, pairs per step, seed of their order.
        micro_batches: parts of a batch that are differentiated one after the other; an even number makes two halves.
        optimiser, lr, weight_decay, momentum: of the optimiser.
        warmup, final_rate: share of the steps with a linearly growing rate; a cosine then falls to this share of it.
        clip: largest norm of the mixed gradient; None to leave it.
        kappa: largest kappa of the rule "kappa".
        decay: of the running moments.
        evaluate_every: steps between two evaluations on the held-out pairs.
        patience: evaluations without a gain in held-out accuracy before the run stops; None to run to the end.
        save_every: steps between two checkpoints.

    Raises:
        InputError: a value is out of range, naming the option and the fix.
    """

    method: str = "bvpo"
    combination: str = "average"
    traces: int = 1
    alpha: float | str = 0.5
    allow_extrapolation: bool = False
    loss: str = "dpo"
    beta: float = 0.1
    model: str | None = None
    data: str | None = None
    regime: str = "correct"
    held_out: float = 0.125
    steps: int = 60
    batch_size: int = 16
    micro_batches: int = 2
    seed: int = 0
    optimiser: str = "adamw"
    lr: float = 3e-4
    weight_decay: float = 0.0
    momentum: float = 0.0
    warmup: float = 0.1
    final_rate: float = 0.0
    clip: float | None = 1.0
    kappa: float = 1.0
    decay: float = 0.9
    evaluate_every: int = 20
    patience: int | None = None
    save_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batches", "evaluate_every", "save_every", "traces", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "seed" else 1):
                raise InputError(f"--{name.replace('_', '-')} must be a positive whole number, got {value!r}")
        checks = [
            (self.method in METHODS, f"--method must be one of {', '.join(METHODS)}, got {self.method!r}"),
            (
                self.combination in COMBINATIONS,
                f"--combination must be one of {', '.join(COMBINATIONS)}, got {self.combination!r}",
            ),
            (self.loss in OBJECTIVES, f"--loss must be one of {', '.join(OBJECTIVES)}, got {self.loss!r}"),
            (self.regime in REGIMES, f"--regime must be one of {', '.join(REGIMES)}, got {self.regime!r}"),
            (self.optimiser in OPTIMISERS, f"--optimiser must be adamw or sgd, got {self.optimiser!r}"),
            (0 < self.beta < math.inf, f"--beta must be a positive number, got {self.beta}"),
            (0 < self.lr < math.inf, f"--lr must be a positive number, got {self.lr}"),
            (0 <= self.weight_decay < math.inf, f"--weight-decay must not be negative, got {self.weight_decay}"),
            (0 <= self.momentum < 1, f"--momentum must be in [0, 1), got {self.momentum}"),
            (0 <= self.warmup < 1, f"--warmup must be in [0, 1), got {self.warmup}"),
            (0 <= self.final_rate <= 1, f"--final-rate must be in [0, 1], got {self.final_rate}"),
            (0 <= self.held_out < 1, f"--held-out must be in [0, 1), got {self.held_out}"),
            (0 <= self.decay < 1, f"--decay must be in [0, 1), got {self.decay}"),
            (self.clip is None or 0 < self.clip < math.inf, f"--clip must be a positive number, got {self.clip}"),
            (self.patience is None or self.patience >= 1, f"--patience must be at least 1, got {self.patience}"),
            (
                self.batch_size % self.micro_batches == 0,
                f"--batch-size {self.batch_size} must be a multiple of --micro-batches {self.micro_batches}",
            ),
            (
                not self.rule.adaptive or self.method != "bvpo" or self.micro_batches % 2 == 0,
                f"--alpha {self.alpha} needs an even number of --micro-batches, whose halves are independent",
            ),
            (self.model is None or self.data is not None, "--model needs --data, pairs with traces of that model"),
        ]
        for holds, message in checks:
            if not holds:
                raise InputError(message)
        self.training_method  # noqa: B018 - checks method, combination and traces together

    @property
    def objective(self) -> Objective:
        """The base loss."""
        return OBJECTIVES[self.loss](beta=self.beta)

    @property
    def training_method(self) -> Method:
        """What is differentiated."""
        return method_of(self.method, self.objective, traces=self.traces, combination=self.combination)

    @property
    def rule(self) -> WeightRule:
        """How alpha is chosen."""
        return weight_rule(self.alpha, kappa=self.kappa, allow_extrapolation=self.allow_extrapolation)

    def rate(self, step: int) -> float:
        """Learning rate of a step as a share of its peak: linear warm-up, then a cosine.

        Example:
            >>> config = TrainConfig(steps=10, warmup=0.2)
            >>> [round(config.rate(s), 3) for s in (0, 1, 2, 6, 9)]
            [0.5, 1.0, 1.0, 0.5, 0.038]
        """
        first = round(self.warmup * self.steps)
        if step < first:
            return (step + 1) / first
        done = (step - first) / max(self.steps - first, 1)
        return self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * done)) / 2

    def to_yaml(self) -> str:
        """The options as YAML; :meth:`from_yaml` reads them back."""
        return CONFIG_HEADER + yaml.safe_dump(asdict(self), sort_keys=False)

    @classmethod
    def from_yaml(cls, path: str | Path, changes: dict[str, Any] | None = None) -> "TrainConfig":
        """Read options, with some of them changed.

        Raises:
            InputError: missing file, not a mapping, or unknown options.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file; give --config the config.yaml of a run")
        try:
            options: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
        known = {f.name for f in fields(cls)}
        if not isinstance(options, dict) or (unknown := sorted(set(map(str, options)) - known)):
            what = "not a mapping of options" if not isinstance(options, dict) else f"unknown option {unknown[0]!r}"
            raise InputError(f"{path}: {what}; known are {', '.join(sorted(known))}")
        try:
            return cls(**(options | (changes or {})))
        except TypeError as error:
            raise InputError(f"{path}: an option has a value of the wrong type ({error})") from error
