"""``python -m bvpo_analysis.exact``: exact moments of the shipped pairs by enumerating all 24 traces of every prompt.

The finite set of pairs is the population: plain averages, no correction. The table written beside the pairs is what
sampled estimates are compared with, and every report recomputes the first prompts of it as a check.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.lrm.shipped.task import enumerate_traces
from bvpo_analysis.moments import Moments, PromptMoments, enumerated_moments, prompt_moments
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.preferences.native import pair_to_row
from bvpo_analysis.preferences.shipped import DIRECTORY, REGIMES, shipped_pairs
from bvpo_analysis.records import PreferencePair, ScoreSet
from bvpo_analysis.scores import score_pairs
from bvpo_analysis.study import Study


def shipped_traces(pair: PreferencePair) -> tuple[str, ...]:
    """The 24 correct traces of a prompt of the task in the box.

    Raises:
        InputError: the prompt is not one of that task.

    Example:
        >>> from bvpo_analysis import shipped_pairs
        >>> len(shipped_traces(shipped_pairs("style", limit=1)[0]))
        24
    """
    try:
        return enumerate_traces(str(pair.prompt[-1]["content"]))
    except ValueError as error:
        raise InputError(
            f"prompt {pair.prompt_id!r}: traces can be enumerated for the task of the model in the box only ({error}); "
            "use --traces with a number"
        ) from error


def pairs_fingerprint(pairs: Sequence[PreferencePair]) -> str:
    """BLAKE2b hash of prompts and answers, what exact moments depend on besides the model.

    Example:
        >>> from bvpo_analysis import shipped_pairs
        >>> len(pairs_fingerprint(shipped_pairs("style", limit=2)))
        32
    """
    digest = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        row = pair_to_row(pair)
        answers = [pair.answer(0), pair.answer(1), pair.empty_chosen, pair.empty_rejected]
        digest.update(json.dumps([row["prompt_id"], row["prompt"], answers]).encode())
    return digest.hexdigest()


def rows_fingerprint(pairs: Sequence[PreferencePair]) -> str:
    """BLAKE2b hash of whole rows, traces and provenance included: the identity of a data set.

    Example:
        >>> from bvpo_analysis import shipped_pairs
        >>> pairs = shipped_pairs("style", limit=2)
        >>> rows_fingerprint(pairs) == rows_fingerprint(pairs[:1])
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        digest.update(json.dumps(pair_to_row(pair), sort_keys=True).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class ExactTable:
    """Committed exact moments of one regime.

    Attributes:
        model, data: fingerprints of the weights and of prompts and answers.
        objective: the loss, as its repr.
        moments: exact moments with the pairs as the population.
        sample_moments: the same with the prompts as a sample of a larger population.
        prompts: exact moments per prompt id.
    """

    model: str
    data: str
    objective: str
    moments: Moments
    sample_moments: Moments
    prompts: Mapping[str, PromptMoments]

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable form; :meth:`from_json` reads it back."""
        return {
            "model": self.model,
            "data": self.data,
            "objective": self.objective,
            "moments": _moments_to_json(self.moments),
            "sample_moments": _moments_to_json(self.sample_moments),
            "prompts": {prompt_id: asdict(moments) for prompt_id, moments in self.prompts.items()},
        }

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "ExactTable":
        """Read :meth:`to_json` back."""
        prompts = {prompt_id: PromptMoments(**moments) for prompt_id, moments in table["prompts"].items()}
        return cls(
            model=table["model"],
            data=table["data"],
            objective=table["objective"],
            moments=_moments_from_json(table["moments"]),
            sample_moments=_moments_from_json(table["sample_moments"]),
            prompts=prompts,
        )


def _moments_to_json(moments: Moments) -> dict[str, float]:
    arrays = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]
    return {"n": moments.n} | {name: float(getattr(moments, name)[0]) for name in arrays}


def _moments_from_json(numbers: Mapping[str, float]) -> Moments:
    arrays: dict[str, Any] = {name: np.array([value]) for name, value in numbers.items() if name != "n"}
    return Moments(n=int(numbers["n"]), **arrays)


def table_path(regime: str) -> Path:
    """Where the exact table of a regime is kept."""
    return DIRECTORY / f"{regime}.exact.json"


def load_table(regime: str) -> ExactTable:
    """The committed exact table of a shipped regime.

    Raises:
        InputError: it has not been computed.
    """
    path = table_path(regime)
    if not path.exists():
        raise InputError(f"{path.name} is missing; compute it with: python -m bvpo_analysis.exact --regime {regime}")
    return ExactTable.from_json(json.loads(path.read_text()))


def compute_table(lrm: ReasoningModel, regime: str, objective: Objective) -> ExactTable:
    """Enumerate all traces of all shipped pairs of a regime."""
    pairs = shipped_pairs(regime)
    study = Study.from_pairs(lrm, pairs, objective=objective, enumerate_traces=shipped_traces, label=f"exact {regime}")
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    sample = enumerated_moments(study.scores, *estimators, as_sample=True)
    prompts = _prompt_table(study.scores, objective)
    return ExactTable(lrm.fingerprint, pairs_fingerprint(pairs), repr(objective), study.whole, sample, prompts)


def _prompt_table(scores: ScoreSet, objective: Objective) -> dict[str, PromptMoments]:
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    return {pair.log_probs.prompt_id: prompt_moments(pair, *estimators) for pair in scores.pairs}


def enumerate_prompts(lrm: ReasoningModel, pairs: Sequence[PreferencePair]) -> ScoreSet:
    """Scores of pairs with all of their traces."""
    return score_pairs(lrm, pairs, enumerate_traces=shipped_traces, label="exact check")


def largest_deviation(
    lrm: ReasoningModel,
    pairs: Sequence[PreferencePair],
    table: ExactTable,
    objective: Objective,
    *,
    scores: ScoreSet | None = None,
) -> float:
    """Recompute prompts by enumeration: the largest deviation of any moment from the table, relative to its prompt.

    Deviations are relative to the largest moment of the same prompt, since some of them are zero by theory.

    Args:
        lrm: the model.
        pairs: which prompts.
        table: the committed table.
        objective: its loss.
        scores: of :func:`enumerate_prompts` on these pairs, if they are there already.

    Raises:
        StudyError: the table is of another model, loss or set of prompts.
    """
    unknown = [pair.prompt_id for pair in pairs if pair.prompt_id not in table.prompts]
    if table.model != lrm.fingerprint or table.objective != repr(objective) or unknown:
        raise StudyError("the exact table belongs to another model, loss or data set; recompute it with `make exact`")
    worst = 0.0
    scored = scores if scores is not None else enumerate_prompts(lrm, pairs)
    for prompt_id, moments in _prompt_table(scored, objective).items():
        expected = asdict(table.prompts[prompt_id])
        scale = max(abs(value) for value in expected.values())
        worst = max(worst, *(abs(value - expected[name]) / scale for name, value in asdict(moments).items()))
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.exact", description=__doc__)
    parser.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    parser.add_argument("--output-dir", type=Path, default=DIRECTORY, help="where to write (default: the package)")
    parser.add_argument("--beta", type=float, default=0.1, help="DPO's beta (default 0.1)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        if not 0 < options.beta < math.inf:
            raise InputError(f"--beta must be a positive number, got {options.beta}")
        lrm = load_model()
        options.output_dir.mkdir(parents=True, exist_ok=True)
        for regime in options.regime or REGIMES:
            table = compute_table(lrm, regime, DPO(options.beta))
            path = options.output_dir / table_path(regime).name
            part = path.with_name(path.name + ".part")
            part.write_text(json.dumps(table.to_json(), indent=1) + "\n")
            part.replace(path)
            print(f"{regime}: exact moments of {table.moments.n} prompts written")
    except (InputError, StudyError) as error:
        return exit_with(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
