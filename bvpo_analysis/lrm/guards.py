"""Checks of a model before any number is taken from it: it must repeat itself and must not look ahead.

Attention implementations can drop or misread the causal mask without a word, and then every log-probability is wrong.
"""

from dataclasses import dataclass
from typing import Any

import torch

from bvpo_analysis.errors import InputError

PROBE_LENGTH = 8
"""Tokens of the probe; its second half is changed to see whether the first half notices."""
LOOK_AHEAD_TOLERANCE = 1e-3
"""Largest change of earlier logits, relative to their spread; rounding gives 1e-6, a missing mask about one."""


@dataclass(frozen=True)
class GuardProbe:
    """What two changed inputs did to the logits.

    Attributes:
        look_ahead: largest change of logits before the changed tokens, relative to their standard deviation.
        repeat: largest difference between two passes over the same input; 0 for a deterministic model.
        finite: whether all logits are finite.
    """

    look_ahead: float
    repeat: float
    finite: bool


@torch.no_grad()
def probe(model: Any) -> GuardProbe:
    """Run a model three times on a short input: twice the same, once with its second half changed."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (2, PROBE_LENGTH), generator=generator).to(
        model.get_input_embeddings().weight.device
    )
    half = PROBE_LENGTH // 2
    changed = torch.cat([ids[:1, :half], (ids[:1, half:] + 1) % vocabulary], dim=1)
    first, again, other = (model(x, use_cache=False).logits[0].float() for x in (ids[:1], ids[:1], changed))
    finite = bool(torch.isfinite(torch.stack([first, other])).all())
    spread = float(first[:half].std()) if finite else float("nan")
    moved = float((first[:half] - other[:half]).abs().max())
    return GuardProbe(moved / spread if spread > 0 else 0.0, float((first - again).abs().max()), finite)


def require_sound(model: Any) -> None:
    """Hold that a model is in evaluation mode, repeats itself and is causal.

    Raises:
        InputError: with the remedy.
    """
    if model.training:
        raise InputError("the model is in training mode, where dropout makes scores random; call model.eval()")
    seen = probe(model)
    if not seen.finite:
        return  # scoring names the sequences
    if seen.repeat > 0:
        raise InputError(
            f"two passes over the same tokens differ by {seen.repeat:.2g}; use --attention eager and --device cpu, or "
            "torch.use_deterministic_algorithms(True)"
        )
    if seen.look_ahead > LOOK_AHEAD_TOLERANCE:
        raise InputError(
            f"changing later tokens changes earlier predictions (by {seen.look_ahead:.2g} of their spread): the model "
            "is no causal language model, or its attention implementation drops the mask; use --attention eager"
        )
