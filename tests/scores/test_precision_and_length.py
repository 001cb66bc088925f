"""Weights of other types, long sequences whose activations are recomputed, and adapters as the parameter space."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import HooksEngine, LoopEngine, VmapEngine, engines, plan_pair
from bvpo_analysis.scores.recomputation import model_layers, recomputed_layers


def tiny(attention="eager", length=64, **changes):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "head_dim": 8, "vocab_size": 40}
    config = Qwen3Config(
        **{**shape, **changes},
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval().requires_grad_(False)


def random_sequences(lengths, vocabulary=40):
    generator = torch.Generator().manual_seed(1)
    return [
        TokenSequence(tuple(torch.randint(vocabulary, (n,), generator=generator).tolist()), n // 4, n // 2)
        for n in lengths
    ]


# --- long sequences ----------------------------------------------------------------------------------------


def test_recomputed_gradients_are_the_same_bits(monkeypatch):
    model, sequences = tiny(), random_sequences([20, 33])
    engine = LoopEngine(model)
    expected = engine.buffer(2)
    parts = engine.fill(sequences, expected)
    calls = []
    for layer in model_layers(model):
        layer.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(engines, "RECOMPUTE_TOKENS", 25)
    found = engine.buffer(2)
    again = engine.fill(sequences, found)
    assert torch.equal(found, expected)
    assert torch.equal(again[0], parts[0])
    assert len(model_layers(model)) == 3
    assert all("forward" not in vars(layer) for layer in model_layers(model))
    assert not any(p.requires_grad for p in model.parameters())


def test_the_layers_are_put_back_after_an_error():
    model = tiny()
    layer = model_layers(model)[1]
    own = lambda *args, **kwargs: None  # noqa: E731 - what a library that moves layers between devices puts there
    layer.forward = own

    def fail():
        with recomputed_layers(model):
            assert layer.forward is not own
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert layer.forward is own
    assert "forward" not in vars(model_layers(model)[0])


@pytest.mark.slow
def test_a_trace_of_8192_tokens(monkeypatch):
    """Activations kept between the passes are those of one layer, not of all, and the gradient is the same."""
    model = tiny("sdpa", 8192)
    (long,) = random_sequences([8192])
    kept = []

    def run(recompute):
        monkeypatch.setattr(engines, "RECOMPUTE_TOKENS", 2048 if recompute else 10**6)
        saved = [0]

        def pack(tensor):
            saved[0] += tensor.numel() * tensor.element_size()
            return tensor

        engine = LoopEngine(model)
        rows = engine.buffer(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            log_prob = engine.fill([long], rows)
        kept.append(saved[0])
        return rows, sum(log_prob)

    (rows, log_prob), (expected, same) = run(True), run(False)
    assert torch.equal(log_prob, same)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    assert float(rows.norm()) > 1
    assert kept[0] < 0.7 * kept[1]


# --- types of the weights ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequences(lrm):
    return [s for pair in shipped_pairs("correct", limit=2) for s in plan_pair(lrm.assembler, pair, traces=2).sequences]


def relative(found, expected):
    return float((found.double() - expected).norm(dim=1).div(expected.norm(dim=1)).max())


def test_weights_in_bfloat16_give_scores_in_float32(lrm64, sequences):
    """Against float64 scores of the *same*, rounded weights: what is left is the rounding of activations."""
    low = load_model(dtype=torch.bfloat16)
    reference = load_model(dtype=torch.float64).model
    with torch.no_grad():
        for p, q in zip(reference.parameters(), low.model.parameters(), strict=True):
            p.copy_(q.double())
    exact = LoopEngine(reference)
    expected = exact.buffer(len(sequences))
    trace, answer = exact.fill(sequences, expected)
    errors = {}
    for kind in (HooksEngine, VmapEngine, LoopEngine):
        engine = kind(low.model)
        rows = engine.buffer(len(sequences))
        assert rows.dtype == torch.float32
        parts = engine.fill(sequences, rows)
        errors[kind.name] = relative(rows, expected)
        assert float((sum(parts) - trace - answer).abs().max()) < 0.5
    assert getattr(HooksEngine(low.model), "fallback", "") is None
    assert all(error < 0.15 for error in errors.values()), errors
    assert errors["hooks"] < 1.2 * min(errors.values()), errors


def test_products_of_half_precision_factors_are_taken_in_float32():
    """A layer's share is exact given its inputs: no rounding to bfloat16 of the gradient itself."""
    from bvpo_analysis.scores.per_sample import ScoreRows

    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(2, 50, n, generator=generator).bfloat16() for n in (3, 4))
    out = torch.empty(2, 12)
    ScoreRows(out, [0, 1], {"w": slice(0, 12)}).add_products("w", b, a)
    exact = b.double().transpose(1, 2) @ a.double()
    torch.testing.assert_close(out.double(), exact.flatten(1), rtol=1e-5, atol=1e-5)


# --- adapters ----------------------------------------------------------------------------------------------


def test_a_lora_adapter_is_a_parameter_space(sequences):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install '.[lora]'")
    base = load_model(dtype=torch.float64).model
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(3)
    model = peft.get_peft_model(base, config).eval().double()
    rows = {}
    for kind in (HooksEngine, VmapEngine, LoopEngine):
        engine = kind(model, "lora_")
        assert all("lora_" in name for name in engine.names)
        assert engine.groups == ("layer 0", "layer 1", "layer 2")
        rows[kind.name] = engine.buffer(len(sequences))
        engine.fill(sequences, rows[kind.name])
        assert getattr(engine, "fallback", None) is None
    for name in ("hooks", "vmap"):
        torch.testing.assert_close(rows[name], rows["loop"], rtol=1e-5, atol=1e-6 * float(rows["loop"].abs().max()))
    # Chain rule: with W = W0 + (alpha / r) B A, the gradient of A is (alpha / r) B^T dW.
    whole = LoopEngine(model, r"layers\.0\.self_attn\.q_proj\.base_layer")
    dense = whole.buffer(len(sequences))
    whole.fill(sequences, dense)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    factor = layer.lora_B["default"].weight
    expected = 2 * factor.T @ dense.unflatten(1, layer.base_layer.weight.shape)
    place = LoopEngine(model, r"layers\.0\.self_attn\.q_proj\.lora_A").places()
    found = LoopEngine(model, r"layers\.0\.self_attn\.q_proj\.lora_A")
    own = found.buffer(len(sequences))
    found.fill(sequences, own)
    assert len(place) == 1
    torch.testing.assert_close(own, expected.flatten(1), rtol=1e-5, atol=1e-6 * float(own.abs().max()))
