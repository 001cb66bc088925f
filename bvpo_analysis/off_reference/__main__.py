"""``python -m bvpo_analysis.off_reference``: what happens to bias and weights once the model leaves its reference.

Per regime a short DPO run gives a direction d. Along theta_ref + t d all traces of the prompts are enumerated: exact
bias, variance and optimal weights, beside the leading terms of theory; then studies with K sampled traces are drawn
from the enumerated population and compared with the truth. Takes about an hour on one core; resumable.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.off_reference.measure import Settings, measure_regime
from bvpo_analysis.preferences.shipped import REGIMES


def rounded(value: Any) -> Any:
    """JSON with its numbers to nine digits: more is noise of the platform, and makes the file large.

    Example:
        >>> rounded({"a": [0.1 + 0.2, 3], "b": None})
        {'a': [0.3, 3], 'b': None}
    """
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.off_reference", description=__doc__)
    parser.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/off-reference"), help="where stages are kept")
    parser.add_argument("--prompts", type=int, default=64, help="prompts per regime (default 64)")
    parser.add_argument("--replications", type=int, default=400, help="studies per setting (default 400)")
    parser.add_argument("--summary", type=Path, help="also write all results to this file, for reports")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        if options.prompts < 4 or options.replications < 2:
            raise InputError("--prompts must be at least 4 and --replications at least 2")
        settings = Settings(prompts=options.prompts, replications=options.replications)
        reference = load_model()
        found = [
            measure_regime(reference, regime, options.output_dir, settings, say=lambda text: print(text, flush=True))
            for regime in options.regime or REGIMES
        ]
        if options.summary is not None:
            table = {"settings": settings.to_json(), "model": reference.fingerprint, "regimes": rounded(found)}
            part = options.summary.with_name(options.summary.name + ".part")
            part.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
            part.replace(options.summary)
    except (InputError, StudyError) as error:
        return exit_with(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
