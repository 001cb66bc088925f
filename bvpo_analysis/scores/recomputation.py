"""Gradient checkpointing of a model in evaluation mode: activations of a layer are computed again when it is its turn.

Memory then grows with one layer's activations and not with all of them, for one more forward pass. The switch that
transformers has for it works in training mode only. On the CPU the gradients are the same to the last bit.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

_LAYER_NAME = re.compile(r"(?:.*\.)?(?:layers|h|blocks|block)\.\d+")


def model_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The repeated layers of a model, by the names architectures give them."""
    return [module for name, module in model.named_modules() if _LAYER_NAME.fullmatch(name)]


@contextmanager
def recomputed_layers(model: torch.nn.Module) -> Iterator[None]:
    """Within the context, no layer's activations are kept between forward and backward pass.

    Gradients must be taken within the context, with respect to the model's own parameters.
    """
    layers = [(layer, layer.__dict__.get("forward")) for layer in model_layers(model)]
    for layer, _ in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, own in layers:
            if own is None:
                del layer.forward
            else:
                layer.forward = own
