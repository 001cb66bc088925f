"""Checkpoints from which a run goes on to the same bits: weights, optimiser, running moments and the step.

A checkpoint is one safetensors file that appears whole or not at all; its header holds what is not a tensor. The
order of the batches is a function of seed and step and needs no state.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bvpo_analysis.errors import InputError


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a step.

    Attributes:
        step: steps that are done.
        parameters: trainable parameters by name.
        optimiser: tensors of the optimiser's state, named "parameter/entry".
        noise: the noise of g_t in the last batch, for the running moments; None where they are not kept.
        best: parameters at the best evaluation so far; empty without early stopping.
        state: everything else, as plain JSON values.
    """

    step: int
    parameters: Mapping[str, torch.Tensor]
    optimiser: Mapping[str, torch.Tensor]
    noise: torch.Tensor | None
    best: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors, parameters in the order of ``names``."""
    return {
        f"{names[i]}/{entry}": value if torch.is_tensor(value) else torch.tensor(value)
        for i, entries in optimiser.state_dict()["state"].items()
        for entry, value in entries.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Put :func:`optimiser_tensors` back."""
    whole = optimiser.state_dict()
    whole["state"] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        whole["state"].setdefault(names.index(name), {})[entry] = value.clone()
    optimiser.load_state_dict(whole)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears only when it is complete."""
    tensors = {f"parameters/{n}": t for n, t in checkpoint.parameters.items()}
    tensors |= {f"optimiser/{n}": t for n, t in checkpoint.optimiser.items()}
    tensors |= {f"best/{n}": t for n, t in checkpoint.best.items()}
    if checkpoint.noise is not None:
        tensors["noise"] = checkpoint.noise
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, {"run": json.dumps({"step": checkpoint.step, "state": checkpoint.state})})
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back, bit for bit.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["run"])
            # Copied, since sums over memory that is aligned in another way are taken in another order.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint ({type(error).__name__}); start again with --overwrite") from error

    def part(kind: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}

    noise, state = tensors.get("noise"), header["state"]
    return Checkpoint(header["step"], part("parameters/"), part("optimiser/"), noise, part("best/"), state)
