"""Slow half of the MSE figure: moments of the three shipped regimes -> results/mse_alpha.json (about a minute)."""

import json
from pathlib import Path

import torch

from bvpo_analysis import Study, load_model, shipped_pairs
from bvpo_analysis.exact import load_table
from bvpo_analysis.preferences.shipped import DIRECTORY, REGIMES
from bvpo_analysis.report.results import study_results

RESULTS = Path(__file__).parent / "results" / "mse_alpha.json"
BATCH_SIZE, KAPPA, TRACES = 16, 1.0, 4


def main() -> None:
    """Score every shipped pair and keep the small numbers that figures and the README quote."""
    torch.set_num_threads(1)
    lrm = load_model()
    found = {}
    for regime in REGIMES:
        pairs = shipped_pairs(regime)
        study = Study.from_pairs(lrm, pairs, traces=TRACES, label=regime)
        core = study_results(
            study,
            pairs,
            batch_size=BATCH_SIZE,
            kappa=KAPPA,
            policy=lrm.fingerprint,
            provenance=json.loads((DIRECTORY / f"{regime}.provenance.json").read_text()),
            exact=load_table(regime),
        )
        found[regime] = {key: core[key] for key in ("headline", "alerts", "curve", "targets")}
    RESULTS.parent.mkdir(exist_ok=True)
    facts = {"model": lrm.fingerprint, "batch_size": BATCH_SIZE, "kappa": KAPPA, "traces": TRACES, "regimes": found}
    RESULTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
