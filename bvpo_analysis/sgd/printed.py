"""What ``python -m bvpo_analysis.sgd`` prints: the findings of a study as text of at most 110 columns."""

from textwrap import fill

import numpy as np
import pandas as pd

from bvpo_analysis.sgd.bounds import BOUNDS
from bvpo_analysis.sgd.consequences import winning_ranges
from bvpo_analysis.sgd.full_study import Findings
from bvpo_analysis.sgd.verify import violations

COLUMNS = 110
FAILURES_SHOWN = 10

YARDSTICKS = ("steady gradient", "average gradient", "final loss")


def report(findings: Findings) -> str:
    """All sections, the verdict last."""
    sections = [_bounds(findings), _search(findings), _failures(findings)]
    sections += [
        section(findings.tables)
        for section in (_best_weights, _winners, _rankings, _schedules, _steps_to_target, _language_model)
    ]
    return "\n\n".join([section for section in sections if section] + [_verdict(findings)])


def failed(findings: Findings) -> int:
    """Bounds that did not hold: in the runs, in the search, and on the language model."""
    table = findings.tables.get("language_model")
    return findings.violated + (0 if table is None else int((~table["holds"]).sum()))


def _bounds(findings: Findings) -> str:
    checks = findings.tables["checks"]
    table = findings.tables["summary"]
    shown = pd.DataFrame(
        {
            "bound": table["bound"],
            "on the mean of": table["quantity"],
            "held": [f"{held} of {checked}" for held, checked in zip(table["held"], table["checked"], strict=True)],
            "tightest": table["tightest"],
            "median": table["median"],
            "loosest": table["loosest"],
        }
    )
    steps = ", ".join(str(t) for t in sorted(checks["steps"].unique()))
    kappas = ", ".join(f"{kappa:g}" for kappa in sorted({float(f"{k:.6g}") for k in checks["kappa"]}))
    return "\n".join(
        [
            _title("Bounds against runs"),
            _prose(
                f"{checks['problem'].nunique()} losses, {checks['rule'].nunique()} ways of mixing g_t and g_e; "
                f"kappa = eta L in {kappas}; T in {steps} steps. Expectations are exact on quadratics, elsewhere means "
                "over repetitions, and a bound fails if it is exceeded by more than five standard errors. Tightness is "
                "bound / measured: 1 is attained. Where a bound does not apply, checks.csv says why."
            ),
            _text(shown),
            *(f"  {bound.name + ':':16}{bound.formula}" for bound in BOUNDS if bound.name in set(table["bound"])),
            _prose(
                "Delta = f(x_0) - f*; zeta and sigma^2 bound the bias |b_c| and the variance Tr Cov(g_c) of the mixed "
                "gradient; m: constant of the PL inequality or of strong convexity. The classical bound is Theorem 3 "
                "of the BVPO paper."
            ),
        ]
    )


def _search(findings: Findings) -> str:
    table = findings.tables["search"]
    shown = table[["bound", "checked", "violated", "ratio"]].rename(columns={"ratio": "largest measured / bound"})
    return "\n".join(
        [
            _title("Search for violations"),
            _prose(
                "One-dimensional losses, biases that choose their sign in every step, noise of two values; "
                "expectations are exact sums, and the instances nearest to each bound are refined. 1: attained."
            ),
            _text(shown, digits=6),
        ]
    )


def _failures(findings: Findings) -> str:
    rows = violations(findings.checks)[:FAILURES_SHOWN]
    lines = [
        f"  {row.bound}: {row.problem}, {row.rule}, {row.scheme} steps, kappa {row.kappa:.3g}, T = {row.steps}: "
        f"{row.measured:.6g} > {row.predicted:.6g} (SE {row.se:.2g})"
        for row in rows
    ]
    return "\n".join([_title("Bounds that failed"), *lines]) if lines else ""


def _best_weights(tables: dict[str, pd.DataFrame]) -> str:
    table = tables["best_weights"]
    kappas = sorted(table["kappa"].unique())
    table = table[table["kappa"].isin(kappas[:: max(1, len(kappas) // 4)]) & table["yardstick"].isin(YARDSTICKS)]
    longest = table["steps"].max()
    table = table[table["steps"].isin((0, longest))]
    keys = ["hessian", "problem", "kappa"]
    wide = table.pivot_table(index=keys, columns="yardstick", values="best", sort=False).reset_index()
    wide = table.drop_duplicates(keys)[[*keys, "mse", "step"]].merge(wide, on=keys)
    return "\n".join(
        [
            _title("Best weight of g_t against kappa"),
            _prose(
                "Quadratics with the moments that the model in the box has in each regime (B = 16). Predicted: alpha* "
                "(least mean squared error) and alpha_kappa (least zeta^2 + kappa sigma^2). Realised: the constant "
                "weight that is best for the steady squared gradient, for its average over "
                f"{longest} steps, and for the final loss."
            ),
            _text(_named(wide).rename(columns={"mse": "alpha*", "step": "alpha_kappa"}), digits=3),
        ]
    )


def _winners(tables: dict[str, pd.DataFrame]) -> str:
    ranges = winning_ranges(tables["winners"])
    ranges["cell"] = [
        f"{weight:g} at {low:.2g}" + (f"-{high:.2g}" if high > low else "")
        for weight, low, high in ranges[["weight", "lowest", "highest"]].to_numpy().tolist()
    ]
    wide = ranges.pivot_table(
        index=["hessian", "problem"], columns="yardstick", values="cell", aggfunc=", ".join, sort=False
    ).reset_index()
    names = {"average gradient": "average gradient: weight at kappa", "final loss": "final loss: weight at kappa"}
    return "\n".join(
        [
            _title("Which of the weights 0, 1/2 and 1 wins at which kappa"),
            _text(_named(wide).rename(columns=names)),
        ]
    )


def _rankings(tables: dict[str, pd.DataFrame]) -> str:
    names = {
        "bound_average": "bound: average",
        "bound_final_loss": "bound: final",
        "mse_average": "MSE: average",
        "mse_final_loss": "MSE: final",
    }
    table = tables["rankings"].drop(columns="steps")[["hessian", "problem", "kappa", *names]]
    return "\n".join(
        [
            _title("Predicted against realised ranking of 21 weights"),
            _prose(
                "Rank correlation of zeta^2 + kappa sigma^2 (bound) and of the mean squared error (MSE) with the "
                "average squared gradient and the final loss of runs: 1 is the same order, below 0 is worse than none."
            ),
            _text(_named(table).rename(columns=names), digits=2),
        ]
    )


def _schedules(tables: dict[str, pd.DataFrame]) -> str:
    table = tables["schedules"]
    keys = ["hessian", "problem", "kappa"]
    wide = table.pivot_table(index=keys, columns="rule", values="final loss", sort=False)
    ratios = wide.div(wide["best constant"], axis=0).drop(columns="best constant")
    best = table[table["rule"] == "best constant"].set_index(keys)["first weight"].rename("best weight")
    shown = pd.concat([ratios, best], axis=1).reset_index().rename(columns={"mse": "alpha*", "step": "alpha_kappa"})
    return "\n".join(
        [
            _title("Cosine decay from kappa: a weight that follows the step against constant ones"),
            _prose("Final loss over that of the best constant weight; a schedule below 1 would beat every constant."),
            _text(_named(shown), digits=3),
        ]
    )


def _steps_to_target(tables: dict[str, pd.DataFrame]) -> str:
    table = tables["steps_to_target"]
    keys = ["hessian", "problem", "share"]
    wide = table.pivot_table(index=keys, columns="rule", values="steps", sort=False, dropna=False)
    best = table[table["rule"] == "best of a grid"].set_index(keys)["weight"].rename("its weight")
    shown = pd.concat([wide, best], axis=1).reset_index().rename(columns={"mse": "alpha*", "share": "target"})
    for name in [*wide.columns.intersection(shown.columns), "alpha*"]:
        shown[name] = ["never" if np.isinf(steps) else f"{steps:.0f}" for steps in shown[name]]
    return "\n".join(
        [
            _title("Steps that a weight needs to reach a target"),
            _prose(
                "The target is a share of the squared gradient at the start, to be met in the mean; every weight has "
                "the constant step size that suits it best. never: none of the step sizes gets there in 3000 steps."
            ),
            _text(_named(shown), digits=3),
        ]
    )


def _language_model(tables: dict[str, pd.DataFrame]) -> str:
    if "language_model" not in tables:
        return ""
    steps = tables["language_model"]
    bounded = steps[steps["applies"]]
    return "\n".join(
        [
            _title("SGD on the model in the box"),
            _prose(
                f"The one-step bound held at {int(bounded['holds'].sum())} of {len(bounded)} iterates, kappa up to "
                f"{bounded['kappa'].max():.2g}; at {len(steps) - len(bounded)} more, eta L > 1 and none applies. L is "
                "1.2 times the largest curvature met along the run: measured, not proved."
            ),
        ]
    )


def _verdict(findings: Findings) -> str:
    count = failed(findings)
    return f"{count} bounds FAILED" if count else "every bound held"


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"problem": "regime"})


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _prose(text: str) -> str:
    return fill(text, COLUMNS)


def _text(table: pd.DataFrame, digits: int = 4) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.{digits}g}")
