"""Per-sample gradients of one module's parameters from its inputs and the gradients of its outputs.

For one sample with inputs a [T, d_in] and output gradients b [T, d_out] of a linear layer, dW = b^T a and db is the
sum of b over T; an embedding adds b_t to the row of token t; a normalisation y = w * x_hat + c has dw = sum_t b_t *
x_hat_t. Every rule writes straight into the rows of a score matrix. Parameters with several uses (a tied head) are
summed there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.func import functional_call, vjp, vmap
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

Kind = Literal["linear", "transposed", "embedding", "normalisation", "expanded", "recomputed"]
"""How a module's per-sample gradients are had.

``expanded`` gives every sample its own copy of a vector of weights, so that the model's own backward pass yields one
gradient per sample, rounded as autograd rounds; it fits every module that broadcasts its weights over tokens.
``recomputed`` runs the module again under ``vmap`` and fits whatever ``vmap`` can run.
"""

ONE_HOT_VOCABULARY = 128
"""Up to here the embedding's sum over tokens is a product with one-hot rows, which is faster than scattered adds."""


class NotPerSampleError(Exception):
    """A module's arithmetic cannot be taken apart into samples."""


@dataclass
class ModuleRule:
    """A module that owns differentiated parameters.

    Attributes:
        module: the module.
        names: name of the score columns of each of its own parameters, by attribute.
        kind: the rule.
        dims: dimensions of the module's input; only for ``expanded``.
    """

    module: torch.nn.Module
    names: dict[str, str]
    kind: Kind
    dims: int = 0


def module_rules(model: torch.nn.Module, names: Sequence[str]) -> list[ModuleRule]:
    """The rule of each module that owns one of the named parameters, in the order of the modules."""
    parameters = dict(model.named_parameters())
    by_identity = {id(parameters[name]): name for name in names}
    rules = []
    for module in model.modules():
        own = {n: by_identity[id(p)] for n, p in module.named_parameters(recurse=False) if id(p) in by_identity}
        if own:
            rules.append(ModuleRule(module, own, _kind(module, own)))
    return rules


def _kind(module: torch.nn.Module, own: Mapping[str, str]) -> Kind:
    forward: object = type(module).forward
    if forward is torch.nn.Linear.forward:
        return "linear"
    if (type(module).__module__, type(module).__qualname__) == ("transformers.pytorch_utils", "Conv1D"):
        return "transposed"
    if isinstance(module, torch.nn.Embedding):
        plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        scaled = type(module).__name__.endswith("ScaledWordEmbedding")
        return "embedding" if plain and (forward is torch.nn.Embedding.forward or scaled) else "recomputed"
    norms = (torch.nn.LayerNorm, torch.nn.RMSNorm)
    if isinstance(module, norms) and forward in [kind.forward for kind in norms]:
        return "normalisation" if len(module.normalized_shape) == 1 else "recomputed"
    vectors = all(getattr(module, n).ndim == 1 for n in own)
    return "expanded" if vectors and not list(module.children()) else "recomputed"


class ScoreRows:
    """The rows of a score matrix that belong to one batch.

    Args:
        out: [N, P] score matrix.
        rows: row of each sample of the batch.
        places: columns of each parameter.
    """

    def __init__(self, out: torch.Tensor, rows: Sequence[int], places: Mapping[str, slice]):
        self.out = out
        self.size = len(rows)
        self._places = places
        self._written: set[str] = set()
        # Neighbouring rows are written by one call.
        self._runs: list[tuple[slice, slice]] = []
        start = 0
        for j in range(1, len(rows) + 1):
            if j == len(rows) or rows[j] != rows[j - 1] + 1:
                self._runs.append((slice(start, j), slice(rows[start], rows[start] + j - start)))
                start = j

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add values [n, size of the parameter] to the columns of a parameter."""
        for samples, rows in self._runs:
            target = self.out[rows, self._places[name]]
            if name in self._written:
                target.add_(values[samples])
            else:
                target.copy_(values[samples])
        self._written.add(name)

    def add_products(self, name: str, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add left_i^T right_i, for left [n, T, p] and right [n, T, q], to a parameter of shape [p, q]."""
        left, right = left.to(self.out.dtype), right.to(self.out.dtype)
        for samples, rows in self._runs:
            target = self.out[rows, self._places[name]].unflatten(1, (left.shape[2], right.shape[2]))
            if name in self._written:
                target.baddbmm_(left[samples].transpose(1, 2), right[samples])
            else:
                torch.bmm(left[samples].transpose(1, 2), right[samples], out=target)
        self._written.add(name)

    def add_by_token(self, name: str, ids: torch.Tensor, values: torch.Tensor, vocabulary: int) -> None:
        """Add values [n, T, d] to the rows ``ids`` [n, T] of a parameter of shape [vocabulary, d]."""
        if vocabulary <= ONE_HOT_VOCABULARY:
            self.add_products(name, F.one_hot(ids, vocabulary).to(values.dtype), values)
            return
        if name not in self._written:
            for _, rows in self._runs:
                self.out[rows, self._places[name]] = 0
            self._written.add(name)
        values = values.to(self.out.dtype)
        for samples, rows in self._runs:
            for j, row in zip(range(samples.start, samples.stop), range(rows.start, rows.stop), strict=True):
                target = self.out[row, self._places[name]].unflatten(0, (vocabulary, values.shape[2]))
                target.index_add_(0, ids[j], values[j])

    def finish(self) -> None:
        """Zero the columns of parameters that the scored log-probabilities do not depend on."""
        for name, place in self._places.items():
            if name not in self._written:
                for _, rows in self._runs:
                    self.out[rows, place] = 0


def write_gradients(rule: ModuleRule, rows: ScoreRows, a: torch.Tensor, b: torch.Tensor) -> None:
    """Add the per-sample gradients of one call of a module.

    Args:
        rule: a module of kind linear, transposed, embedding or normalisation.
        rows: where to.
        a: [n, ..., d_in] input, or [n, ...] token ids of an embedding.
        b: [n, ..., d_out] gradient of the output.

    Raises:
        NotPerSampleError: the first dimension is not the batch.
    """
    if a.shape[0] != rows.size or b.shape[0] != rows.size:
        raise NotPerSampleError(f"{type(rule.module).__name__}: the first dimension of its input is not the batch")
    module: Any = rule.module
    if rule.kind == "embedding":
        _write_embedding(rule, rows, a, b)
        return
    a, b = (x.reshape(rows.size, -1, x.shape[-1]) for x in (a, b))
    if "weight" in rule.names:
        name = rule.names["weight"]
        if rule.kind == "linear":
            rows.add_products(name, b, a)
        elif rule.kind == "transposed":
            rows.add_products(name, a, b)
        elif isinstance(module, torch.nn.LayerNorm):
            rows.add(name, (b * F.layer_norm(a, module.normalized_shape, eps=module.eps)).sum(1, dtype=rows.out.dtype))
        else:
            rows.add(name, (b * F.rms_norm(a, module.normalized_shape, eps=module.eps)).sum(1, dtype=rows.out.dtype))
    if "bias" in rule.names:
        rows.add(rule.names["bias"], b.sum(1, dtype=rows.out.dtype))


def _write_embedding(rule: ModuleRule, rows: ScoreRows, ids: torch.Tensor, b: torch.Tensor) -> None:
    module: Any = rule.module
    ids, b = ids.reshape(rows.size, -1), b.reshape(rows.size, -1, b.shape[-1])
    if type(module).forward is not torch.nn.Embedding.forward:
        b = b * module.embed_scale.to(b.dtype)
    if module.padding_idx is not None:
        # Autograd gives the padding token no gradient.
        b = b.masked_fill((ids == module.padding_idx)[..., None], 0)
    rows.add_by_token(rule.names["weight"], ids, b, module.num_embeddings)


def write_recomputed(
    rule: ModuleRule,
    rows: ScoreRows,
    call: tuple[Sequence[Any], Mapping[str, Any]],
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
) -> None:
    """Add the per-sample gradients of one call of any module, by running it again sample by sample under ``vmap``.

    Args:
        rule: the module.
        rows: where to.
        call: its arguments; tensors whose first dimension is the batch are taken apart, others are shared.
        outputs: the floating-point tensors it returned.
        gradients: the gradient of each, None where nothing depends on it; those outputs are left out.

    Raises:
        NotPerSampleError: taken apart, the module gives other outputs.
    """
    leaves, spec = tree_flatten(call)
    batched = [isinstance(x, torch.Tensor) and x.ndim > 0 and x.shape[0] == rows.size for x in leaves]
    own = {n: p.detach() for n, p in rule.module.named_parameters(recurse=False)}
    selected = {n: own[n] for n in rule.names}
    fixed = {n: p for n, p in own.items() if n not in selected}
    used = [k for k, g in enumerate(gradients) if g is not None]
    outputs = [outputs[k] for k in used]
    cotangents = [g for g in gradients if g is not None]

    def one(inputs: list[torch.Tensor], cotangents: list[torch.Tensor]) -> tuple[list[torch.Tensor], Any]:
        taken = iter(inputs)
        args, kwargs = tree_unflatten(
            [next(taken)[None] if own_part else x for x, own_part in zip(leaves, batched, strict=True)], spec
        )

        def run(parameters: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            again = functional_call(rule.module, {**fixed, **parameters}, tuple(args), dict(kwargs))
            return [floating_tensors(again)[k] for k in used]

        again, pull = vjp(run, selected)[:2]
        return [y[0] for y in again], pull([g[None] for g in cotangents])[0]

    if not any(batched) or any(y.shape[:1] != (rows.size,) for y in outputs):
        raise NotPerSampleError(f"{type(rule.module).__name__}: it is not called with a batch")
    with torch.no_grad():
        again, gradient = vmap(one)([x for x, own_part in zip(leaves, batched, strict=True) if own_part], cotangents)
    for y, same in zip(outputs, again, strict=True):
        if y.shape != same.shape or not torch.allclose(y, same, rtol=1e-3, atol=1e-4 * float(y.abs().max())):
            raise NotPerSampleError(f"{type(rule.module).__name__}: its samples depend on each other")
    for local, name in rule.names.items():
        rows.add(name, gradient[local].reshape(rows.size, -1))


def floating_tensors(outputs: Any) -> list[torch.Tensor]:
    """The floating-point tensors among a module's outputs, in order."""
    return [x for x in tree_flatten(outputs)[0] if isinstance(x, torch.Tensor) and x.is_floating_point()]
