"""The whole measurement of one regime: train, walk along the path, draw studies; every stage can be resumed.

Finished stages lie in a folder as ``path-REGIME.json`` (with its populations in ``population-REGIME-SHARE.npz``) and
``sampled-REGIME.json``, each with the settings it belongs to: a later call goes on where an earlier one stopped.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.exact import pairs_fingerprint, shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.checkpoints import ShortRun, between, displacement, save_checkpoint, train_briefly
from bvpo_analysis.off_reference.path import Checkpoint, DataAlongPath
from bvpo_analysis.off_reference.population import ProjectedPopulation
from bvpo_analysis.off_reference.replications import replicate
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import PairLogProbs
from bvpo_analysis.scores.choice import score_engine

PAIR_ARRAYS = ("log_prob", "log_prob_ref", "log_prob_answer", "tokens", "tokens_answer", "draws", "weights")
PAIR_ROWS = ("support", "empty")


@dataclass(frozen=True)
class Settings:
    """Size of the measurement.

    Attributes:
        prompts: how many of a regime's pairs, the first ones, are enumerated; the run trains on all of them.
        beta, batch_size: of the loss and of the M3 weight.
        run: the short run that gives d.
        shares: t of the checkpoints.
        beta_share, betas: where, and at which beta, the expansion in beta is compared.
        sampled_shares, traces, replications: checkpoints, K and number of the studies that are drawn.
        projection: length of the projected scores they are drawn from.
        seed: of the studies.
    """

    prompts: int = 64
    beta: float = 0.1
    batch_size: int = 16
    run: ShortRun = field(default_factory=ShortRun)
    shares: tuple[float, ...] = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    beta_share: float = 0.25
    betas: tuple[float, ...] = (0.4, 0.2, 0.1, 0.05, 0.025, 0.0125)
    sampled_shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    traces: tuple[int, ...] = (4, 8, 16, 32)
    replications: int = 400
    projection: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if not {self.beta_share, *self.sampled_shares} <= set(self.shares):
            raise ValueError("beta_share and sampled_shares must be among the shares")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON would return them."""
        return dict(json.loads(json.dumps(asdict(self))))


def measure_regime(
    reference: ReasoningModel,
    regime: str,
    folder: Path,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Everything about one regime as JSON: points of the path, expansions in beta, and cells of sampled studies.

    Args:
        reference: the model in the box.
        regime: shipped pairs.
        folder: where finished stages are kept.
        settings: size.
        say: told about progress.

    Raises:
        InputError: the folder holds stages of other settings, data or weights.
    """
    s = settings or Settings()
    folder.mkdir(parents=True, exist_ok=True)
    pairs = shipped_pairs(regime)
    key = {"settings": s.to_json(), "reference": reference.fingerprint, "data": pairs_fingerprint(pairs)}
    walked = _stage(folder / f"path-{regime}.json", key, lambda: _walk(reference, regime, folder, s, say))
    sampled = _stage(folder / f"sampled-{regime}.json", key, lambda: _draw(regime, folder, s, say))
    return {"regime": regime, **walked, **sampled}


def _walk(
    reference: ReasoningModel, regime: str, folder: Path, s: Settings, say: Callable[[str], None]
) -> dict[str, Any]:
    pairs = shipped_pairs(regime)
    trained = train_briefly(reference, pairs, DPO(s.beta), s.run)
    save_checkpoint(trained, folder / f"checkpoint-{regime}")
    engine = score_engine("auto", reference.model, None)
    direction = displacement(reference, trained, engine.names)
    data = DataAlongPath(reference, pairs[: s.prompts], direction, shipped_traces, s.beta)
    points, betas = [], []
    for share in s.shares:
        found: Checkpoint = data.at(
            between(reference, trained, share),
            share,
            batch_size=s.batch_size,
            betas=s.betas if share == s.beta_share else (),
            projection=s.projection if share in s.sampled_shares else 0,
        )
        points.append(asdict(found.point))
        betas += [asdict(point) for point in found.betas]
        if found.population is not None:
            save_population(found.population, _population_path(folder, regime, share))
        say(f"{regime}: t = {share:g}")
    return {"trained": trained.fingerprint, "points": points, "betas": betas}


def _draw(regime: str, folder: Path, s: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    cells = []
    for share in s.sampled_shares:
        population = load_population(_population_path(folder, regime, share))
        for traces in s.traces:
            cells += replicate(
                population,
                share,
                beta=s.beta,
                traces=traces,
                prompts=s.prompts,
                batch_size=s.batch_size,
                replications=s.replications,
                seed=s.seed,
            )
            say(f"{regime}: t = {share:g}, K = {traces}")
    return {"cells": [_jsonable(asdict(cell)) for cell in cells]}


def save_population(population: ProjectedPopulation, path: Path) -> None:
    """Write a population as plain arrays, atomically."""
    arrays: dict[str, Any] = {"prompt_ids": np.array([pair.prompt_id for pair in population.pairs])}
    for i, (pair, vectors) in enumerate(zip(population.pairs, population.vectors, strict=True)):
        arrays |= {f"{i}.{name}": getattr(pair, name) for name in (*PAIR_ARRAYS, *PAIR_ROWS)}
        arrays[f"{i}.vectors"] = vectors
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, **arrays)
    part.replace(path)


def load_population(path: Path) -> ProjectedPopulation:
    """Read :func:`save_population` back.

    Raises:
        InputError: no such file.
    """
    if not path.exists():
        raise InputError(f"{path.name} is missing; delete the path-*.json beside it and run again")
    with np.load(path, allow_pickle=False) as arrays:
        ids = arrays["prompt_ids"].tolist()
        names = (*PAIR_ARRAYS, *PAIR_ROWS)
        pairs = [
            PairLogProbs(prompt_id=ids[i], enumerated=True, **{name: arrays[f"{i}.{name}"] for name in names})
            for i in range(len(ids))
        ]
        return ProjectedPopulation.of(pairs, [arrays[f"{i}.vectors"] for i in range(len(ids))])


def _jsonable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with None for numbers that JSON does not know."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


def _population_path(folder: Path, regime: str, share: float) -> Path:
    return folder / f"population-{regime}-{share:g}.npz"


def _stage(path: Path, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            raise InputError(f"{path} belongs to other settings, data or weights; give an empty --output-dir")
        return dict(kept["result"])
    result = compute()
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"key": dict(key), "result": result}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return dict(json.loads(path.read_text(encoding="utf-8"))["result"])
