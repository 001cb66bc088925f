"""The hooks engine gives the loop's scores on every supported family, and never a wrong number elsewhere.

Hugging Face casts normalisations and the attention softmax to float32 also inside a float64 model, where a difference
in the last bit becomes one of 1e-8. The comparisons in float64 take those casts out, for every engine alike.
"""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.scores import ENGINE_NAMES, HooksEngine, LoopEngine, VmapEngine, score_engine
from bvpo_analysis.scores.log_probs import pad_batch

SIZES = {"vocab_size": 37, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
FAMILIES = {
    "qwen2": lambda tied: Qwen2Config(**SIZES, **HEADS, tie_word_embeddings=tied),
    "qwen3": lambda tied: Qwen3Config(**SIZES, **HEADS, head_dim=8, tie_word_embeddings=tied),
    "llama": lambda tied: LlamaConfig(**SIZES, **HEADS, attention_bias=True, mlp_bias=True, tie_word_embeddings=tied),
    "gemma": lambda tied: GemmaConfig(**SIZES, **HEADS, head_dim=8, tie_word_embeddings=tied),
    "gemma2": lambda tied: Gemma2Config(**SIZES, **HEADS, head_dim=8, sliding_window=5, tie_word_embeddings=tied),
    "smollm3": lambda tied: SmolLM3Config(**SIZES, **HEADS, tie_word_embeddings=tied),
    "gpt_neox": lambda tied: GPTNeoXConfig(
        **SIZES, num_attention_heads=4, max_position_embeddings=64, tie_word_embeddings=tied
    ),
    "gpt2": lambda tied: GPT2Config(
        vocab_size=37, n_embd=24, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, tie_word_embeddings=tied
    ),
}


class KeepFloat64(TorchFunctionMode):
    """Casts of float64 tensors to float32 change nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if isinstance(args[0] if args else None, torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def _keep_float64():
    with KeepFloat64():
        yield


def tiny(family, tied=True, dtype=torch.float64):
    """A random model with weights large enough that every parameter matters."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(FAMILIES[family](tied), attn_implementation="eager").to(dtype)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.15 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model.eval()


def random_sequences(lengths=(9, 14, 5, 14, 11), vocabulary=37, seed=1):
    """Sequences with repeated tokens, token 0 among them, and every kind of span."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for k, n in enumerate(lengths):
        ids = torch.randint(vocabulary, (n,), generator=generator).tolist()
        ids[1] = ids[-1]
        ids[2] = 0
        found.append(TokenSequence(tuple(ids), score_start=1 + k % 3, answer_start=3 + k % 2))
    return found


def fill(engine, sequences):
    out = engine.buffer(len(sequences)).fill_(float("nan"))  # a column that is not written shows
    trace, answer = engine.fill(sequences, out)
    return out, trace, answer


def assert_same(engine, oracle, sequences, bound):
    """Each parameter of each sequence to ``bound`` of its size; zero gradients only where the oracle has them."""
    (rows, *parts), (expected, *logs) = fill(engine, sequences), fill(oracle, sequences)
    for ours, theirs in zip(parts, logs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=bound, atol=bound)
    whole = expected.norm(dim=1)
    for name, place in engine.places().items():
        size = expected[:, place].norm(dim=1)
        error = (rows[:, place] - expected[:, place]).norm(dim=1)
        assert (error <= bound * (size + 1e-4 * whole)).all(), name


# --- equality ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_equal_the_loop_in_every_parameter(family, tied, padded):
    """Catches a lost bias, one use of a tied weight, norms rounded otherwise, and heads shared by groups."""
    sequences = random_sequences() if padded else random_sequences(lengths=(12, 12, 12))
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        model = tiny(family, tied, dtype)
        engine, oracle = HooksEngine(model), LoopEngine(model)
        assert engine.fallback is None
        assert engine.recomputed == ()
        assert engine.names == oracle.names
        assert_same(engine, oracle, sequences, bound)


def test_a_normalisation_with_and_without_bias_and_torch_s_own():
    class Mixed(nn.Module):
        """Head and embedding around the three normalisations of torch."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(37, 12)
            self.norms = nn.Sequential(
                nn.LayerNorm(12), nn.Linear(12, 12), nn.LayerNorm(12, bias=False), nn.RMSNorm(12)
            )
            self.head = nn.Linear(12, 37)

        def forward(self, x):
            return self.head(torch.tanh(self.norms(self.embed(x))).cumsum(1))

    model = wrapped(Mixed())
    engine, oracle = HooksEngine(model), LoopEngine(model)
    assert engine.fallback is None
    assert engine.recomputed == ()
    assert_same(engine, oracle, random_sequences(), 1e-9)


def test_the_default_batches_are_padded(lrm):
    """Or the padded cases above would test nothing."""
    engine = HooksEngine(lrm.model)
    sequences = random_sequences()
    ((*batch,),) = engine._batches(sequences)
    assert len({len(sequences[j].ids) for j in batch}) > 1


@pytest.mark.parametrize("vocabulary", [37, 300], ids=["one-hot", "scattered"])
def test_tokens_are_added_up_by_either_route(vocabulary):
    config = Qwen3Config(**{**SIZES, "vocab_size": vocabulary}, **HEADS, head_dim=8, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    for pattern in (None, "embed_tokens"):
        assert_same(HooksEngine(model, pattern), LoopEngine(model, pattern), random_sequences(), 1e-9)


@pytest.mark.parametrize(
    "pattern", [r"layers\.1\.", r"layers\.0\.self_attn", r"norm", r"embed_tokens", r"lm_head", r"bias$", r"0\.mlp\.up"]
)
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_subset_of_the_parameters(family, pattern):
    model = tiny(family, tied=False)
    if not any(pattern.strip("$") in n for n, _ in model.named_parameters()) and pattern == r"bias$":
        pattern = r"k_proj"
    assert_same(HooksEngine(model, pattern), LoopEngine(model, pattern), random_sequences(), 1e-9)


def test_layers_below_the_selected_ones_get_no_backward_pass():
    model = tiny("qwen3", tied=False)
    engine = HooksEngine(model, r"layers\.1\.mlp")
    asked = []
    handle = model.model.layers[0].mlp.register_forward_hook(lambda m, args, out: asked.append(out.requires_grad))
    fill(engine, random_sequences())
    handle.remove()
    assert asked == [False]


def test_scores_do_not_depend_on_the_rest_of_the_batch():
    model = tiny("llama")
    sequences = random_sequences()
    together = fill(HooksEngine(model, token_budget=10**6), sequences)
    for j, sequence in enumerate(sequences):
        alone = fill(HooksEngine(model), [sequence])
        torch.testing.assert_close(together[0][j], alone[0][0], rtol=1e-9, atol=1e-9 * alone[0].abs().max().item())
    some = fill(HooksEngine(model, token_budget=28), sequences[::-1])
    torch.testing.assert_close(some[0].flip(0), together[0], rtol=1e-9, atol=1e-9 * together[0].abs().max().item())


def test_the_rows_of_the_caller_alone_are_written():
    """Scattered rows, some of them neighbours, in a view of a larger buffer."""
    model = tiny("gpt_neox")
    engine = HooksEngine(model, token_budget=30)
    sequences = random_sequences(lengths=(9, 14, 9, 9, 14, 5))
    assert [sorted(b) for b in engine._batches(sequences)] != [[0, 1, 2, 3, 4, 5]]
    held = engine.buffer(9).fill_(7.0)
    engine.fill(sequences, held[2:8])
    torch.testing.assert_close(held[2:8], fill(LoopEngine(model), sequences)[0], rtol=1e-9, atol=1e-9)
    assert (held[[0, 1, 8]] == 7).all()


def test_a_wrong_mask_is_caught(monkeypatch):
    """The comparison with the loop can fail: masks off by one, padding that is scored, attention that looks ahead."""
    model, sequences = tiny("qwen3"), random_sequences()

    def late(sequences, device):
        ids, trace, answer = pad_batch(sequences, device)
        return ids, trace, answer.roll(1, 1)

    def with_padding(sequences, device):
        ids, trace, answer = pad_batch(sequences, device)
        return ids, trace, (answer.cumsum(1) > 0).to(answer)

    for wrong in (late, with_padding):
        with monkeypatch.context() as patch:
            patch.setattr("bvpo_analysis.scores.hooks.pad_batch", wrong)
            with pytest.raises(AssertionError):
                assert_same(HooksEngine(model), LoopEngine(model), sequences, 1e-3)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.models.qwen3.modeling_qwen3.create_causal_mask", lambda **_: None, raising=True)
        ahead = fill(HooksEngine(model), sequences)[0]
    expected = fill(LoopEngine(model), sequences)[0]
    assert (ahead - expected).norm() > 1e-2 * expected.norm()


# --- modules that are not known ---------------------------------------------------------------------------


@dataclass
class Output:
    logits: torch.Tensor


class Config:
    """What the engine asks of a configuration."""

    vocab_size = 37

    def get_text_config(self):
        return self


def wrapped(core):
    """A causal language model as Hugging Face calls it, in float64, with weights that matter."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.core = core
            self.config = Config()

        def forward(self, input_ids, use_cache=False):
            return Output(self.core(input_ids))

    torch.manual_seed(5)
    model = Model().double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, dtype=p.dtype)
    return model.eval()


class Causal(nn.Module):
    """Embedding, one odd module, a running sum over the past, head."""

    def __init__(self, odd, width=12):
        super().__init__()
        self.embed = nn.Embedding(37, width)
        self.odd = odd
        self.head = nn.Linear(width, 37)

    def forward(self, ids):
        return self.head(torch.tanh(self.odd(self.embed(ids)).cumsum(1)))


class Convolution(nn.Module):
    """A causal convolution over positions, as in hybrid models."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(12, 12, 3, groups=4)

    def forward(self, x):
        return self.conv(nn.functional.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)


class OwnWeights(nn.Module):
    """A matrix, a vector and a number of its own beside a linear layer; two inputs by keyword, two outputs."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(12, 12) / 4)
        self.shift = nn.Parameter(torch.randn(12))
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.inner = nn.Linear(12, 12)

    def forward(self, x):
        return self.inner(x @ self.mix + self.shift) * self.gain


class Pieces(nn.Module):
    """Calls its child with a keyword and takes a tuple back."""

    class Child(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, 12) / 4)

        def forward(self, *, states, scale):
            return (states @ self.weight * scale, states.new_zeros(3), "text")

    def __init__(self):
        super().__init__()
        self.child = self.Child()

    def forward(self, x):
        return self.child(states=x, scale=0.5)[0]


class Shifted(nn.Module):
    """A vector that is not broadcast over tokens but convolved with them: copies per sample do not fit."""

    def __init__(self):
        super().__init__()
        self.taps = nn.Parameter(torch.randn(12))

    def forward(self, x):
        weights = torch.outer(self.taps, self.taps)
        return x @ weights


class Behind(nn.Module):
    """Uses a child's weight without calling the child."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x):
        return x @ self.inner.weight + torch.tanh(self.inner(x))


class Flattened(nn.Module):
    """Calls its layers with all tokens of the batch in one dimension."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x):
        return self.inner(x.flatten(0, -2)).view(x.shape)


@pytest.mark.parametrize(
    ("odd", "recomputed"),
    [(Convolution, ("Conv1d",)), (OwnWeights, ("OwnWeights",)), (Pieces, ("Child",)), (Shifted, ("Shifted",))],
)
def test_a_module_that_is_not_known_is_recomputed_by_itself(odd, recomputed):
    torch.manual_seed(0)
    model = wrapped(Causal(odd()))
    engine = HooksEngine(model)
    assert (engine.fallback, engine.recomputed) == (None, recomputed)
    assert_same(engine, LoopEngine(model), random_sequences(), 1e-9)
    assert_same(engine, VmapEngine(model), random_sequences(lengths=(5,) * 5), 1e-9)  # as many as tokens


@pytest.mark.parametrize("odd", [Behind, Flattened])
def test_a_model_that_cannot_be_taken_apart_is_scored_by_vmap(odd):
    model = wrapped(Causal(odd()))
    engine = HooksEngine(model)
    assert engine.fallback is not None
    assert score_engine("auto", model).name == "vmap"
    assert_same(engine, LoopEngine(model), random_sequences(), 1e-9)


def test_a_layer_used_twice_and_a_layer_not_used():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(12, 12)
            self.idle = nn.Linear(12, 12)

        def forward(self, x):
            return self.inner(torch.tanh(self.inner(x)))

    model = wrapped(Causal(Twice()))
    engine = HooksEngine(model)
    assert (engine.fallback, engine.recomputed) == (None, ())
    assert_same(engine, LoopEngine(model), random_sequences(), 1e-9)
    rows = fill(engine, random_sequences())[0]
    assert (rows[:, engine.places()["core.odd.idle.weight"]] == 0).all()


def test_a_module_whose_samples_come_to_depend_on_each_other_is_found_out(recwarn):
    """It passes the check on short sequences and mixes samples on long ones: the batch is scored by vmap."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(12, 12)

        def forward(self, x):
            if x.shape[1] < 8:
                return self.inner(x)
            return self.inner(x.flatten(0, -2)).view(x.shape)

    model = wrapped(Causal(Late()))
    engine = HooksEngine(model)
    assert engine.fallback is None
    assert_same(engine, LoopEngine(model), random_sequences(), 1e-9)
    assert "first dimension of its input is not the batch" in engine.fallback
    assert ["the vmap engine replaces the hooks engine" in str(w.message) for w in recwarn] == [True]


# --- what is left behind ----------------------------------------------------------------------------------


def state(model):
    """Weights, flags and hooks of every module."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
        for m in model.modules()
    ]
    return hooks, {n: (p.requires_grad, p.grad, id(p), p.detach().clone()) for n, p in model.named_parameters()}


def assert_untouched(model, before):
    hooks, parameters = state(model)
    assert hooks == before[0]
    for name, (flag, grad, identity, value) in parameters.items():
        assert (flag, identity) == (before[1][name][0], before[1][name][2])
        assert grad is before[1][name][1] is None
        assert torch.equal(value, before[1][name][3])


def test_the_model_is_left_as_it_was():
    model = tiny("qwen3")
    for k, p in enumerate(model.parameters()):
        p.requires_grad_(k % 2 == 0)
    own = model.model.norm.register_forward_hook(lambda *_: None)
    before = state(model)
    engine = HooksEngine(model)
    assert_untouched(model, before)
    with torch.no_grad():
        fill(engine, random_sequences())
    assert_untouched(model, before)
    own.remove()


def test_the_model_is_left_as_it_was_after_an_exception(monkeypatch):
    model = tiny("qwen3")
    engine = HooksEngine(model)
    before = state(model)

    def fail(*_):
        raise RuntimeError("half way")

    with monkeypatch.context() as patch:
        patch.setattr("bvpo_analysis.scores.hooks.write_gradients", fail)
        with pytest.raises(RuntimeError, match="half way"):
            fill(engine, random_sequences())
    assert_untouched(model, before)
    with pytest.raises(IndexError):
        fill(engine, [TokenSequence((1, 2, 99), 1, 1)])
    assert_untouched(model, before)
    assert engine.fallback is None
    assert_same(engine, LoopEngine(model), random_sequences(), 1e-9)


def test_gradients_that_are_not_finite_are_named():
    """log pi is finite, its gradient is not: the square root of zero."""

    class Root(nn.Module):
        def forward(self, x):
            return x + (0 * x).abs().sqrt()

    model = wrapped(Causal(Root()))
    engine = HooksEngine(model)
    assert engine.fallback is not None  # already on the probe
    model = tiny("qwen3")
    engine = HooksEngine(model)
    model.model.layers[0].mlp.act_fn = Root()
    with pytest.raises(StudyError, match=r"gradient of log pi is not finite for 5 of 5 sequences .*use float32"):
        fill(engine, random_sequences())


def test_engines_by_name():
    model = tiny("qwen2")
    assert [score_engine(n, model).name for n in ENGINE_NAMES] == ["hooks", "vmap", "hooks", "loop"]
    with pytest.raises(InputError, match="unknown engine 'fast'; choose among auto, vmap, hooks, loop"):
        score_engine("fast", model)
    assert score_engine("auto", model, "mlp").names == VmapEngine(model, "mlp").names


def test_low_precision_weights_give_rows_in_float32():
    model = tiny("qwen3", dtype=torch.float32)
    low = copy.deepcopy(model).bfloat16()
    engine = HooksEngine(low)
    assert engine.fallback is None
    rows = fill(engine, random_sequences())[0]
    assert rows.dtype == torch.float32
    expected = fill(LoopEngine(low.float()), random_sequences())[0]
    assert (rows.float() - expected).norm() < 0.05 * expected.norm()
