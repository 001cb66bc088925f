"""Score sets on disk: one safetensors file each, written whole or not at all, and the blocks of a running pass.

Ragged per-pair arrays are concatenated, with the sizes kept beside them; names and settings travel as JSON in the
header. No pickle. A block is the score set of its pairs; ``totals.safetensors`` holds the running totals after the
last finished block, so that a resumed sum has the same additions in the same order.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import PairLogProbs, PairScores, ScoreSet

_PER_SEQUENCE = ("log_prob", "log_prob_ref", "log_prob_answer", "tokens", "tokens_answer", "length")


def _replace(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def save_scores(path: str | Path, scores: ScoreSet) -> None:
    """Write a score set; the file appears only when it is complete."""
    path = Path(path)
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
    part = path.with_name(path.name + ".part")
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, part, {"scores": json.dumps(header)})
    _replace(part, path)


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


class BlockStore:
    """Finished blocks of one scoring run in a folder.

    Args:
        folder: made if missing.
        key: everything the blocks depend on; JSON-serialisable.

    Raises:
        InputError: the folder holds blocks of a run with another key.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.blake2b(json.dumps(key, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()
        path = folder / "key.txt"
        if path.exists() and path.read_text().strip() != digest:
            raise InputError(f"{folder}: holds blocks of a run with other data or settings; use --overwrite")
        path.write_text(digest + "\n")

    def _path(self, kind: str, start: int) -> Path:
        return self.folder / f"{kind}-{start:06d}.safetensors"

    def has(self, kind: str, start: int) -> bool:
        """Whether a block is finished."""
        return self._path(kind, start).exists()

    def read(self, kind: str, start: int) -> ScoreSet:
        """A finished block."""
        return load_scores(self._path(kind, start))

    def write(self, kind: str, start: int, scores: ScoreSet) -> None:
        """Finish a block."""
        save_scores(self._path(kind, start), scores)

    def restore(self, vectors: torch.Tensor) -> tuple[int, torch.Tensor]:
        """(number of blocks in the totals, totals [A, P]); (0, ``vectors``) at the start of a run."""
        path = self.folder / "totals.safetensors"
        if not path.exists():
            return 0, vectors
        try:
            held = load_tensors(path)
        except SafetensorError as error:
            raise InputError(f"{path}: is damaged; start again with --overwrite") from error
        return int(held["blocks"].item()), held["totals"].to(vectors.device)

    def checkpoint(self, blocks: int, vectors: torch.Tensor) -> None:
        """Keep the totals after so many blocks; a block counts as finished from here on."""
        path = self.folder / "totals.safetensors"
        part = path.with_name(path.name + ".part")
        save_tensors({"blocks": torch.tensor(blocks), "totals": vectors.cpu().contiguous()}, part)
        _replace(part, path)
