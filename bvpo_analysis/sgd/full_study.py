"""The whole study as tables: bounds against runs, the search for violations, and what weights mean for runs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bvpo_analysis import figures
from bvpo_analysis.sgd import consequences
from bvpo_analysis.sgd.adversary import Closest, search
from bvpo_analysis.sgd.cases import Case, standard_cases
from bvpo_analysis.sgd.regimes import shipped_cases
from bvpo_analysis.sgd.rules import FromStart, standard_rules
from bvpo_analysis.sgd.trajectories import under_schedule, with_bounds
from bvpo_analysis.sgd.verify import HORIZONS, KAPPAS, BoundCheck, data_frame, summary, verify, violations

CURVATURES = {"isotropic": (1.0, 1.0, 1.0), "condition number 10": (1.0, 0.3, 0.1)}
"""Hessians of the matched quadratics."""
SHARES = (0.5, 0.1)
"""Targets of runs, as shares of the squared gradient at the start."""


@dataclass(frozen=True)
class Settings:
    """Size of the study.

    Attributes:
        kappas, horizons, repetitions: of the runs against bounds.
        weight_kappas: where best weights are found.
        instances, rounds: of the search for violations, per horizon.
        longest: steps of the runs behind best weights and schedules.
    """

    kappas: tuple[float, ...] = KAPPAS
    horizons: tuple[int, ...] = HORIZONS
    repetitions: int = 200
    weight_kappas: tuple[float, ...] = tuple(10 ** np.linspace(-2, 0, 13))
    instances: int = 4000
    rounds: int = 15
    longest: int = 1000

    @classmethod
    def quick(cls) -> "Settings":
        """Fewer and shorter runs; the same questions."""
        return cls(horizons=(10, 100), repetitions=100, weight_kappas=KAPPAS, instances=500, rounds=5, longest=300)


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        checks: every bound against every run.
        closest: the nearest that the search came to a violation, per bound.
        tables: further results by name, tidy.
    """

    checks: list[BoundCheck]
    closest: list[Closest]
    tables: dict[str, pd.DataFrame]

    @property
    def violated(self) -> int:
        """How many checks failed, of runs and of the search."""
        return len(violations(self.checks)) + sum(found.violated for found in self.closest)


def run_study(settings: Settings, *, seed: int = 0) -> Findings:
    """Run everything but the language model."""
    checks = verify(
        standard_cases(),
        standard_rules(),
        kappas=settings.kappas,
        horizons=settings.horizons,
        repetitions=settings.repetitions,
        seed=seed,
    )
    closest = search(count=settings.instances, rounds=settings.rounds, seed=seed)
    tables = {
        "summary": summary(checks),
        "checks": data_frame(checks),
        "search": pd.DataFrame([asdict(found) | {"instance": str(found.instance)} for found in closest]),
        "trajectories": _trajectories(settings, seed),
    }
    matched = {name: shipped_cases(curvatures=curvatures) for name, curvatures in CURVATURES.items()}
    horizons = (100, settings.longest)
    few = settings.kappas
    for name, make in {
        "best_weights": lambda c: consequences.best_weights(c, kappas=settings.weight_kappas, horizons=horizons),
        "rankings": lambda c: consequences.rankings(c, kappas=few, steps=settings.longest),
        "winners": lambda c: consequences.winners(c, kappas=settings.weight_kappas, steps=settings.longest),
        "schedules": lambda c: consequences.schedules(c, kappas=(1.0, 0.1), steps=settings.longest),
        "steps_to_target": lambda c: consequences.steps_to_target(c, kappas=settings.weight_kappas, shares=SHARES),
        "schedule_paths": lambda c: under_schedule(c, kappa=1.0, steps=settings.longest),
    }.items():
        tables[name] = pd.concat([make(cases).assign(hessian=hessian) for hessian, cases in matched.items()])
    return Findings(checks, closest, tables)


def _trajectories(settings: Settings, seed: int) -> pd.DataFrame:
    by_name: dict[str, Case] = {case.name: case for case in standard_cases()}
    return pd.concat(
        [
            with_bounds(
                by_name[name],
                FromStart("step"),
                kappa=0.5,
                steps=max(settings.horizons),
                repetitions=settings.repetitions,
                seed=seed,
            )
            for name in ("isotropic quadratic", "ill-conditioned quadratic", "neuron")
        ]
    )


def write(findings: Findings, folder: Path) -> list[Path]:
    """All tables as CSV, and four figures, into a folder.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in findings.tables.items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False, lineterminator="\n")
        paths.append(path)
    tables = findings.tables
    drawings = {
        "figure_trajectories": (draw_trajectories(tables["trajectories"]), tables["trajectories"]),
        "figure_tightness": (draw_tightness(tables["checks"]), tables["checks"]),
        "figure_best_weight": (draw_best_weights(tables["best_weights"]), tables["best_weights"]),
        "figure_schedule": (draw_schedules(tables["schedule_paths"]), tables["schedule_paths"]),
    }
    for name, (figure, data) in drawings.items():
        paths += figures.save_figure(figure, folder / name, data)
    return paths


def draw_trajectories(table: pd.DataFrame) -> Figure:
    """One panel per problem: the measured average below its bounds."""
    figure, axes = _panels(table["problem"].nunique(), 2.5)
    for ax, (problem, rows) in zip(axes, table.groupby("problem", sort=False), strict=True):
        figures.plot_run_bounds(rows, ax)
        ax.set_title(str(problem), fontsize="small")
    return _with_legend(figure, axes, columns=4)


def draw_tightness(table: pd.DataFrame) -> Figure:
    """Two panels: the paper's bound, and the sharp one."""
    constant = table[table["scheme"] == "constant"]
    figure, axes = _panels(2, 3.0)
    for ax, bound in zip(axes, ("classical", "sharp"), strict=True):
        figures.plot_tightness(constant[constant["bound"] == bound], ax)
        ax.set_title(f"{bound} bound / measured", fontsize="small")
    axes[1].set_yticklabels([])
    return figure


def draw_best_weights(table: pd.DataFrame) -> Figure:
    """Predicted and realised best weights against kappa: regimes side by side, Hessians below one another."""
    return _by_regime(best_weights_drawn(table), figures.plot_best_weight)


def best_weights_drawn(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table "best_weights" that the figure shows: three yardsticks at the longest horizon."""
    shown = table[table["yardstick"].isin(("steady gradient", "average gradient", "final loss"))]
    return shown[shown["steps"].isin((0, shown["steps"].max()))]


def draw_schedules(table: pd.DataFrame) -> Figure:
    """Losses under cosine decay: regimes side by side, Hessians below one another."""
    return _by_regime(table, figures.plot_schedule_losses, columns=4)


def _by_regime(rows: pd.DataFrame, plot: Callable[[pd.DataFrame, Axes], Axes], *, columns: int = 3) -> Figure:
    hessians, problems = rows["hessian"].unique(), rows["problem"].unique()
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, 0.6 + 1.9 * len(hessians)), layout="constrained")
        axes = figure.subplots(len(hessians), len(problems), squeeze=False)
    for (i, j), ax in np.ndenumerate(axes):
        plot(rows[(rows["hessian"] == hessians[i]) & (rows["problem"] == problems[j])], ax)
        if i == 0:
            ax.set_title(str(problems[j]), fontsize="small")
        ax.set_xlabel(ax.get_xlabel() if i == len(hessians) - 1 else "")
        ax.set_ylabel(f"{hessians[i]}\n{ax.get_ylabel()}" if j == 0 else "")
    return _with_legend(figure, [axes[0, 0]], columns=columns)


def _panels(count: int, height: float) -> tuple[Figure, list]:
    with figures.paper_style():
        figure = Figure(figsize=(figures.TEXT_WIDTH, height), layout="constrained")
        return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _with_legend(figure: Figure, axes: list, *, columns: int = 3) -> Figure:
    with figures.paper_style():
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure
