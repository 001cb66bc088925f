"""Per-sequence gradients from one batched backward pass: the hooks engine.

The weights are frozen, so the backward pass computes the gradients b of the layers' outputs and nothing else. Forward
hooks keep the layers' inputs a, gradient hooks receive b and write the products b_i^T a_i of each sequence i straight
into its row of the score matrix (``per_sample``). That is the arithmetic of a plain batched forward and backward pass,
with one small product per sequence in place of one large product per batch.

What a module does with its weights is recognised by its class; any other module's share is recomputed under ``vmap``.
Weights used behind a module's back (inside a parent's ``forward``, say) would be missed, so every engine is checked
once, when it is made: on three short sequences, its rows, summed with unequal weights, must be the gradient of the
log-probabilities summed with those weights. A model that fails is scored by the vmap engine as a whole.

Weights in bfloat16 or float16 still give scores in float32: the products of inputs and output gradients are taken and
summed over tokens in float32, so that scores carry the rounding of activations (2^-9 each in bfloat16, about 1 % of a
score), but not another one of every weight's gradient, as the other engines do.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores.engines import ScoreEngine, VmapEngine
from bvpo_analysis.scores.log_probs import TOKEN_BUDGET, batches_by_length, log_prob_parts, pad_batch
from bvpo_analysis.scores.per_sample import (
    ModuleRule,
    NotPerSampleError,
    ScoreRows,
    floating_tensors,
    module_rules,
    write_gradients,
    write_recomputed,
)

PROBE_LENGTHS = (7, 4, 6)
"""Tokens of the sequences on which an engine is checked: unequal, so that two of them are padded."""
PROBE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Largest error of the check, relative to the gradients summed; a wrong rule errs by about one."""
PROBE_TOLERANCE_LOW_PRECISION = 0.05


class HooksEngine(ScoreEngine):
    """One batched backward pass with frozen weights; per-sequence products of layer inputs and output gradients.

    Attributes:
        fallback: why the whole model is scored by the vmap engine; None where the hooks do it.
    """

    name = "hooks"

    def __init__(self, model: torch.nn.Module, parameters: str | None = None, token_budget: int = TOKEN_BUDGET):
        super().__init__(model, parameters, token_budget)
        self._vmap = VmapEngine(model, parameters, token_budget)
        self._places = self.places()
        self._rules = module_rules(model, self.names)
        self.fallback: str | None = None
        if any(rule.kind == "expanded" for rule in self._rules):
            self._find_dimensions()
        self.fallback = self._check()
        if self.fallback is not None and any(rule.kind == "expanded" for rule in self._rules):
            for rule in self._rules:
                rule.kind = "recomputed" if rule.kind == "expanded" else rule.kind
            self.fallback = self._check()

    @property
    def recomputed(self) -> tuple[str, ...]:
        """Class names of the modules whose share is recomputed under vmap."""
        return tuple(sorted({type(rule.module).__name__ for rule in self._rules if rule.kind == "recomputed"}))

    def _batches(self, sequences: Sequence[TokenSequence]) -> list[list[int]]:
        return batches_by_length(sequences, self.token_budget)

    def _write(
        self, sequences: Sequence[TokenSequence], out: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fallback is None:
            try:
                return self._write_by_hooks(sequences, out, rows)
            except NotPerSampleError as error:
                self.fallback = str(error)
                warnings.warn(f"the vmap engine replaces the hooks engine: {error}", stacklevel=3)
        return self._vmap._write(sequences, out, rows)

    def _write_by_hooks(
        self, sequences: Sequence[TokenSequence], out: torch.Tensor, rows: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        target = ScoreRows(out, rows, self._places)
        ids, trace_mask, answer_mask = pad_batch(sequences, self.device)
        with ExitStack() as hooks, torch.enable_grad():
            record = _Record(self._rules, target, hooks)
            parameters = {**self._fixed, **self._selected, **record.expanded(self._selected)}
            parts = log_prob_parts(self.model, parameters, ids, trace_mask, answer_mask)
            if torch.isfinite(parts[0] + parts[1]).all():  # else the caller names the sequences
                record.backward((parts[0] + parts[1]).sum())
        if record.lowest is not None and not torch.isfinite(record.lowest).all():
            bad = ~torch.isfinite(record.lowest.flatten(1)).all(1)
            raise StudyError(
                f"the gradient of log pi is not finite for {int(bad.sum())} of {len(sequences)} sequences of a batch; "
                "check the weights for NaN or infinity and use float32"
            )
        target.finish()
        return parts[0].detach(), parts[1].detach()

    def _probe(self) -> list[TokenSequence]:
        """Short sequences of random tokens, the same on every call."""
        config: Any = self.model.config
        vocabulary = int(getattr(config.get_text_config(), "vocab_size", 2))
        generator = torch.Generator().manual_seed(0)
        return [
            TokenSequence(tuple(torch.randint(vocabulary, (length,), generator=generator).tolist()), 2, 3)
            for length in PROBE_LENGTHS
        ]

    def _find_dimensions(self) -> None:
        """Note how many dimensions the inputs of normalisations have; without, their share is recomputed."""
        expanded = [rule for rule in self._rules if rule.kind == "expanded"]
        seen: dict[int, set[int]] = {id(rule): set() for rule in expanded}

        def look(rule: ModuleRule) -> Callable[..., None]:
            def hook(_module: torch.nn.Module, args: tuple[Any, ...]) -> None:
                seen[id(rule)].add(args[0].ndim if args and isinstance(args[0], torch.Tensor) else 0)

            return hook

        with ExitStack() as hooks, torch.no_grad():
            for rule in expanded:
                hooks.callback(rule.module.register_forward_pre_hook(look(rule)).remove)
            try:
                log_prob_parts(self.model, {**self._fixed, **self._selected}, *pad_batch(self._probe(), self.device))
            except Exception as error:  # whatever it is, the check meets it again and tells
                seen = {id(rule): {0} for rule in expanded}
                self.fallback = str(error)
        for rule in expanded:
            dims = seen[id(rule)]
            if len(dims) == 1 and min(dims) >= 2:
                rule.dims = dims.pop()
            else:
                rule.kind = "recomputed"

    def _check(self) -> str | None:
        """Why the hooks cannot be used for this model; None if their rows are right on the probe."""
        try:
            sequences = self._probe()
            rows = self.buffer(len(sequences))
            self._write_by_hooks(sequences, rows, range(len(sequences)))
            weights = torch.tensor([1.0, -0.6, 0.35], device=self.device)
            selected = {n: p.clone().requires_grad_(True) for n, p in self._selected.items()}
            with torch.enable_grad():
                parts = log_prob_parts(self.model, {**self._fixed, **selected}, *pad_batch(sequences, self.device))
                total = ((parts[0] + parts[1]) * weights.to(parts[0].dtype)).sum()
                grads = torch.autograd.grad(total, list(selected.values()), materialize_grads=True)
        except Exception as error:  # a model may fail in any way under hooks; vmap then has the word
            return f"{type(error).__name__}: {error}"
        tolerance = PROBE_TOLERANCE.get(self._selected[self.names[0]].dtype, PROBE_TOLERANCE_LOW_PRECISION)
        errors, sizes = [], []
        for name, grad in zip(selected, grads, strict=True):
            own = rows[:, self._places[name]].double() * weights.double()[:, None]
            errors.append(float((own.sum(0) - grad.double().flatten()).norm()))
            sizes.append(float(own.norm(dim=1).sum()))
        for name, distance, size in zip(selected, errors, sizes, strict=True):
            # Gradients that vanish identically (a bias of keys, say) are rounding errors in every engine.
            if not distance <= tolerance * (size + 1e-2 * max(sizes)):
                return f"the hooks give another gradient of {name!r} than autograd on a probe"
        return None


class _Record:
    """Hooks on the modules of one forward pass, and what they keep until the backward pass has used it."""

    def __init__(self, rules: Sequence[ModuleRule], target: ScoreRows, hooks: ExitStack):
        self._rules = rules
        self._target = target
        self._inputs: dict[int, torch.Tensor] = {}
        self._count = 0
        self._calls: list[tuple[ModuleRule, Any, list[torch.Tensor], list[torch.Tensor | None]]] = []
        self._active = True
        self.lowest: torch.Tensor | None = None
        for rule in rules:
            if rule.kind == "expanded":
                continue
            hook = self._keep_call(rule) if rule.kind == "recomputed" else self._keep_input(rule)
            hooks.callback(rule.module.register_forward_hook(hook, with_kwargs=True).remove)

    def expanded(self, selected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One copy per sample of the weights of ``expanded`` modules; their gradients are written when they come."""
        copies: dict[str, torch.Tensor] = {}
        for rule in self._rules:
            if rule.kind != "expanded":
                continue
            for name in rule.names.values():
                weight = selected[name]
                shape = (self._target.size, *(1,) * (rule.dims - 2), len(weight))
                copies[name] = weight.expand(shape).detach().requires_grad_(True)
                copies[name].register_hook(lambda g, name=name: self._target.add(name, g.flatten(1)))
        return copies

    def backward(self, total: torch.Tensor) -> None:
        """Run the backward pass; every hooked module writes its gradients."""
        if total.requires_grad:
            total.backward()
        self._active = False  # recomputing a module calls the hooked modules inside it again
        for rule, call, outputs, gradients in self._calls:
            if any(g is not None for g in gradients):
                write_recomputed(rule, self._target, call, outputs, gradients)

    def _keep_input(self, rule: ModuleRule) -> Callable[..., None]:
        def forward_hook(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not self._active:
                return None
            given = args[0] if args else next(iter(kwargs.values()))
            size = self._target.size
            if output.shape[0] == 1 < size:  # computed once for the whole batch, as embeddings of positions are
                given, output = (x.expand(size, *x.shape[1:]) for x in (given, output))
            key = self._count = self._count + 1
            self._inputs[key] = given.detach()
            if not output.requires_grad:
                output.requires_grad_(True)

            def gradient_hook(b: torch.Tensor) -> None:
                write_gradients(rule, self._target, self._inputs.pop(key), b.detach())
                self.lowest = b.detach()

            output.register_hook(gradient_hook)
            return output

        return forward_hook

    def _keep_call(self, rule: ModuleRule) -> Callable[..., None]:
        def forward_hook(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if not self._active:
                return
            outputs = floating_tensors(output)
            gradients: list[torch.Tensor | None] = [None] * len(outputs)
            call = torch.utils._pytree.tree_map(
                lambda x: x.detach() if isinstance(x, torch.Tensor) else x, (args, kwargs)
            )
            self._calls.append((rule, call, [y.detach() for y in outputs], gradients))
            for k, y in enumerate(outputs):
                if not y.requires_grad:
                    y.requires_grad_(True)

                def gradient_hook(b: torch.Tensor, k: int = k) -> None:
                    gradients[k] = b.detach()
                    self.lowest = b.detach()

                y.register_hook(gradient_hook)

        return forward_hook
