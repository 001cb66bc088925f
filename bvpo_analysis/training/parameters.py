"""Which parameters of a policy are trained."""

import re

import torch

from bvpo_analysis.errors import InputError


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
