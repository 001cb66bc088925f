"""The options of a training run as one frozen record, replayable from YAML."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.objectives import OBJECTIVES, Objective, SimPO
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.training.methods import COMBINATIONS, METHODS, Method, method_of
from bvpo_analysis.training.weights import WeightRule, weight_rule

CONFIG_HEADER = "# Options of a bvpo_analysis training run; replay with: python -m bvpo_analysis.train --config FILE\n"
"""First line of a config.yaml, by which a run folder is recognised."""
OPTIMISERS = ("adamw", "sgd")
BOX = "box"
"""Value of ``--ref-model`` that names the model in the box, for checkpoints that started from it."""
WHOLE = {
    "steps": 1,
    "batch_size": 1,
    "micro_batches": 1,
    "evaluate_every": 1,
    "save_every": 1,
    "traces": 1,
    "seed": 0,
    "limit": 1,
    "lora_rank": 0,
    "patience": 1,
    "probe_every": 1,
    "probe_pairs": 1,
    "probe_traces": 1,
}
"""Options that are whole numbers, with their least values."""
REAL = (
    "beta",
    "gamma",
    "lr",
    "weight_decay",
    "momentum",
    "warmup",
    "final_rate",
    "held_out",
    "decay",
    "clip",
    "kappa",
    "lora_alpha",
)
"""Options that are real numbers."""
MAY_BE_NONE = ("limit", "patience", "probe_every", "gamma", "clip")


@dataclass(frozen=True)
class TrainConfig:
    """Options of ``python -m bvpo_analysis.train``.

    Attributes:
        method, combination, traces: what is differentiated, see :mod:`bvpo_analysis.training.methods`.
        alpha: weight of g_t, a number or the name of a rule; used by the method "bvpo".
        allow_extrapolation: accept a weight outside [0, 1].
        loss, beta, gamma: the base loss; gamma is the target margin of SimPO (its own default where not given).
        model, ref_model, data, regime: what is trained, against which reference, on which pairs.
        limit: number of pairs, the first ones; None for all.
        empty_mode: empty block prefilled (not scored) or generated (scored).
        copied_empty: accept pairs whose empty-trace answers are copies of the answers with a trace.
        params: regular expression of the parameters that are trained; None for all.
        lora_rank, lora_alpha: train adapters of this rank instead, scaled by lora_alpha / lora_rank; 0 for none.
        held_out: share of the pairs kept for the preference accuracy.
        steps, batch_size, seed: length of the run, pairs per step, seed of their order.
        micro_batches: parts of a batch that are differentiated one after the other; an even number makes two halves.
        optimiser, lr, weight_decay, momentum: of the optimiser.
        warmup, final_rate: share of the steps with a linearly growing rate; a cosine then falls to this share of it.
        clip: largest norm of the mixed gradient; None to leave it.
        kappa: step size times smoothness at the peak of the rate, for the rules "kappa" and "schedule" and the log.
        smoothness: L, from which kappa = lr L then follows; "measured" for the curvature where the run starts.
        decay: of the running moments.
        evaluate_every: steps between two evaluations on the held-out pairs.
        patience: evaluations without a gain in held-out accuracy before the run stops; in the end it has the weights
            of the best evaluation. None to run to the end, with the weights it has then.
        save_every: steps between two checkpoints.
        probe_every: steps between two studies of the gradients on a fixed set of pairs; None for none.
        probe_pairs, probe_traces: size of these studies.
        dtype ... chat_template: how models are loaded, see :class:`bvpo_analysis.lrm.options.ModelOptions`.

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
    gamma: float | None = None
    model: str | None = None
    ref_model: str | None = None
    data: str | None = None
    regime: str = "correct"
    limit: int | None = None
    empty_mode: Literal["prefilled", "generated"] = "prefilled"
    copied_empty: bool = False
    params: str | None = None
    lora_rank: int = 0
    lora_alpha: float = 16.0
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
    smoothness: float | str | None = None
    decay: float = 0.9
    evaluate_every: int = 20
    patience: int | None = None
    save_every: int = 20
    probe_every: int | None = None
    probe_pairs: int = 32
    probe_traces: int = 4
    dtype: str = "float32"
    device: str = "cpu"
    attention: str = "eager"
    revision: str | None = None
    trust_remote_code: bool = False
    think_open: str | None = None
    think_close: str | None = None
    think_empty: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
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
            (
                self.empty_mode in ("prefilled", "generated"),
                f"--empty-mode must be prefilled or generated, got {self.empty_mode!r}",
            ),
            (
                self.gamma is None or self.loss == "simpo",
                f"--gamma is the margin of --loss simpo; drop it with --loss {self.loss}",
            ),
            (0 < self.lora_alpha < math.inf, f"--lora-alpha must be a positive number, got {self.lora_alpha}"),
            (
                self.smoothness is None
                or self.smoothness == "measured"
                or (isinstance(self.smoothness, float | int) and 0 < self.smoothness < math.inf),
                f"--smoothness must be a positive number or 'measured', got {self.smoothness!r}",
            ),
            (
                self.smoothness is None or self.kappa == 1.0,
                "--kappa and --smoothness exclude each other; with a smoothness L, kappa is lr L",
            ),
            (
                self.probe_every is None or self.probe_pairs >= 4,
                f"--probe-pairs must be at least 4 for an interval, got {self.probe_pairs}",
            ),
            (
                self.probe_every is None or self.probe_traces >= 2,
                f"--probe-traces must be at least 2 to study gradients off the reference, got {self.probe_traces}",
            ),
            (
                self.probe_every is None or self.loss != "simpo",
                "--probe-every needs a loss with a reference: with simpo sampled traces do not identify the target; "
                "use --loss dpo or ipo",
            ),
            (
                self.patience is None or self.held_out > 0,
                "--patience needs --held-out, the share of pairs that early stopping looks at",
            ),
            (
                self.batch_size % self.micro_batches == 0,
                f"--batch-size {self.batch_size} must be a multiple of --micro-batches {self.micro_batches}",
            ),
            (
                not self.rule.adaptive or self.method != "bvpo" or self.micro_batches % 2 == 0,
                f"--alpha {self.alpha} needs an even number of --micro-batches, whose halves are independent",
            ),
            (
                self.model is None or self.data is not None or self.ref_model == BOX,
                "--model needs --data, pairs with traces of that model, or --ref-model box if the model is a "
                "checkpoint that was trained from the one in the box",
            ),
        ]
        for holds, message in checks:
            if not holds:
                raise InputError(message)
        _ = self.training_method, self.objective, self.model_options  # which check their values

    @property
    def objective(self) -> Objective:
        """The base loss."""
        if self.gamma is not None:
            return SimPO(beta=self.beta, gamma=self.gamma)
        return OBJECTIVES[self.loss](beta=self.beta)

    @property
    def model_options(self) -> ModelOptions:
        """How the model and its reference are loaded."""
        return ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)})

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
            return cls(**({name: read_number(name, value) for name, value in options.items()} | (changes or {})))
        except TypeError as error:
            raise InputError(f"{path}: an option has a value of the wrong type ({error})") from error


def read_number(name: str, value: Any) -> Any:
    """The number that a text stands for, where an option is one: YAML reads 1e-3, without a point, as text.

    Example:
        >>> read_number("lr", "1e-3"), read_number("lr", "fast"), read_number("data", "1e-3")
        (0.001, 'fast', '1e-3')
    """
    if isinstance(value, str) and name in (*REAL, "alpha", "smoothness"):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def require_types(config: TrainConfig) -> None:
    """Hold that numbers are numbers and texts are texts.

    Raises:
        InputError: an option has a value of another type, or a whole number is too small.
    """
    for name in (*WHOLE, *REAL):
        value, option = getattr(config, name), f"--{name.replace('_', '-')}"
        if value is None and name in MAY_BE_NONE:
            continue
        if isinstance(value, bool) or not isinstance(value, int if name in WHOLE else int | float):
            raise InputError(f"{option} must be a {'whole ' * (name in WHOLE)}number, got {value!r}")
        if name in WHOLE and value < WHOLE[name]:
            raise InputError(f"{option} must be at least {WHOLE[name]}, got {value}")
    for name in ("allow_extrapolation", "copied_empty"):
        if not isinstance(getattr(config, name), bool):
            raise InputError(f"--{name.replace('_', '-')} must be true or false, got {getattr(config, name)!r}")
    for name in ("model", "ref_model", "data", "params"):
        if not isinstance(getattr(config, name), str | None):
            raise InputError(f"--{name.replace('_', '-')} must be text, got {getattr(config, name)!r}")
    if isinstance(config.alpha, bool) or not isinstance(config.alpha, float | int | str):
        raise InputError(f"--alpha must be a number or the name of a rule, got {config.alpha!r}")
