"""``python -m bvpo_analysis.preferences.shipped.build``: rebuild the shipped preference pairs from a seed.

For each regime prompts are sampled until enough give a pair with thinking and one without; each answer then gets three
further posterior traces by exact rejection, each prompt seven prior traces. Written beside the rows: what was dropped,
and how much of the posterior mass of the answers the 24 enumerated traces cover, estimated from those very posterior
traces. ``--prior-only`` draws the prior traces of existing rows again and leaves everything else as it is.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.lrm.shipped.task import is_correct_trace, is_right, sample_problem, style_reward, value_reward
from bvpo_analysis.preferences.on_policy import (
    BuildCounts,
    OnPolicySampler,
    add_posterior_traces,
    add_prior_traces,
    build_pairs,
)
from bvpo_analysis.preferences.rows import read_pairs, write_pairs
from bvpo_analysis.preferences.shipped import DIRECTORY, REGIMES
from bvpo_analysis.preferences.shipped.rules import RULES
from bvpo_analysis.records import PreferencePair

_PROMPTS_PER_ROUND = 256
_SCORES = {
    "style": style_reward,
    "valid": value_reward,
    "correct": lambda prompt, answer: float(is_right(prompt, answer)),
}


def build_regime(
    lrm: ReasoningModel, regime: str, *, pairs: int, seed: int, further: int, prior: int
) -> tuple[list[PreferencePair], BuildCounts]:
    """The first ``pairs`` preference pairs of a regime, and what was dropped on the way."""
    rng = np.random.default_rng([seed, REGIMES.index(regime)])
    sampler = OnPolicySampler(lrm, seed=seed)
    meta = {"policy": lrm.fingerprint, "temperature": 1.0, "seed": seed, "reward": regime, "trace_source": "posterior"}
    counts = BuildCounts()
    kept: list[PreferencePair] = []
    while len(kept) < pairs:
        first = counts.prompts
        prompts = [
            (f"{regime}-{first + i:05d}", ({"role": "user", "content": sample_problem(rng).text},))
            for i in range(_PROMPTS_PER_ROUND)
        ]
        found = build_pairs(sampler, prompts, RULES[regime], meta=meta, score=_SCORES[regime], counts=counts)
        found = found[: pairs - len(kept)]
        kept += add_posterior_traces(sampler, found, further, counts=counts)
        print(f"{regime}: {len(kept)} pairs from {counts.prompts} prompts", file=sys.stderr)
    return add_prior_traces(sampler, kept, prior, counts=counts), counts


def renew_prior_traces(lrm: ReasoningModel, regime: str, directory: Path, *, seed: int, prior: int) -> BuildCounts:
    """Draw the prior traces of a regime's rows again and rewrite them, with their counts, as a whole build would.

    Raises:
        InputError: no such rows, or rows of another model or seed.
    """
    path, facts_path = directory / f"{regime}.jsonl", directory / f"{regime}.provenance.json"
    pairs, counts = read_pairs(path), BuildCounts()
    if {(pair.meta.get("policy"), pair.meta.get("seed")) for pair in pairs} != {(lrm.fingerprint, seed)}:
        raise InputError(f"{path}: rows of another model or seed; build them whole, without --prior-only")
    facts = json.loads(facts_path.read_text(encoding="utf-8"))
    renewed = add_prior_traces(OnPolicySampler(lrm, seed=seed), pairs, prior, counts=counts)
    facts["counts"] |= {name: value for name, value in asdict(counts).items() if name.startswith("prior_")}
    write_pairs(path, renewed)
    facts_path.write_text(json.dumps(facts, indent=2) + "\n")
    return counts


def posterior_coverage(pairs: Sequence[PreferencePair]) -> dict[str, float | int]:
    """Share of the posterior traces that the enumeration contains, with a standard error clustered by prompt."""
    covered = np.array(
        [
            np.mean([is_correct_trace(p.prompt[-1]["content"], t) for side in (0, 1) for t in p.traces(side)])
            for p in pairs
        ]
    )
    count = sum(len(p.traces(side)) for p in pairs for side in (0, 1))
    by_side = {
        f"value_{name}": float(
            np.mean([is_correct_trace(p.prompt[-1]["content"], t) for p in pairs for t in p.traces(side)])
        )
        for side, name in enumerate(("chosen", "rejected"))
    }
    se = float(covered.std(ddof=1) / np.sqrt(len(covered)))
    return {"value": float(covered.mean()), "se": se, "traces": count, **by_side}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.preferences.shipped.build", description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=DIRECTORY, help="where to write (default: the package)")
    parser.add_argument("--pairs", type=int, default=256, help="pairs per regime (default 256)")
    parser.add_argument("--further", type=int, default=3, help="further posterior traces per answer (default 3)")
    parser.add_argument("--prior", type=int, default=7, help="prior traces per prompt (default 7)")
    parser.add_argument("--prior-only", action="store_true", help="renew the prior traces of existing rows only")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        lrm = load_model()
        options.output_dir.mkdir(parents=True, exist_ok=True)
        for regime in options.regime or REGIMES:
            if options.prior_only:
                counts = renew_prior_traces(lrm, regime, options.output_dir, seed=options.seed, prior=options.prior)
                print(f"{regime}: {counts.prior_completions} prior traces, {counts.prior_unclosed} never closed")
                continue
            pairs, counts = build_regime(
                lrm, regime, pairs=options.pairs, seed=options.seed, further=options.further, prior=options.prior
            )
            write_pairs(options.output_dir / f"{regime}.jsonl", pairs)
            facts = {
                "pairs": len(pairs),
                "model": lrm.fingerprint,
                "seed": options.seed,
                "counts": asdict(counts),
                "posterior_coverage": posterior_coverage(pairs),
            }
            (options.output_dir / f"{regime}.provenance.json").write_text(json.dumps(facts, indent=2) + "\n")
            coverage = facts["posterior_coverage"]
            print(f"{regime}: {len(pairs)} pairs, posterior coverage {coverage}")
    except (InputError, StudyError) as error:
        return exit_with(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
