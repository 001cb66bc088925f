"""Reproducible sampling from a causal language model, one random stream per row.

``model.generate(do_sample=True)`` draws from the global generator, so a sample depends on everything drawn
before it. Here generation is greedy on perturbed logits: with independent Gumbel noise G_v, argmax_v (log
π_v / T + G_v) is an exact draw from the softmax at temperature T (the Gumbel-max identity). Each row owns a
``torch.Generator`` seeded by :func:`row_seed`, so its sample is a function of its prompt and its seed,
whatever its neighbours are. One caveat: padding and batch shape change logits in the last bits, and a
near-tie can then fall the other way. Batches are therefore consecutive slices of the input in the given
order, which makes a repeated call bit-identical.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from bvpo_analysis.lrm.sampling_law import SamplingLaw


def row_seed(seed: int, prompt_id: str, side: str, index: int) -> int:
    """Seed of one row: 8 bytes of BLAKE2b over the canonical JSON of the arguments, as a non-negative int64.

    Unlike Python's salted ``hash`` it is the same in every process. The CPU generator of PyTorch expands
    only the low 32 bits of its seed; two of N rows then share a stream with probability about N²/2³³,
    harmless since their prompts differ.

    >>> row_seed(0, "q17", "chosen", 3)
    7812777166719374495
    """
    key = json.dumps([int(seed), str(prompt_id), str(side), int(index)], separators=(",", ":"))
    digest = hashlib.blake2b(key.encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "big") & (2**63 - 1)


class GumbelMax(LogitsProcessor):
    """Adds Gumbel noise to logits, row by row, so that an argmax draws from the softmax.

    Temperature, top-k and top-p are applied before the noise, in this order, as the common samplers do.

    Each row has its own CPU generator. The noise is made on the CPU in float64 (the same stream for every device and
    dtype of the model) in one (V,) buffer per step and row. Rows that have already ended draw nothing.
    """

    def __init__(
        self,
        row_seeds: Sequence[int],
        temperature: float,
        eos_ids: Sequence[int],
        prompt_width: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ):
        self.generators = [torch.Generator().manual_seed(seed) for seed in row_seeds]
        self.temperature = temperature
        self.top_p, self.top_k = top_p, top_k
        self.eos_ids = torch.tensor(list(eos_ids))
        self.ended = torch.zeros(len(self.generators), dtype=torch.bool)
        self.prompt_width = prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Map token ids (rows, length) and logits (rows, V) to perturbed logits (rows, V)."""
        if input_ids.shape[1] > self.prompt_width:
            self.ended |= torch.isin(input_ids[:, -1].cpu(), self.eos_ids)
        noise = torch.ones(scores.shape, dtype=torch.float64)
        for row, generator in enumerate(self.generators):
            if not self.ended[row]:
                torch.rand(scores.shape[1], generator=generator, dtype=torch.float64, out=noise[row])
        # u = 0 gives -inf, a token that is not chosen; u < 1 always, so +inf cannot occur.
        noise.log_().neg_().log_().neg_()
        return self._restricted(scores.float() / self.temperature) + noise.to(scores.device, torch.float32)

    def _restricted(self, scores: torch.Tensor) -> torch.Tensor:
        """Logits [rows, V] with tokens outside top-k, and then outside top-p, at minus infinity."""
        if 0 < self.top_k < scores.shape[1]:
            kept = scores.topk(self.top_k, dim=-1).indices
            scores = torch.full_like(scores, -torch.inf).scatter(-1, kept, scores.gather(-1, kept))
        if self.top_p < 1:
            ordered, places = scores.sort(dim=-1, descending=True, stable=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            ordered = ordered.masked_fill(before >= self.top_p, -torch.inf)  # the likeliest token always stays
            scores = torch.empty_like(scores).scatter(-1, places, ordered)
        return scores


@contextmanager
def _plain_generation_config(model: Any) -> Iterator[None]:
    """Hide the model's own generation defaults, such as a repetition penalty: they would change the law."""
    saved = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = saved


@torch.no_grad()
def sample_completions(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    row_seeds: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    eos_id: int | Sequence[int],
    pad_id: int,
    batch_size: int = 64,
) -> list[list[int]]:
    """Draw one completion per row from the model's softmax, by default at temperature 1 and untruncated.

    Any other ``temperature``, ``top_p`` (fewest tokens whose probabilities reach it) or ``top_k`` (0: all) changes the
    posterior of traces given answers; record it with :class:`~bvpo_analysis.lrm.sampling_law.SamplingLaw`.

    Returns the new token ids of each row, up to and including the first EOS; a row without EOS reached
    ``max_new_tokens``. Row i depends on ``prompt_ids[i]`` and ``row_seeds[i]`` only, up to the float noise
    described in the module docstring. ``batch_size`` bounds memory: one step holds (batch_size, V) logits
    and noise.

    Raises ValueError for unequal numbers of prompts and seeds or an empty prompt, and InputError (a ValueError too) for
    a temperature, top-p or top-k out of range.
    """
    law = SamplingLaw(temperature, top_p, top_k)
    if len(prompt_ids) != len(row_seeds):
        raise ValueError(f"{len(prompt_ids)} prompts but {len(row_seeds)} seeds")
    if any(len(ids) == 0 for ids in prompt_ids):
        raise ValueError("every prompt needs at least one token")
    eos_ids = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, eos_token_id=eos_ids, pad_token_id=pad_id
    )
    completions: list[list[int]] = []
    for start in range(0, len(prompt_ids), batch_size):
        rows = prompt_ids[start : start + batch_size]
        width = max(map(len, rows))
        ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        noise = GumbelMax(row_seeds[start : start + batch_size], law.temperature, eos_ids, width, law.top_p, law.top_k)
        with _plain_generation_config(model):
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([noise]),
            )
        completions += [_until_eos(row, eos_ids) for row in output[:, width:].tolist()]
    return completions


def _until_eos(ids: list[int], eos_ids: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
    return ids[: end + 1]
