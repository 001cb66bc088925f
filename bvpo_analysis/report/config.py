"""The options of a report as one frozen record: what config.yaml holds and what a rerun replays."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.objectives import OBJECTIVES, Objective
from bvpo_analysis.preferences.shipped import REGIMES

CONFIG_HEADER = "# Options of a bvpo_analysis report; replay with: python -m bvpo_analysis.report --from config.yaml\n"
"""First line of a config.yaml, by which a run folder is recognised."""
BOX = "box"
"""Value of ``--ref-model`` that names the model in the box, for checkpoints that started from it."""
FEWEST_COMPARED = 4
"""Fewest pairs on which estimators are compared; below, an interval says nothing."""
QUICK_PAIRS = 64
"""Pairs of a ``--quick`` report."""


@dataclass(frozen=True)
class ReportConfig:
    """Options of ``python -m bvpo_analysis.report``; the help text of each is in the command line parser.

    Raises:
        InputError: a value is out of range, naming the option and the fix.
    """

    model: str | None = None
    ref_model: str | None = None
    data: str | None = None
    regime: str = "correct"
    seed: int = 0
    loss: str = "dpo"
    beta: float = 0.1
    batch_size: int = 16
    traces: int | Literal["exact"] = 4
    kappa: float = 1.0
    empty_mode: Literal["prefilled", "generated"] = "prefilled"
    params: str | None = None
    limit: int | None = None
    compare: int = 96
    train: tuple[str, ...] = ()
    from_study: str | None = None
    engine: str = "auto"
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
        if isinstance(self.train, str) or not all(isinstance(folder, str) for folder in self.train):
            raise InputError(f"train must be a list of run folders, got {self.train!r}")
        object.__setattr__(self, "train", tuple(self.train))  # YAML has lists
        whole = {"seed": self.seed, "batch_size": self.batch_size, "limit": self.limit, "compare": self.compare}
        for name, value in whole.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"--{name.replace('_', '-')} must be a whole number, got {value!r}")
        checks = [
            (self.regime in REGIMES, f"--regime must be one of {', '.join(REGIMES)}, got {self.regime!r}"),
            (self.loss in OBJECTIVES, f"--loss must be one of {', '.join(OBJECTIVES)}, got {self.loss!r}"),
            (0 < self.beta < math.inf, f"--beta must be a positive number, got {self.beta}"),
            (self.batch_size >= 1, f"--batch-size must be at least 1, got {self.batch_size}"),
            (
                self.traces == "exact" or (isinstance(self.traces, int) and self.traces >= 1),
                f"--traces must be a positive number or 'exact', got {self.traces!r}",
            ),
            (0 < self.kappa < math.inf, f"--kappa must be a positive number, got {self.kappa}"),
            (self.seed >= 0, f"--seed must not be negative, got {self.seed}"),
            (
                self.empty_mode in ("prefilled", "generated"),
                f"--empty-mode must be prefilled or generated, got {self.empty_mode!r}",
            ),
            (self.limit is None or self.limit >= 1, f"--limit must be at least 1, got {self.limit}"),
            (
                self.compare == 0 or self.compare >= FEWEST_COMPARED,
                f"--compare must be 0 (no comparison) or at least {FEWEST_COMPARED}, got {self.compare}",
            ),
            (
                self.from_study is None or self.data is None,
                "--from-study shows a study on the shipped pairs of a --regime; drop --data",
            ),
            (
                self.model is None or self.data is not None or self.ref_model == BOX,
                "--model needs --data: the shipped pairs are on-policy for the model in the box only; "
                "give --data a JSONL file of pairs with traces of your model, or --ref-model box if the model is a "
                "checkpoint that was trained from the one in the box",
            ),
        ]
        for holds, message in checks:
            if not holds:
                raise InputError(message)
        _ = self.model_options  # which checks the values

    @property
    def model_options(self) -> ModelOptions:
        """How the model and its reference are loaded."""
        return ModelOptions(**{f.name: getattr(self, f.name) for f in fields(ModelOptions)})

    @property
    def objective(self) -> Objective:
        """The loss these options name."""
        return OBJECTIVES[self.loss](beta=self.beta)

    def to_yaml(self) -> str:
        """The options as YAML; :meth:`from_yaml` reads them back."""
        return CONFIG_HEADER + yaml.safe_dump(asdict(self), sort_keys=False)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "ReportConfig":
        """Read the config.yaml of an earlier run.

        Raises:
            InputError: missing file, not a mapping, or unknown options.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file; give --from the config.yaml of a run")
        try:
            options: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
        known = {f.name for f in fields(cls)}
        if not isinstance(options, dict) or (unknown := sorted(set(map(str, options)) - known)):
            what = "not a mapping of options" if not isinstance(options, dict) else f"unknown option {unknown[0]!r}"
            raise InputError(f"{path}: {what}; known are {', '.join(sorted(known))}")
        try:
            return cls(**options)
        except TypeError as error:
            raise InputError(f"{path}: an option has a value of the wrong type ({error})") from error
