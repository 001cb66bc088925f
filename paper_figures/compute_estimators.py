"""Slow half of the figure of variances: estimators on 128 pairs per regime -> results/estimators.json (a minute)."""

from pathlib import Path
from typing import Any

import torch

from bvpo_analysis import EstimatorComparison, figures, load_model, mixing, shipped_pairs
from bvpo_analysis.estimators import ESTIMATORS
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Floats
from bvpo_analysis.report.results import jsonable

RESULTS = Path(__file__).parent / "results" / "estimators.json"
PAIRS, BATCH_SIZE, TRACES = 128, 16, 4


def main() -> None:
    """Score what the estimators need, and keep their variances."""
    torch.set_num_threads(1)
    lrm = load_model()
    found = {}
    for regime in REGIMES:
        compared = EstimatorComparison.from_pairs(lrm, shipped_pairs(regime, limit=PAIRS), traces=TRACES, label=regime)
        found[regime] = variance_rows(compared)
    facts = {"model": lrm.fingerprint, "pairs": PAIRS, "batch_size": BATCH_SIZE, "regimes": found}
    figures.write_results(RESULTS, figures.rounded(jsonable(facts)))


def variance_rows(compared: EstimatorComparison) -> list[dict[str, Any]]:
    """Tr Var of one realisation on one prompt over that of g_t, with the part of the traces where it is identified.

    Besides the estimators that were scored: the mean of traces, and the mixes with weights 1/2 and alpha* at B = 16.
    """
    joint = compared.joint
    base = joint.covariance[:, joint.index("trace"), joint.index("trace")]
    pair = joint.pair("trace", "empty")
    best = mixing.recommended_weights(pair.population(BATCH_SIZE))
    one, several = pair.population(1), pair.population(1, TRACES)
    rows = []
    for a, key in enumerate(joint.names):
        total, trace = joint.covariance[:, a, a], joint.trace_covariance[:, a, a]
        rows.append(_row(ESTIMATORS[key].label, key, total, trace, base))
        if key == "trace":
            label = f"mean of {TRACES} traces per answer"
            rows.append(_row(label, f"mean_of_{TRACES}", several.var_t, several.var_t_trace, base))
        if key == "empty":
            for name, label, weight in (("half", "equal mix", 0.5), ("best", "optimal mix", best)):
                parts = mixing.error_parts(one, weight)
                total = parts.total - parts.bias_sq
                rows.append(_row(label, name, total, parts.trace_var, base))
    return rows


def _row(label: str, key: str, total: Floats, trace: Floats, base: Floats) -> dict[str, Any]:
    whole, part = jackknife_estimate(total / base), jackknife_estimate(trace / base)
    known = part.value == part.value
    return {
        "key": key,
        "label": label,
        "value": whole.value,
        "low": whole.ci_low,
        "high": whole.ci_high,
        "trace": part.value if known else None,
        "trace_low": part.ci_low if known else None,
        "trace_high": part.ci_high if known else None,
    }


if __name__ == "__main__":
    main()
