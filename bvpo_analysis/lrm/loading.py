"""Loading a reasoning model for analysis: float32, eager attention, eval mode, and a fingerprint of its weights.

Eager attention is the one implementation under which ``vmap`` over a batch of one, forward-mode derivatives and
second-order products all work and agree; ``dropout`` off and TF32 off make the scores a function of the weights alone.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.sequences import SequenceAssembler


@dataclass(frozen=True)
class ReasoningModel:
    """A causal language model with its tokenizer and think format, ready to be scored.

    Attributes:
        name: path or hub id it was loaded from.
        model: the network in eval mode; parameters do not require grad.
        assembler: builds token sequences.
        fingerprint: BLAKE2b hash of names, shapes and values of all parameters.
    """

    name: str
    model: torch.nn.Module
    assembler: SequenceAssembler
    fingerprint: str

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.assembler.tokenizer


def weights_fingerprint(model: torch.nn.Module) -> str:
    """BLAKE2b hash of names, shapes, types and values of all parameters.

    Models of one architecture and configuration with equal fingerprints compute the same scores.

    Example:
        >>> import torch
        >>> a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> weights_fingerprint(a) == weights_fingerprint(a), weights_fingerprint(a) == weights_fingerprint(b)
        (True, False)
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_model(
    path: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    attention: str = "eager",
) -> ReasoningModel:
    """Load a reasoning model; without a path, the one in the box.

    Args:
        path: directory or hub id that ``AutoModelForCausalLM.from_pretrained`` understands.
        dtype: dtype of the weights. Analyse in float32; float64 serves tests; bf16 is not recommended.
        device: where to put it.
        attention: attention implementation; "eager" is the one that every engine supports.

    Raises:
        InputError: nothing loadable at ``path``, no padding token, or an unfit chat template.

    Example:
        >>> lrm = load_model()
        >>> sum(p.numel() for p in lrm.model.parameters()) < 1_000_000
        True
    """
    from bvpo_analysis.lrm.shipped import MODEL_DIR

    source = str(path if path is not None else MODEL_DIR)
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source)
            model, found = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, attn_implementation=attention, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        is_path = source.startswith(("/", ".", "~"))
        if is_path and not Path(source).is_dir():
            reason = "no such folder"
        else:
            reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise InputError(
            f"no reasoning model could be loaded from {source!r} ({reason}); give --model a directory "
            "that holds config.json, weights and a tokenizer, or a hub id you have downloaded"
        ) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(problem):
            first = sorted(str(key) for key in found[problem])[0]
            raise InputError(
                f"the weights in {source!r} do not fit their configuration ({problem.replace('_', ' ')}: {first}); "
                "save the model again with save_pretrained"
            )
    model.eval().requires_grad_(False).to(device)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = path if path is not None else "the reasoning model in the box"
    return ReasoningModel(str(name), model, SequenceAssembler(tokenizer), weights_fingerprint(model))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loader's progress bars; errors still raise."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
