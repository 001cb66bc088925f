"""Which parameters of a policy are trained: all, those of a name, or low-rank adapters."""

import importlib
import re
from dataclasses import replace
from typing import Any

import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel


def trained_parameters(model: torch.nn.Module, pattern: str | None = None) -> dict[str, torch.nn.Parameter]:
    """The parameters whose name matches, set to require gradients; all others are set not to.

    Of a model with adapters only the adapters are candidates: their names contain "lora_".

    Args:
        model: the policy.
        pattern: regular expression, searched for in the names; None for all candidates.

    Raises:
        InputError: an expression that cannot be read or that matches nothing.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> list(trained_parameters(model, r"^1\\."))
        ['1.weight', '1.bias']
    """
    named = dict(model.named_parameters())
    adapters = {name: p for name, p in named.items() if "lora_" in name}
    candidates = adapters or named
    try:
        chosen = {name: p for name, p in candidates.items() if pattern is None or re.search(pattern, name)}
    except re.error as error:
        raise InputError(f"--params {pattern!r} is not a regular expression ({error})") from error
    if not chosen:
        raise InputError(f"--params {pattern!r} matches no parameter; names look like {next(iter(candidates))!r}")
    for name, parameter in named.items():
        parameter.requires_grad_(name in chosen)
    return chosen


def with_adapters(lrm: ReasoningModel, rank: int, alpha: float, seed: int) -> ReasoningModel:
    """The model with a low-rank adapter, W + (alpha / rank) B A, on every linear map; at the start B = 0.

    Args:
        lrm: the model, whose layers are replaced in place.
        rank: r of the adapters.
        alpha: their scale.
        seed: of A.

    Raises:
        InputError: the package peft is not installed.
    """
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError as error:
        raise InputError("--lora-rank needs the package peft; install it with: pip install '.[lora]'") from error
    options = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = peft.get_peft_model(lrm.model, options)
    return replace(lrm, model=model.eval())


def without_adapters(lrm: ReasoningModel) -> ReasoningModel:
    """The model with its adapters added to the weights they adapt, and gone; any other model as it is."""
    model: Any = lrm.model
    return replace(lrm, model=model.merge_and_unload().eval()) if hasattr(model, "merge_and_unload") else lrm
