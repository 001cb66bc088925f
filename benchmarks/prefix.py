"""Would it pay to compute the prompt once for all sequences of a pair?

Only its forward pass could be shared: the gradients of the outputs at prompt positions differ between the sequences,
and so do the products. The bound below is what is saved if sharing itself were free: the forward pass over the prompt
tokens of all sequences but one of each pair, in CPU time, as a share of the scoring.
"""

import torch
from models import make_model
from timing import interleaved
from whole_study import RandomAssembler, random_pairs

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import HooksEngine, plan_pair, sequence_log_probs


def prefix_case(model_name: str, pairs: int, traces: int, tokens: int, rounds: int) -> dict:
    """Share of prompt tokens, and the bound on the saving."""
    if model_name == "box":
        lrm = load_model()
        model, data = lrm.model, shipped_pairs("correct", limit=pairs)
        plans = [plan_pair(lrm.assembler, pair, traces=min(traces, 4)) for pair in data]
    else:
        model = make_model(model_name)
        assembler = RandomAssembler(model.config.vocab_size, tokens)
        plans = [plan_pair(assembler, pair, traces=traces) for pair in random_pairs(pairs, traces)]
    sequences = [s for plan in plans for s in plan.sequences]
    prompts = []
    for plan in plans:
        shared = next(
            (t for t, ids in enumerate(zip(*(s.ids for s in plan.sequences), strict=False)) if len(set(ids)) > 1),
            min(len(s.ids) for s in plan.sequences),
        )
        if shared > 1:
            prompts += [TokenSequence(s.ids[:shared], shared - 1, shared - 1) for s in plan.sequences[1:]]
    engine = HooksEngine(model)
    out = engine.buffer(len(sequences))
    with torch.no_grad():
        seconds = interleaved(
            {
                "scores": lambda: engine.fill(sequences, out),
                "prompts": lambda: sequence_log_probs(model, prompts),
            },
            rounds,
        )
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return {
        "model": model_name,
        "sequences": len(sequences),
        "prompt_share_of_tokens": sum(len(p.ids) for p in prompts) / sum(len(s.ids) for s in sequences),
        "bound_on_saving": medians["prompts"] / medians["scores"],
    }
