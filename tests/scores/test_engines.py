"""Engines: the same scores from vmap and loop, which are the gradients of log pi, whatever else is in the batch.

Hugging Face computes RMSNorm and the attention softmax in float32 also inside a float64 model. Both engines round
alike there, so they agree to 1e-9 in float64 none the less; a finite difference does not, and gets a model in which
those casts are taken out.
"""

import copy

import numpy as np
import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import ENGINES, LoopEngine, VmapEngine, sequence_log_probs
from bvpo_analysis.scores.engines import parameter_group
from bvpo_analysis.scores.log_probs import batches_by_length, log_prob_parts, pad_batch


def sequences_of(lrm, pairs=3):
    """Traces of both sides and empty traces in both modes: every kind of span, several lengths."""
    found = []
    for pair in shipped_pairs("correct", limit=pairs):
        for side in (0, 1):
            found += [lrm.assembler.with_trace(pair.prompt, t, pair.answer(side)) for t in pair.traces(side)[:2]]
            found += [
                lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side), mode)
                for mode in ("prefilled", "generated")
            ]
    return list(dict.fromkeys(found))


def fill(engine, sequences):
    out = engine.buffer(len(sequences))
    trace, answer = engine.fill(sequences, out)
    return out, trace, answer


def by_parameter(engine, rows):
    """{name: columns of the rows}, in the engine's order."""
    start, parameters = 0, dict(engine.model.named_parameters())
    for name in engine.names:
        stop = start + parameters[name].numel()
        yield name, rows[:, start:stop]
        start = stop
    assert start == engine.size == rows.shape[1]


def plain_log_prob(model, sequence):
    """log pi of the scored part, written out once more: no padding, no masks, no helper of the package."""
    logits = model(torch.tensor([sequence.ids]), use_cache=False).logits[0]
    log_probs = torch.log_softmax(logits, dim=-1)
    return sum(log_probs[t - 1, sequence.ids[t]] for t in range(sequence.score_start, len(sequence.ids)))


# --- one answer from every engine ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bound"), [("lrm", 1e-5), ("lrm64", 1e-9)], ids=["float32", "float64"])
def test_vmap_equals_the_loop_in_every_parameter(name, bound, request):
    lrm = request.getfixturevalue(name)
    sequences = sequences_of(lrm)
    fast_engine, slow_engine = VmapEngine(lrm.model), LoopEngine(lrm.model)
    fast, *fast_logs = fill(fast_engine, sequences)
    slow, *slow_logs = fill(slow_engine, sequences)
    for parts in zip(fast_logs, slow_logs, strict=True):
        torch.testing.assert_close(*parts, rtol=bound, atol=bound)
    for (parameter, a), (same, b) in zip(by_parameter(fast_engine, fast), by_parameter(slow_engine, slow), strict=True):
        assert parameter == same
        size = b.norm(dim=1)
        assert (size > 0).all(), parameter
        assert ((a - b).norm(dim=1) <= bound * size).all(), parameter


def test_scores_are_the_gradients_of_the_plainly_written_log_probability(lrm64):
    model = copy.deepcopy(lrm64.model).requires_grad_(True)
    sequences = sequences_of(lrm64, pairs=1)
    engine = VmapEngine(lrm64.model)
    rows, trace, answer = fill(engine, sequences)
    for j, sequence in enumerate(sequences):
        value = plain_log_prob(model, sequence)
        assert (trace + answer)[j] == pytest.approx(value.item(), rel=1e-9)
        grads = dict(
            zip(
                (n for n, _ in model.named_parameters()),
                torch.autograd.grad(value, [p for _, p in model.named_parameters()]),
                strict=True,
            )
        )
        for name, columns in by_parameter(engine, rows[j : j + 1]):
            torch.testing.assert_close(columns[0], grads[name].flatten(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_log_probs_equal_those_without_gradients(lrm, engine):
    sequences = sequences_of(lrm)
    _, trace, answer = fill(ENGINES[engine](lrm.model), sequences)
    plain = sequence_log_probs(lrm.model, sequences)
    for ours, theirs in zip((trace, answer), plain, strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_parts_of_log_pi_are_the_parts_of_the_turn(lrm64):
    pair = shipped_pairs("correct", limit=1)[0]
    trace, answer = pair.traces(0)[0], pair.answer(0)
    whole = lrm64.assembler.with_trace(pair.prompt, trace, answer)
    prefilled, generated = (
        lrm64.assembler.with_empty_trace(pair.prompt, answer, mode) for mode in ("prefilled", "generated")
    )
    parts = sequence_log_probs(lrm64.model, [whole, prefilled, generated])
    only_answer = TokenSequence(whole.ids, score_start=whole.answer_start, answer_start=whole.answer_start)
    (zero,), (conditional,) = sequence_log_probs(lrm64.model, [only_answer])
    assert zero == 0
    assert parts[1][0] == pytest.approx(conditional.item(), rel=1e-12)
    assert parts[0][1] == 0  # a prefilled block is given
    assert parts[0][2] < 0  # a generated one is scored
    assert parts[1][1] == pytest.approx(parts[1][2].item(), rel=1e-12)
    assert parts[0][0] + parts[1][0] == pytest.approx(plain_log_prob(lrm64.model, whole).item(), rel=1e-9)


# --- a finite difference -----------------------------------------------------------------------------------


@pytest.fixture
def true_float64(monkeypatch):
    """The model in the box in float64 without the casts to float32 inside."""

    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    softmax = torch.nn.functional.softmax

    def wide_softmax(x, dim=None, dtype=None, **options):
        return softmax(x, dim=dim, dtype=torch.promote_types(x.dtype, dtype or x.dtype), **options)

    monkeypatch.setattr(modeling_qwen3.Qwen3RMSNorm, "forward", norm)
    monkeypatch.setattr(torch.nn.functional, "softmax", wide_softmax)
    return load_model(dtype=torch.float64)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_directional_derivative_equals_its_finite_difference(true_float64, engine):
    """Central differences of fourth order in a random direction, relative to the length of the score: 1e-6."""
    lrm = true_float64
    sequences = sequences_of(lrm, pairs=1)
    scorer = ENGINES[engine](lrm.model)
    rows, _, _ = fill(scorer, sequences)
    generator = torch.Generator().manual_seed(5)
    # A random direction among 3e5 sees little of a score, so the first score is a direction as well.
    directions = [torch.randn(scorer.size, generator=generator, dtype=torch.float64) for _ in range(2)] + [rows[0]]
    origin = {name: p.clone() for name, p in lrm.model.named_parameters()}
    step = 1e-3

    def value(direction, shift):
        parameters, start = {}, 0
        for name in scorer.names:
            stop = start + origin[name].numel()
            parameters[name] = origin[name] + shift * direction[start:stop].view_as(origin[name])
            start = stop
        with torch.no_grad():
            parts = log_prob_parts(lrm.model, parameters, *pad_batch(sequences, "cpu"))
        return parts[0] + parts[1]

    for direction in directions:
        unit = direction / direction.norm()
        near = value(unit, step) - value(unit, -step)
        far = value(unit, 2 * step) - value(unit, -2 * step)
        numeric = (8 * near - far) / (12 * step)
        error = (rows @ unit - numeric).abs()
        assert (error <= 1e-6 * rows.norm(dim=1)).all()
    assert (rows @ (rows[0] / rows[0].norm())).abs().max() > 1e-3 * rows.norm(dim=1).max()


# --- padding and causality --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_score_does_not_depend_on_the_lengths_of_its_batch_mates(lrm64, engine):
    """Batches are made by length, so the padding is forced: one huge batch, with a mate twice as long."""
    sequences = sequences_of(lrm64, pairs=1)
    longest = max(sequences, key=lambda s: len(s.ids))
    mate = TokenSequence(longest.ids + longest.ids[1:], longest.score_start, longest.answer_start)
    scorer = ENGINES[engine](lrm64.model, token_budget=10**6)
    alone = [fill(scorer, [sequence]) for sequence in sequences]
    rows, trace, answer = fill(scorer, [*sequences, mate])
    for j, (row, own_trace, own_answer) in enumerate(alone):
        torch.testing.assert_close(rows[j], row[0], rtol=1e-9, atol=1e-9 * row.abs().max().item())
        torch.testing.assert_close(trace[j], own_trace[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(answer[j], own_answer[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_after_the_end_change_nothing(lrm64, engine, monkeypatch):
    """Padding is id 0; any other id there, and any number of them, gives the same scores."""
    sequences = sequences_of(lrm64, pairs=1)
    expected = fill(ENGINES[engine](lrm64.model, token_budget=10**6), sequences)

    def pad_otherwise(sequences, device):
        ids, trace, answer = pad_batch(sequences, device)
        ids, trace, answer = (torch.nn.functional.pad(x, (0, 5)) for x in (ids, trace, answer))
        for row, sequence in enumerate(sequences):
            tail = torch.arange(ids.shape[1] - len(sequence.ids))
            ids[row, len(sequence.ids) :] = 6 + (7 * tail + row) % 20
        return ids, trace, answer

    for user in ("engines", "hooks"):
        monkeypatch.setattr(f"bvpo_analysis.scores.{user}.pad_batch", pad_otherwise)
    found = fill(ENGINES[engine](lrm64.model, token_budget=10**6), sequences)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9 * expected[0].abs().max().item())
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_token_changes_no_log_probability_before_it(lrm64):
    sequence = max(sequences_of(lrm64, pairs=1), key=lambda s: len(s.ids))

    def prefix_log_probs(ids):
        """log pi of ids[1], ids[2], ... one by one, each as a sequence that ends there."""
        spans = [TokenSequence(tuple(ids), t, t) for t in range(1, len(ids))]
        sums = sequence_log_probs(lrm64.model, spans, budget=10**6)[1]
        return sums - torch.cat([sums[1:], torch.zeros(1)])

    before = prefix_log_probs(sequence.ids)
    for t in (1, 5, len(sequence.ids) // 2, len(sequence.ids) - 2):
        changed = list(sequence.ids)
        changed[t] = changed[t] % 20 + 6
        after = prefix_log_probs(changed)
        torch.testing.assert_close(after[: t - 1], before[: t - 1], rtol=1e-9, atol=1e-9)
        assert (after[t - 1 :] - before[t - 1 :]).abs().max() > 1e-3


def test_the_order_of_the_sequences_is_kept(lrm):
    sequences = sequences_of(lrm, pairs=2)
    engine = VmapEngine(lrm.model, token_budget=128)
    assert len(batches_by_length(sequences, 128)) > 3
    rows, trace, answer = fill(engine, sequences)
    back = list(range(len(sequences)))[::-1]
    other_rows, other_trace, other_answer = fill(engine, [sequences[j] for j in back])
    scale = rows.abs().max().item()
    torch.testing.assert_close(other_rows[back], rows, rtol=1e-5, atol=1e-6 * scale)
    torch.testing.assert_close((other_trace + other_answer)[back], trace + answer, rtol=1e-5, atol=1e-5)


def test_batches_hold_every_sequence_once_and_keep_to_the_budget():
    rng = np.random.default_rng(0)
    sequences = [TokenSequence(tuple(range(n)), 1, 1) for n in rng.integers(2, 60, size=200)]
    batches = batches_by_length(sequences, budget=300)
    assert sorted(j for batch in batches for j in batch) == list(range(200))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(sequences[j].ids) for j in batch) <= 300
    assert batches_by_length(sequences[:1], budget=1) == [[0]]


# --- parameters -----------------------------------------------------------------------------------------


def test_groups_partition_the_parameters(lrm):
    engine = VmapEngine(lrm.model)
    assert engine.groups == ("embedding", "layer 0", "layer 1", "layer 2", "final norm")
    assert engine.columns[0].start == 0
    assert engine.columns[-1].stop == engine.size
    assert all(a.stop == b.start for a, b in zip(engine.columns, engine.columns[1:], strict=False))
    parameters = dict(lrm.model.named_parameters())
    assert sorted(engine.names) == sorted(parameters)
    for group, columns in zip(engine.groups, engine.columns, strict=True):
        assert columns.stop - columns.start == sum(
            p.numel() for n, p in parameters.items() if parameter_group(n) == group
        )


def test_tied_weights_are_counted_once_with_both_of_their_uses(lrm64):
    model = lrm64.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert VmapEngine(model).size == sum(p.numel() for p in model.parameters())
    engine = VmapEngine(model, "embed_tokens")
    sequence = sequences_of(lrm64, pairs=1)[0]
    row = fill(engine, [sequence])[0].view_as(model.get_input_embeddings().weight)
    absent = sorted(set(range(model.config.vocab_size)) - set(sequence.ids))
    assert row[absent].abs().max() > 0  # tokens that are not read still get a gradient from the softmax of the head
    untied = copy.deepcopy(model)
    untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach().clone())
    untied.config.tie_word_embeddings = False
    parts = [fill(VmapEngine(untied, pattern), [sequence])[0].view_as(row) for pattern in ("embed_tokens", "lm_head")]
    assert parts[0][absent].abs().max() == 0
    torch.testing.assert_close(parts[0] + parts[1], row, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"layers\.1\.", ("layer 1",)),
        (r"mlp|norm\.weight$", ("layer 0", "layer 1", "layer 2", "final norm")),
        (r"^model\.embed_tokens", ("embedding",)),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_regular_expression_selects_parameters(lrm, pattern, groups, engine):
    sequences = sequences_of(lrm, pairs=1)[:3]
    whole, some = ENGINES[engine](lrm.model), ENGINES[engine](lrm.model, pattern)
    assert some.groups == groups
    expected = dict(by_parameter(whole, fill(whole, sequences)[0]))
    found = dict(by_parameter(some, fill(some, sequences)[0]))
    assert 0 < len(found) < len(expected)
    for name, columns in found.items():
        torch.testing.assert_close(columns, expected[name], rtol=1e-5, atol=1e-5 * columns.abs().max().item())


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("lora_", "--params 'lora_' matches no parameter; names look like 'model.embed_tokens.weight'"),
        ("layers.(1", r"--params 'layers\.\(1' is not a regular expression"),
    ],
)
def test_unfit_regular_expressions(lrm, pattern, says):
    with pytest.raises(InputError, match=says):
        VmapEngine(lrm.model, pattern)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_active_dropout_is_refused(engine):
    model = load_model().model
    model.model.layers[1].mlp.act_fn = torch.nn.Sequential(model.model.layers[1].mlp.act_fn, torch.nn.Dropout(0.1))
    ENGINES[engine](model.eval())
    with pytest.raises(InputError, match=r"training mode, where dropout .*call model\.eval"):
        ENGINES[engine](model.train())


@pytest.mark.parametrize("engine", ENGINES)
def test_active_attention_dropout_is_refused(engine):
    model = load_model().model
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    with pytest.raises(InputError, match="training mode, where dropout"):
        ENGINES[engine](model.train())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_are_not_finite_are_named_not_averaged(lrm, engine, value):
    sequences = sequences_of(lrm, pairs=1)
    broken = load_model().model
    broken.model.layers[0].mlp.up_proj.weight[0, 0] = value
    scorer = ENGINES[engine](broken)
    with pytest.raises(StudyError) as caught:
        scorer.fill(sequences, scorer.buffer(len(sequences)))
    text = str(caught.value)
    assert f"for {len(sequences)} of {len(sequences)} sequences" in text
    assert f"first has {len(sequences[0].ids)} tokens" in text
    assert "check the weights for NaN or infinity" in text
    with pytest.raises(StudyError, match="check the weights"):
        sequence_log_probs(broken, sequences)


def test_only_the_sequences_that_are_not_finite_are_counted(lrm):
    """A broken embedding of one letter spoils the sequences that contain it, and those alone."""
    pairs = shipped_pairs("correct", limit=6)
    sequences = [lrm.assembler.with_trace(p.prompt, p.traces(0)[0], p.answer(0)) for p in pairs]
    token = lrm.assembler.encode("a")[0]
    bad = [j for j, s in enumerate(sequences) if token in s.ids]
    assert 0 < len(bad) < len(sequences)
    broken = copy.deepcopy(lrm.model)
    broken.lm_head.weight = torch.nn.Parameter(broken.lm_head.weight.detach().clone())  # the head stays whole
    broken.get_input_embeddings().weight.data[token] = float("nan")
    with pytest.raises(StudyError, match=f"for {len(bad)} of {len(sequences)} sequences"):
        sequence_log_probs(broken, sequences)
