"""Models and sequences of the benchmarks: the model in the box, and random Qwen3 models of 0.8 M and 5 M parameters."""

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.sequences import TokenSequence

SHAPES = {
    "0.8M": {"hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4, "head_dim": 32, "vocab_size": 256},
    "5M": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "head_dim": 64, "vocab_size": 512},
    "tiny": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 4, "vocab_size": 40},
}
"""Random models, with tied embeddings and four heads."""


def make_model(name: str) -> torch.nn.Module:
    """The model in the box ("box") or a random one, in float32 and eval mode, with eager attention."""
    if name == "box":
        return load_model().model
    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPES[name],
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        initializer_range=0.05,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)


def make_sequences(model: torch.nn.Module, count: int, tokens: int, seed: int = 0) -> list[TokenSequence]:
    """Random sequences of one length; three quarters of each are scored, as a trace and an answer."""
    ids = np.random.default_rng(seed).integers(1, model.config.vocab_size, (count, tokens))
    return [TokenSequence(tuple(row.tolist()), tokens // 4, tokens - tokens // 4) for row in ids]


def parameters_of(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())
