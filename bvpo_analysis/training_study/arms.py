"""What is trained: arms, their options, and the order in which their runs are done.

An arm is a method with its options in one regime; it is run once per seed, and the seed decides the order of the
batches. Runs come in rounds, the arms that matter most first, so that a study which is stopped early has whole rounds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bvpo_analysis.preferences.shipped import REGIMES, Regime
from bvpo_analysis.training import TrainConfig

LEARNING_RATES: dict[Regime, float] = {"style": 0.03, "valid": 0.3, "correct": 0.1}
"""Of SGD, so that 60 steps move the policy and its answers can be read. Chosen on trial runs whose results were not
kept; the arms ``pilot`` measure the choice, and ``study.json`` says which of them the committed tables still lack."""
ADAMW_RATE = 1e-4
"""Three times as much ends in answers that cannot be read, with DPO and with the equal mix."""
WEIGHTS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the sweep over alpha; 0 is the empty-trace method, 1 is DPO."""
SECONDARY: Regime = "correct"
"""Regime of the arms that are run in one regime only."""
STEPS, BATCH, SEEDS = 60, 16, 5


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        name: unique within a regime, such as "alpha=0.5".
        group: what it belongs to: "sweep", "method", "loss", "adamw", "rate", "decay", "stopping" or "pilot".
        regime: which pairs.
        options: of :class:`TrainConfig`, beside regime, seed, steps and batch size.
        seeds: how many runs.
    """

    name: str
    group: str
    regime: Regime
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = SEEDS

    def settings(self, seed: int) -> dict[str, Any]:
        """What one run sets of the options of :class:`TrainConfig`."""
        base: dict[str, Any] = {
            "optimiser": "sgd",
            "lr": LEARNING_RATES[self.regime],
            "steps": STEPS,
            "batch_size": BATCH,
            "regime": self.regime,
            "evaluate_every": 10,
            "seed": seed,
        }
        return base | self.options

    def config(self, seed: int, **changes: Any) -> TrainConfig:
        """The options of one run, some of them changed.

        Example:
            >>> core_arms()[0].config(2).seed
            2
        """
        return TrainConfig(**(self.settings(seed) | changes))


@dataclass(frozen=True)
class Run:
    """One run of an arm."""

    arm: Arm
    seed: int


def weight_options(alpha: float) -> dict[str, Any]:
    """The cheapest method that trains with this weight: the ends need one gradient only."""
    ends: dict[float, dict[str, Any]] = {0.0: {"method": "empty"}, 1.0: {"method": "dpo"}}
    return ends.get(alpha, {"method": "bvpo", "alpha": alpha})


def core_arms() -> tuple[Arm, ...]:
    """The arms of the committed tables, the most important first.

    Example:
        >>> arms = core_arms()
        >>> [arm.name for arm in arms if arm.regime == "style" and arm.group == "sweep"]
        ['alpha=0', 'alpha=0.25', 'alpha=0.5', 'alpha=0.75', 'alpha=1', 'alpha=auto']
    """
    arms: list[Arm] = []
    for regime in REGIMES:
        arms += [Arm(f"alpha={alpha:g}", "sweep", regime, weight_options(alpha)) for alpha in WEIGHTS]
        arms.append(Arm("alpha=auto", "sweep", regime, {"method": "bvpo", "alpha": "auto"}))
    methods: dict[str, dict[str, Any]] = {
        "james-stein": {"method": "bvpo", "alpha": "james_stein"},
        # A pair gives two rows, so that as many pairs are seen in a step.
        "mixed data": {"method": "mixed_data", "batch_size": 2 * BATCH},
        "4 traces": {"method": "multi_trace", "traces": 4, "combination": "average"},
        "pool of 4": {"method": "multi_trace", "traces": 4, "combination": "pooled"},
    }
    arms += [Arm(name, "method", regime, options) for name, options in methods.items() for regime in REGIMES]
    three = (0.0, 0.5, 1.0)
    arms += [
        Arm(f"adamw, alpha={alpha:g}", "adamw", SECONDARY, adamw(weight_options(alpha)), seeds=3) for alpha in WEIGHTS
    ]
    arms.append(Arm("adamw, alpha=cosine", "adamw", SECONDARY, adamw({"method": "bvpo", "alpha": "cosine"}), seeds=3))
    for loss, options in LOSSES.items():
        arms += [
            Arm(f"{loss}, alpha={alpha:g}", "loss", SECONDARY, options | weight_options(alpha), seeds=3)
            for alpha in three
        ]
    for factor in (0.3, 3.0):
        rate = {"lr": factor * LEARNING_RATES[SECONDARY]}
        arms += [
            Arm(f"rate x {factor:g}, alpha={alpha:g}", "rate", SECONDARY, rate | weight_options(alpha), seeds=3)
            for alpha in (0.5, 1.0)
        ]
    decay = {"weight_decay": 0.01}
    arms += [
        Arm(f"decay, alpha={alpha:g}", "decay", SECONDARY, decay | weight_options(alpha), seeds=3)
        for alpha in (0.5, 1.0)
    ]
    stop = {"patience": 2}
    arms += [
        Arm(f"stopping, alpha={alpha:g}", "stopping", SECONDARY, stop | weight_options(alpha), seeds=3)
        for alpha in (0.5, 1.0)
    ]
    return tuple(arms)


LOSSES: dict[str, dict[str, Any]] = {
    # IPO's coefficients at the reference are 1/beta against beta/2 of DPO: the rate makes the first steps equal.
    "ipo": {"loss": "ipo", "lr": LEARNING_RATES[SECONDARY] * 0.1**2 / 2, "clip": None},
    # SimPO's are about beta/(2 tokens): 2/(2 x 25) with a trace, and 2/(2 x 4) without, where they are many times those
    # of DPO. No weight has the step length of DPO's at one rate, so this one is between.
    "simpo": {"loss": "simpo", "beta": 2.0, "lr": LEARNING_RATES[SECONDARY] * 0.3, "clip": None},
}
"""Other base losses. IPO's rate makes its first steps as long as those of DPO. SimPO divides by the length of what it
scores, so its g_e is several times its g_t, and a sweep over its weight is one over the length of steps as well."""


def pilot_arms() -> tuple[Arm, ...]:
    """Runs at four learning rates, by which the choice can be judged: the equal mix and g_t alone, one seed each."""
    return tuple(
        Arm(f"pilot, rate={rate:g}, alpha={alpha:g}", "pilot", regime, {"lr": rate} | weight_options(alpha), seeds=1)
        for rate in (0.03, 0.1, 0.3, 1.0)
        for alpha in (0.5, 1.0)
        for regime in REGIMES
    )


def full_arms() -> tuple[Arm, ...]:
    """All arms of ``--full``: the core with five seeds each, the secondary ones in every regime, the weight rules."""
    core = [replace(arm, seeds=SEEDS) for arm in core_arms()]
    arms = [arm for arm in core if arm.group in SECOND]
    others = [regime for regime in REGIMES if regime != SECONDARY]
    moved = [
        replace(arm, regime=regime, options=_scaled(arm.options, LEARNING_RATES[regime] / LEARNING_RATES[SECONDARY]))
        for arm in arms
        for regime in others
    ]
    rules = [
        Arm(f"alpha={rule}", "rule", regime, {"method": "bvpo", "alpha": rule, **known})
        for rule, known in (("kappa", MEASURED), ("schedule", MEASURED), ("cosine", {}))
        for regime in REGIMES
    ]
    return (*core, *moved, *rules)


MEASURED = {"smoothness": "measured"}
"""For rules that need kappa: from the curvature where a run starts."""


SECOND: tuple[str, ...] = ("rate", "adamw", "loss", "decay", "stopping", "rule")
"""Groups of arms that are run in one regime, or on request."""
ROUNDS: tuple[tuple[tuple[str, ...], range], ...] = (
    (("sweep",), range(3)),
    (("method",), range(1)),
    (SECOND, range(1)),
    (("method",), range(1, 3)),
    (("sweep",), range(3, SEEDS)),
    (SECOND, range(1, 3)),
    (("pilot",), range(1)),
    (("method",), range(3, SEEDS)),
    (SECOND, range(3, SEEDS)),
)
"""Groups and seeds in the order in which they are run."""


def runs_of(arms: Sequence[Arm]) -> Iterator[Run]:
    """The runs, the sweep over alpha first, seed by seed.

    Example:
        >>> order = list(runs_of(core_arms()))
        >>> order[0].seed, order[1].arm.regime, order[-1].arm.group
        (0, 'style', 'method')
    """
    for groups, seeds in ROUNDS:
        for seed in seeds:
            yield from (Run(arm, seed) for arm in arms if arm.group in groups and seed < arm.seeds)


def adamw(options: dict[str, Any]) -> dict[str, Any]:
    """The same with AdamW."""
    return {"optimiser": "adamw", "lr": ADAMW_RATE} | options


def _scaled(options: dict[str, Any], factor: float) -> dict[str, Any]:
    if options.get("optimiser") == "adamw" or "lr" not in options:
        return dict(options)
    return options | {"lr": options["lr"] * factor}
