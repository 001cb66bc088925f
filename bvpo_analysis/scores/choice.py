"""The score engines by name, and the automatic choice among them."""

import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.scores.engines import LoopEngine, ScoreEngine, VmapEngine
from bvpo_analysis.scores.hooks import HooksEngine

ENGINES: dict[str, type[ScoreEngine]] = {engine.name: engine for engine in (VmapEngine, HooksEngine, LoopEngine)}
"""The engines by name."""
ENGINE_NAMES = ("auto", *ENGINES)
"""What a caller may ask for."""


def score_engine(name: str, model: torch.nn.Module, parameters: str | None = None) -> ScoreEngine:
    """The engine of that name; "auto" takes hooks where they serve the whole model, else vmap.

    Args:
        name: "auto", "vmap", "hooks" or "loop".
        model: causal language model in eval mode.
        parameters: regular expression of the parameters to differentiate.

    Raises:
        InputError: no such engine, the model is in training mode, or no parameter matches.
    """
    if name not in ENGINE_NAMES:
        raise InputError(f"unknown engine {name!r}; choose among {', '.join(ENGINE_NAMES)}")
    if name != "auto":
        return ENGINES[name](model, parameters)
    hooks = HooksEngine(model, parameters)
    return hooks if hooks.fallback is None else VmapEngine(model, parameters)
