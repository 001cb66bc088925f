"""Score sets on disk: one safetensors file each, written whole or not at all.

Ragged per-pair arrays are concatenated, with the sizes kept beside them; names and settings travel as JSON in the
header. No pickle.
"""

import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import PairLogProbs, PairScores, ScoreSet

_PER_SEQUENCE = ("log_prob", "log_prob_ref", "log_prob_answer", "tokens", "tokens_answer", "length")


def replace_file(part: Path, path: Path) -> None:
    """Let a complete file take its place, once the disk has it."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def save_scores(path: str | Path, scores: ScoreSet, *, part: Path | None = None) -> None:
    """Write a score set; the file appears only when it is complete. ``part`` is where it is written until then."""
    path = Path(path)
    part = path.with_name(path.name + ".part") if part is None else part
    logs = [pair.log_probs for pair in scores.pairs]
    arrays: dict[str, np.ndarray] = {
        "size": np.array([log.size for log in logs]),
        "n_draws": np.array([len(log.draws) for log in logs]),
        "n_support": np.array([log.support.shape[1] for log in logs]),
        "draws": np.concatenate([log.draws for log in logs]),
        "weights": np.concatenate([log.weights for log in logs]),
        "support": np.concatenate([log.support.ravel() for log in logs]),
        "empty": np.stack([log.empty for log in logs]),
        "n_prior": np.array([len(log.prior) for log in logs]),
        "n_trace_only": np.array([len(log.trace_only) for log in logs]),
        "prior": np.concatenate([log.prior for log in logs]),
        "trace_only": np.concatenate([log.trace_only for log in logs]),
        "variants": np.array([list(log.variants.values()) for log in logs], dtype=np.int64).reshape(len(logs), -1, 2),
        "enumerated": np.array([log.enumerated for log in logs]),
        "gram": np.concatenate([pair.gram.ravel() for pair in scores.pairs]),
        "with_totals": np.concatenate([pair.with_totals.ravel() for pair in scores.pairs]),
        "sketches": np.stack([pair.sketches for pair in scores.pairs]),
        "totals_gram": scores.totals_gram,
    }
    arrays |= {name: np.concatenate([getattr(log, name) for log in logs]) for name in _PER_SEQUENCE}
    header = {
        "prompt_ids": [log.prompt_id for log in logs],
        "groups": list(scores.groups),
        "parameters": list(scores.parameters),
        "totals": list(scores.totals),
        "settings": dict(scores.settings),
        "variants": list(logs[0].variants),
    }
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, part, {"scores": json.dumps(header)})
    replace_file(part, path)


def load_scores(path: str | Path) -> ScoreSet:
    """Read a score set back, bit for bit.

    Raises:
        InputError: the file is missing or is not a score set.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["scores"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: not a score set ({type(error).__name__}); recompute it with --overwrite") from error
    groups, columns = len(header["groups"]), len(header["totals"]) if arrays["with_totals"].size else 0
    pairs: list[PairScores] = []
    at = dict.fromkeys(("sequence", "draw", "support", "gram", "with_totals", "prior", "trace_only"), 0)

    def take(array: str, counter: str, count: int) -> np.ndarray:
        return arrays[array][at[counter] : at[counter] + count]

    for i, prompt_id in enumerate(header["prompt_ids"]):
        m, r, e = (int(arrays[name][i]) for name in ("size", "n_draws", "n_support"))
        priors, alone = int(arrays["n_prior"][i]), int(arrays["n_trace_only"][i])
        log_probs = PairLogProbs(
            prompt_id=prompt_id,
            draws=take("draws", "draw", r),
            weights=take("weights", "draw", r),
            enumerated=bool(arrays["enumerated"][i]),
            support=take("support", "support", 2 * e).reshape(2, e),
            empty=arrays["empty"][i],
            prior=take("prior", "prior", priors),
            trace_only=take("trace_only", "trace_only", alone),
            variants=dict(zip(header["variants"], arrays["variants"][i], strict=True)),
            **{name: take(name, "sequence", m) for name in _PER_SEQUENCE},
        )
        pairs.append(
            PairScores(
                log_probs,
                take("gram", "gram", groups * m * m).reshape(groups, m, m),
                take("with_totals", "with_totals", groups * columns**2).reshape(groups, columns, columns),
                arrays["sketches"][i],
            )
        )
        sizes = {"sequence": m, "draw": r, "support": 2 * e, "gram": groups * m * m}
        sizes |= {"with_totals": groups * columns**2, "prior": priors, "trace_only": alone}
        at = {name: at[name] + sizes[name] for name in at}
    return ScoreSet(
        pairs=tuple(pairs),
        groups=tuple(header["groups"]),
        parameters=tuple(header["parameters"]),
        totals=tuple(header["totals"]),
        totals_gram=arrays["totals_gram"],
        settings=header["settings"],
    )
