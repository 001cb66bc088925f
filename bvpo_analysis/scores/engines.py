"""Per-sequence gradients of log pi: the vmap engine and its slow oracle, the loop.

An engine fills a caller's buffer S of shape [n, P], one score per row. Columns are ordered by parameter group, so that
per-group products are products of column slices. The rows depend on nothing but the sequence (to the last bits: padding
is masked, the batch is only a vectorisation).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import numpy as np
import torch
from torch.func import grad, vmap

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores.back_off import run_batches
from bvpo_analysis.scores.log_probs import (
    TOKEN_BUDGET,
    batches_by_length,
    log_prob_parts,
    pad_batch,
    require_finite,
)
from bvpo_analysis.scores.recomputation import recomputed_layers

RECOMPUTE_TOKENS = TOKEN_BUDGET
"""Longest sequence whose activations the loop engine keeps."""
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def parameter_group(name: str) -> str:
    """The group a parameter is reported under: its layer, or embedding, head, final norm.

    Example:
        >>> [parameter_group(n) for n in ("model.layers.2.mlp.up_proj.weight", "model.embed_tokens.weight")]
        ['layer 2', 'embedding']
    """
    if layer := _LAYER.search(name):
        return f"layer {layer.group(1)}"
    if re.search(r"embed|wte|wpe", name):
        return "embedding"
    if "head" in name:
        return "head"
    return "final norm" if "norm" in name or "ln_f" in name else "other"


class ScoreEngine(ABC):
    """Base of the engines: which parameters, in which columns.

    Args:
        model: causal language model in eval mode.
        parameters: regular expression; only matching parameters are differentiated (all by default).
        token_budget: padded tokens per batch.

    Attributes:
        names: names of the differentiated parameters, in the order of their columns.
        groups: names of the parameter groups, in the order of their columns.
        columns: column slice of each group.

    Raises:
        InputError: the model is in training mode, or no parameter matches.
    """

    name: ClassVar[str]

    def __init__(self, model: torch.nn.Module, parameters: str | None = None, token_budget: int = TOKEN_BUDGET):
        if model.training:
            raise InputError("the model is in training mode, where dropout makes scores random; call model.eval()")
        self.model = model
        self.token_budget = token_budget
        # named_parameters() lists a tied weight once, under its first name, which is what its gradient needs.
        everything = dict(model.named_parameters())
        try:
            chosen = [n for n in everything if parameters is None or re.search(parameters, n)]
        except re.error as error:
            raise InputError(f"--params {parameters!r} is not a regular expression: {error}") from error
        if not chosen:
            raise InputError(
                f"--params {parameters!r} matches no parameter; names look like {next(iter(everything))!r}"
            )
        by_group: dict[str, list[str]] = {}
        for n in chosen:
            by_group.setdefault(parameter_group(n), []).append(n)
        self.names = [n for names in by_group.values() for n in names]
        self._selected = {n: everything[n].detach() for n in self.names}
        self._fixed = {n: p.detach() for n, p in everything.items() if n not in self._selected}
        self.groups = tuple(by_group)
        self.columns: tuple[slice, ...] = ()
        start = 0
        for names in by_group.values():
            stop = start + sum(everything[n].numel() for n in names)
            self.columns += (slice(start, stop),)
            start = stop
        self.size = start

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self._selected[self.names[0]].device

    def buffer(self, rows: int) -> torch.Tensor:
        """An uninitialised [rows, P] score matrix of the model's dtype, but no less than float32."""
        dtype = torch.promote_types(self._selected[self.names[0]].dtype, torch.float32)
        return torch.empty(rows, self.size, dtype=dtype, device=self.device)

    def fill(self, sequences: Sequence[TokenSequence], out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write grad log pi of each sequence into ``out`` [n, P].

        Where memory does not suffice for a batch, this one and all later ones are made smaller.

        Returns:
            (log pi of the trace part, log pi of the answer part), each [n] float64 on the CPU.

        Raises:
            StudyError: a log-probability is not finite, or memory does not suffice for a single sequence.
        """
        trace = torch.empty(len(sequences), dtype=torch.float64)
        answer = torch.empty(len(sequences), dtype=torch.float64)

        def work(batch: list[int]) -> None:
            parts = self._write([sequences[j] for j in batch], out, batch)
            trace[batch], answer[batch] = (part.detach().double().cpu() for part in parts)

        def batches(remaining: Sequence[TokenSequence], budget: int) -> list[list[int]]:
            self.token_budget = budget
            return self._batches(remaining)

        run_batches(sequences, self.token_budget, batches, work, self.device)
        require_finite(trace + answer, sequences)
        return trace, answer

    def places(self) -> dict[str, slice]:
        """Columns of each parameter by name."""
        stops = np.cumsum([self._selected[n].numel() for n in self.names]).tolist()
        return {n: slice(a, b) for n, a, b in zip(self.names, [0, *stops], stops, strict=False)}

    @abstractmethod
    def _batches(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        """Indices of the sequences that are scored together, for the present ``token_budget``."""

    @abstractmethod
    def _write(
        self, sequences: Sequence[TokenSequence], out: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the scores of one batch into these rows of ``out``; (trace, answer) parts of log pi, [n] each."""


class _GradientEngine(ScoreEngine):
    """Base of the engines that hold the scores of a batch, by parameter, before they copy them."""

    def _write(
        self, sequences: Sequence[TokenSequence], out: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        grads, parts = self._scores(sequences)
        for n, place in self.places().items():
            out[rows, place] = grads[n].reshape(len(rows), -1).to(out)
        return parts

    @abstractmethod
    def _scores(
        self, sequences: Sequence[TokenSequence]
    ) -> tuple[Mapping[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Scores [n, *shape] by parameter name, and (trace, answer) parts of log pi, [n] each."""


class VmapEngine(_GradientEngine):
    """``torch.func.vmap(grad(functional_call))`` over a padded batch; works for any Hugging Face architecture."""

    name = "vmap"

    def _batches(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        return batches_by_length(sequences, self.token_budget)

    def _scores(
        self, sequences: Sequence[TokenSequence]
    ) -> tuple[Mapping[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        def log_prob(
            selected: Mapping[str, torch.Tensor], ids: torch.Tensor, trace: torch.Tensor, answer: torch.Tensor
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
            parts = log_prob_parts(self.model, {**self._fixed, **selected}, ids[None], trace[None], answer[None])
            return (parts[0] + parts[1]).squeeze(0), (parts[0].squeeze(0), parts[1].squeeze(0))

        per_sequence = vmap(grad(log_prob, has_aux=True), in_dims=(None, 0, 0, 0))
        grads, parts = per_sequence(self._selected, *pad_batch(sequences, self.device))
        return grads, parts


class LoopEngine(_GradientEngine):
    """One ``torch.autograd.grad`` per sequence, unpadded: slow, obvious, the oracle of every other engine.

    It differentiates the model's own parameters where they are, so it serves models that are spread over devices, and
    sequences of any length: beyond ``RECOMPUTE_TOKENS`` it recomputes the layers' activations in the backward pass.
    """

    name = "loop"

    def _batches(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        return [[j] for j in range(len(sequences))]

    def _scores(
        self, sequences: Sequence[TokenSequence]
    ) -> tuple[Mapping[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        parameters = dict(self.model.named_parameters())
        selected = [parameters[n] for n in self.names]
        long = max(len(sequence.ids) for sequence in sequences) > RECOMPUTE_TOKENS
        with _differentiable(selected), recomputed_layers(self.model) if long else nullcontext():
            parts = log_prob_parts(self.model, parameters, *pad_batch(sequences, self.device))
            grads = torch.autograd.grad((parts[0] + parts[1]).sum(), selected, materialize_grads=True)
        return dict(zip(self.names, grads, strict=True)), parts


@contextmanager
def _differentiable(parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """Within the context, gradients with respect to these parameters can be taken."""
    before = [p.requires_grad for p in parameters]
    try:
        for p in parameters:
            p.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for p, required in zip(parameters, before, strict=True):
            p.requires_grad_(required)
