"""All scores of N sequences by every engine, and the full Gram matrix, as ratios to the plain pass.

Opacus runs in train() mode (the models have no dropout), with the fastest token budget of the hooks engine, and copies
its gradients into the same matrix. BackPACK is left out: on this architecture it gives wrong gradients without a word.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from models import make_model, make_sequences, parameters_of
from plain import best_budget, plain
from timing import interleaved, ratio_to
from torch.nn import functional as F

from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores import HooksEngine, LoopEngine, ScoreEngine, VmapEngine
from bvpo_analysis.scores.gram import full_gram
from bvpo_analysis.scores.log_probs import batches_by_length, pad_batch


def opacus_fill(
    model: torch.nn.Module, places: dict[str, slice], budget: int = 2048
) -> Callable[[Sequence[TokenSequence], torch.Tensor], None]:
    """A function that writes the scores by Opacus; ImportError where it is not installed."""
    from opacus.grad_sample import GradSampleModule

    wrapped = GradSampleModule(
        copy.deepcopy(model).train().requires_grad_(True), strict=False, loss_reduction="sum", batch_first=True
    )
    parameters = {name.removeprefix("_module."): p for name, p in wrapped.named_parameters()}

    def fill(sequences: Sequence[TokenSequence], out: torch.Tensor) -> None:
        for batch in batches_by_length(sequences, budget):
            ids, trace, answer = pad_batch([sequences[j] for j in batch], "cpu")
            logits = wrapped(ids, use_cache=False).logits[:, :-1]
            token = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            (-(token.view_as(trace) * (trace + answer)).sum()).backward()
            for name, place in places.items():
                out[batch, place] = parameters[name].grad_sample.flatten(1)
                parameters[name].grad_sample = parameters[name].grad = None

    return fill


def error_against_loop(out: torch.Tensor, expected: torch.Tensor, engine: ScoreEngine) -> float:
    """Largest relative error of a parameter's gradient over sequences."""
    return max(
        float(((out[:, c] - expected[:, c]).norm(dim=1) / expected[:, c].norm(dim=1)).max())
        for c in engine.places().values()
    )


def scoring_case(model_name: str, count: int, tokens: int, rounds: int, *, slow: bool = True) -> list[dict]:
    """One row per method; ``slow`` includes the loop, vmap and Opacus."""
    model = make_model(model_name)
    sequences = make_sequences(model, count, tokens)
    budget = best_budget(model, sequences)
    hooks, vmap, loop = HooksEngine(model), VmapEngine(model), LoopEngine(model)
    assert hooks.fallback is None
    out = hooks.buffer(count)
    functions: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(model, sequences, budget),
        "hooks": lambda: hooks.fill(sequences, out),
        "hooks + full Gram": lambda: full_gram(hooks, sequences, panel=count, rows=out),
    }
    fills: dict[str, Callable[[Sequence[TokenSequence], torch.Tensor], object]] = {"hooks": hooks.fill}
    if slow:
        fills |= {"vmap": vmap.fill, "loop": loop.fill}
        try:
            fills["opacus"] = opacus_fill(model, hooks.places())
        except ImportError:
            print("opacus is not installed (pip install '.[bench]'): left out", flush=True)
        functions |= {name: (lambda f=f: f(sequences, out)) for name, f in fills.items() if name != "hooks"}
    few = sequences[:4]
    expected = loop.buffer(len(few))
    loop.fill(few, expected)
    errors = {}
    for name, fill in fills.items():
        found = torch.full_like(expected, torch.nan)
        fill(few, found)
        errors[name] = error_against_loop(found, expected, hooks)
    seconds = interleaved(functions, rounds)
    return [
        {
            "model": model_name,
            "parameters": parameters_of(model),
            "N": count,
            "T": tokens,
            "method": name,
            "budget": budget if name == "plain" else hooks.token_budget,
            "ms_per_sequence": 1e3 * sorted(seconds[name])[len(seconds[name]) // 2] / count,
            **ratio_to(seconds, name, "plain"),
            "error": errors.get(name),
        }
        for name in functions
    ]
