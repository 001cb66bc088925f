"""How CPU time grows with the number of sequences N, tokens T, parameters P and traces K, with fitted exponents."""

import numpy as np
import torch
from models import make_sequences, parameters_of
from timing import interleaved
from transformers import AutoModelForCausalLM, Qwen3Config
from whole_study import products_of_pairs

from bvpo_analysis.scores import HooksEngine


def model_of_width(width: int) -> torch.nn.Module:
    """A random Qwen3 model whose parameters grow as the square of its width."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=5 * width // 2,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=width // 4,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)


def growth_rows(rounds: int, *, tiny: bool = False) -> list[dict]:
    """CPU seconds at each size; scoring for N, T and P, the products of four pairs for K."""
    base_width = 32 if tiny else 128
    model = model_of_width(base_width)
    counts, tokens, widths, ks = (
        (16, 32, 64, 128, 256),
        (16, 32, 64, 128, 256, 512),
        (32, 64, 128, 256),
        (1, 2, 4, 8, 16),
    )
    if tiny:
        counts, tokens, widths, ks = (2, 4), (8, 16), (32, 64), (1, 2)
    fixed_count, fixed_tokens = (4, 8) if tiny else (32, 64)
    functions, sizes = {}, {}

    def add(axis: str, size: int, net: torch.nn.Module, count: int, length: int) -> None:
        engine, sequences = HooksEngine(net), make_sequences(net, count, length)
        out = engine.buffer(count)
        functions[f"{axis}={size}"] = lambda: engine.fill(sequences, out)
        sizes[f"{axis}={size}"] = (axis, size)

    for n in counts:
        add("N", n, model, n, fixed_tokens)
    for t in tokens:
        add("T", t, model, fixed_count, t)
    for width in widths:
        net = model_of_width(width)
        add("P", parameters_of(net), net, fixed_count, fixed_tokens)
    for k in ks:
        functions[f"K={k}"] = lambda k=k: products_of_pairs(model, 4, k, fixed_tokens)
        sizes[f"K={k}"] = ("K", k)
    seconds = interleaved(functions, rounds)
    rows = [
        {"axis": sizes[name][0], "size": sizes[name][1], "seconds": float(np.median(values))}
        for name, values in seconds.items()
    ]
    for axis in "NTPK":
        here = [row for row in rows if row["axis"] == axis]
        # K traces are 2K + 2 sequences per pair.
        size = [2 * row["size"] + 2 if axis == "K" else row["size"] for row in here]
        slope = float(np.polyfit(np.log(size), np.log([row["seconds"] for row in here]), 1)[0])
        for row in here:
            row["exponent"] = slope
    return rows


def draw(rows: list[dict], path: str) -> None:
    """Log-log plot of CPU seconds with the fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), sharey=True, constrained_layout=True)
    for ax, axis in zip(axes, "NTPK", strict=True):
        here = [row for row in rows if row["axis"] == axis]
        ax.loglog([row["size"] for row in here], [row["seconds"] for row in here], "o-", color="#0072B2")
        ax.set_xlabel(axis)
        ax.set_title(f"exponent {here[0]['exponent']:.2f}" + (" in 2K + 2" if axis == "K" else ""), fontsize=9)
    axes[0].set_ylabel("CPU seconds")
    figure.savefig(path, metadata={"CreationDate": None} if path.endswith("pdf") else None)
