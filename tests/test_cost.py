"""What an estimator costs, against counts by hand and against the operations that a model in fact executes."""

import copy
from dataclasses import fields, replace

import numpy as np
import pytest

from bvpo_analysis.cost import (
    BACKWARD,
    Architecture,
    Cost,
    exact_mean_cost,
    forward_flops,
    mean_cost,
    pair_cost,
    rows_read,
)
from bvpo_analysis.estimators import EmptyTrace, Trace, mix
from bvpo_analysis.estimators.registry import ESTIMATORS, Generated, available
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.objectives import DPO
from bvpo_analysis.testing import toy_pair

DPO_1 = DPO(1.0)
ARCHITECTURE = Architecture(parameters=1000, layers=2, attention_width=8)


def with_prompt(pair, prompt=10):
    """The pair with a prompt of so many tokens before every sequence."""
    return replace(pair, length=pair.tokens + prompt)


def long_pair(rng, draws=8, prior=7):
    """A sampled pair with ``draws`` distinct traces per answer and prior traces, at its reference."""
    size = 2 * draws + 2 + 3 * prior + 6
    log_prob = -rng.uniform(1, 9, size)
    rows = np.arange(size)
    first = 2 * draws + 2
    tokens = rng.integers(5, 30, size)
    answer = np.full(size, 3)
    alone = rows[first + 2 * prior : first + 3 * prior]
    answer[alone] = 0
    variants = rows[first + 3 * prior :].reshape(3, 2)
    return replace(
        toy_pair(),
        log_prob=log_prob,
        log_prob_ref=log_prob,
        log_prob_answer=log_prob / 2,
        tokens=tokens,
        tokens_answer=answer,
        length=tokens + 10,
        draws=rows[: 2 * draws].reshape(2, draws).T.copy(),
        weights=np.full(draws, 1.0 / draws),
        empty=rows[2 * draws : first],
        prior=rows[first : first + 2 * prior].reshape(2, prior).T.copy(),
        trace_only=alone,
        variants=dict(zip(("empty_shared", "empty_generated", "short"), variants, strict=True)),
    )


# --- operations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [3, 40])
def test_the_operations_are_those_that_the_model_executes(lrm, tokens):
    """Counted by PyTorch with eager attention, which also computes the masked half: 4 l d T^2 in place of half of it.

    Catches a missing output matrix, the wrong width or number of layers, and a backward pass that is not twice the
    forward pass. Norms have parameters but no products, hence the tolerance.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = copy.deepcopy(lrm.model).requires_grad_(True)
    model.set_attn_implementation("eager")
    config = model.config
    architecture = Architecture.from_config(config, sum(p.numel() for p in model.parameters()))
    layers, width = config.num_hidden_layers, config.num_attention_heads * config.head_dim
    assert (architecture.layers, architecture.attention_width) == (layers, width)
    masked = 4 * layers * width * tokens**2 - 2 * layers * width * tokens * (tokens + 1)
    expected = float(forward_flops(architecture, tokens)) + masked
    with FlopCounterMode(display=False) as forward:
        loss = model(input_ids=torch.randint(5, 20, (1, tokens))).logits.sum()
    assert forward.get_total_flops() == pytest.approx(expected, rel=0.01)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert backward.get_total_flops() == pytest.approx(BACKWARD * expected, rel=0.01)


def test_generation_with_a_cache_takes_the_operations_of_one_forward_pass():
    """Token by token: 2 P and, over t keys, 4 t d per layer."""
    by_token = sum(2 * 1000 + 4 * t * 8 * 2 for t in range(1, 31))
    assert float(forward_flops(ARCHITECTURE, 30)) == by_token


def test_an_untied_table_is_looked_up_and_a_tied_one_is_multiplied():
    class Config:
        hidden_size, num_attention_heads, num_hidden_layers, vocab_size, head_dim = 8, 2, 3, 50, 16
        tie_word_embeddings = False

    assert Architecture.from_config(Config, 1000) == Architecture(600, 3, 32)
    Config.tie_word_embeddings = True
    assert Architecture.from_config(Config, 1000) == Architecture(1000, 3, 32)
    assert Architecture.from_config(object(), 1000) == Architecture(1000)


# --- one realisation ---------------------------------------------------------------------------------------


def test_the_cost_of_a_realisation_is_the_count_by_hand():
    pair = with_prompt(toy_pair())
    cost = pair_cost(Trace(DPO_1), pair, generated=Generated(posterior=2), architecture=ARCHITECTURE)
    lengths = np.array([[16, 16], [18, 17]])  # (a, a) and (b, b), prompt included
    assert cost.sequences_backward == 2
    assert cost.tokens_backward == lengths.sum(axis=1).mean()
    operations = [sum(2000 * t + 32 * t * (t + 1) for t in row) for row in lengths.tolist()]
    assert cost.flops_backward == pytest.approx(3 * np.mean(operations))
    assert cost.flops_sampled == pytest.approx(np.mean(operations))
    assert cost.tokens_sampled == lengths.sum(axis=1).mean() - 20  # the prompt is not generated
    assert (cost.sequences_sampled, cost.sequences_read, cost.tokens_read, cost.flops_read) == (2, 0, 0, 0)
    assert float(cost.of("total_flops")) == pytest.approx(4 * np.mean(operations))


def test_draws_count_with_their_probabilities():
    """Catches realisations weighted equally where they are enumerated."""
    ref = np.log([0.1, 0.3, 0.2, 0.2, 0.1, 0.1])
    pair = toy_pair(enumerated=True, log_prob_ref=ref)
    cost = pair_cost(Trace(DPO_1), pair, generated=Generated(posterior=2))
    expected = (0.25 * 6 + 0.75 * 8) + (0.5 * 6 + 0.5 * 7)
    assert cost.tokens_backward == pytest.approx(expected)
    assert cost.tokens_sampled == pytest.approx(expected)


def test_a_weight_of_zero_costs_nothing_and_a_mix_costs_both():
    pair = with_prompt(toy_pair())
    trace, empty = Trace(DPO_1), EmptyTrace(DPO_1)
    each = [float(pair_cost(g, pair).of("tokens")) for g in (trace, empty)]
    mixed = [float(pair_cost(mix(trace, empty, a), pair).of("tokens")) for a in (1.0, 0.5, 0.0)]
    assert mixed == pytest.approx([each[0], sum(each), each[1]])


def test_a_repeated_trace_is_scored_once():
    pair = toy_pair()
    repeated = replace(pair, draws=np.array([[0, 2], [0, 3]]))
    mean_of_2 = ESTIMATORS["mean_of_2"].make(DPO_1)
    assert pair_cost(mean_of_2, pair).sequences_backward == 4
    assert pair_cost(mean_of_2, repeated).sequences_backward == 3


def test_what_is_read_to_choose_is_paid_for():
    """Pairs matched among K take K traces per answer through the model and back-propagate one of each."""
    pair = long_pair(np.random.default_rng(0))
    coupled = ESTIMATORS["coupled_4"].make(DPO_1)
    cost = pair_cost(coupled, pair, architecture=ARCHITECTURE)
    assert (cost.sequences_backward, cost.sequences_read) == (2, 6)
    drawn = pair.length[pair.draws].sum() / 2  # two groups of four
    assert float(cost.of("tokens")) == pytest.approx(drawn)
    assert cost.flops_read == pytest.approx(cost.flops_backward, rel=0.2)  # a third of the work on three times as much
    half = mix(coupled, EmptyTrace(DPO_1), 0.5)
    assert pair_cost(half, pair).sequences_read == 6
    assert pair_cost(mix(coupled, EmptyTrace(DPO_1), 0.0), pair).sequences_read == 0


def test_members_of_a_pool_without_weight_are_paid_for():
    """Catches pools that cost two sequences where one trace has all the weight, as with long answers.

    A weight that is zero to the last bit saves the backward pass, never the forward pass that finds it.
    """
    pair = long_pair(np.random.default_rng(3), draws=2, prior=6)
    far = np.where(np.isin(np.arange(pair.size), pair.prior), -2000.0, -1.0)
    pair = replace(pair, log_prob_answer=far)
    pooled = ESTIMATORS["pooled_4"].make(DPO_1)
    cost = pair_cost(pooled, pair)
    assert (cost.sequences_backward, cost.sequences_read) == (2, 6)
    assert float(cost.of("tokens")) == pytest.approx(
        (pair.length[pair.draws].sum() + pair.length[pair.prior].sum()) / 2
    )


def test_a_trace_alone_costs_nothing_beside_itself_with_an_answer():
    """Catches a control variate that is charged for a pass of its own: its sequence is a prefix of another."""
    pair = long_pair(np.random.default_rng(4))
    plain, controlled = (ESTIMATORS[key].make(DPO_1) for key in ("prior_independent", "prior_controlled"))
    assert (controlled.coefficients(pair) != 0).sum() == 2 * (plain.coefficients(pair) != 0).sum()
    for measure in ("tokens", "flops"):
        each = [pair_cost(g, pair, architecture=ARCHITECTURE).of(measure) for g in (plain, controlled)]
        assert each[0] == each[1]
    assert pair_cost(mix(controlled, EmptyTrace(DPO_1), 0.5), pair).sequences_backward == 4


def test_every_registered_estimator_has_the_cost_that_its_definition_says():
    """Sequences (back-propagated, read, generated) of each; the oracle is the definition of the estimator."""
    p1, p2 = np.array([2.0**-1.5, 2.0**-3.0]) / (2.0**-1.5 + 2.0**-3.0)
    levels = 2 * (2 * p1 + 4 * p2)
    expected = {
        "trace": (2, 0, 2),
        **{f"{name}_{k}": (2 * k, 0, 2 * k) for name in ("mean_of", "marginal", "jackknife") for k in (2, 4, 8)},
        "randomised": (levels, 0, levels),
        **{f"pooled_{m}": (2 * m, 0, 2 + m - 1) for m in (2, 4)},
        **{f"coupled_{k}": (2, 2 * k - 2, 2 * k) for k in (2, 4, 8)},
        "prior_shared": (2, 0, 1),
        "prior_independent": (2, 0, 2),
        "prior_controlled": (2, 0, 2),
        "empty": (2, 0, 2),
        "empty_shared": (2, 0, 0),
        "empty_generated": (2, 0, 2),
        "short": (2, 0, 2),
    }
    # Off the reference, so that no coefficient of a marginal estimator vanishes; the pooled one is defined on it only.
    rng = np.random.default_rng(5)
    at = long_pair(rng)
    off = replace(at, log_prob=at.log_prob + 0.3 * rng.normal(size=at.size))
    keys = set(available(at)) | set(available(off))
    assert keys == set(expected)
    for key in sorted(keys):
        entry = ESTIMATORS[key]
        pair = at if entry.needs.at_reference else off
        cost = pair_cost(entry.make(DPO_1), pair, generated=entry.generated)
        found = (cost.sequences_backward, cost.sequences_read, cost.sequences_sampled)
        assert found == pytest.approx(expected[key]), key
        assert float(cost.sequences) == pytest.approx(sum(expected[key][:2])), key


def test_generated_prior_traces_have_no_answer():
    pair = long_pair(np.random.default_rng(1))
    cost = pair_cost(Trace(DPO_1), pair, generated=Generated(prior=3))
    mean = (pair.tokens - 3)[pair.prior].mean()
    assert cost.tokens_sampled == pytest.approx(3 * mean)
    with pytest.raises(ValueError, match="no scored prior traces"):
        pair_cost(Trace(DPO_1), toy_pair(), generated=Generated(prior=3))


def test_the_rows_read_contain_the_rows_used():
    pair = long_pair(np.random.default_rng(2))
    for key in available(pair):
        estimator = ESTIMATORS[key].make(DPO_1)
        assert not ((estimator.coefficients(pair) != 0) & ~rows_read(estimator, pair)).any(), key


# --- sums, means, units ------------------------------------------------------------------------------------


def test_costs_add_and_scale_in_every_field():
    a, b = Cost(*np.arange(1.0, 10.0)), Cost(*(10.0 ** np.arange(9)))
    both = 2 * a + b
    for i, f in enumerate(fields(Cost)):
        assert getattr(both, f.name) == 2 * (i + 1) + 10.0**i, f.name


def test_measures_take_their_own_fields():
    """Catches a swapped or doubled field: every field is another power of ten."""
    cost = Cost(*(10.0 ** np.arange(9)))
    assert float(cost.of("tokens")) == 1e4 + 1e7
    assert float(cost.of("flops")) == 1e5 + 1e8
    assert float(cost.of("sampled_tokens")) == 1e1
    assert float(cost.of("total_flops")) == 1e2 + 1e5 + 1e8
    assert float(cost.sequences) == 1e3 + 1e6


def test_the_mean_over_pairs_has_the_standard_error_of_a_mean():
    rng = np.random.default_rng(3)
    tokens = rng.uniform(10, 90, 12)
    costs = [Cost(0, 0, 0, 0, 0, 0, 2, t, 3 * t) for t in tokens]
    found = jackknife_estimate(mean_cost(costs).of("tokens"))
    assert found.value == pytest.approx(tokens.mean())
    assert found.se == pytest.approx(tokens.std(ddof=1) / np.sqrt(12))
    assert jackknife_estimate(exact_mean_cost(costs).of("flops")).method == "exact"
    assert exact_mean_cost(costs).of("flops")[0] == pytest.approx(3 * tokens.mean())


def test_what_cannot_be_counted_is_refused():
    cost = pair_cost(Trace(DPO_1), toy_pair(), generated=Generated(posterior=2))
    for measure in ("flops", "total_flops"):
        with pytest.raises(ValueError, match="architecture"):
            cost.of(measure)
    with pytest.raises(ValueError, match="unknown measure 'seconds'"):
        cost.of("seconds")
    with pytest.raises(ValueError, match="no pairs"):
        exact_mean_cost([])
    with pytest.raises(ValueError, match="at least three"):
        mean_cost([cost, cost])
    with pytest.raises(ValueError, match="must not be negative"):
        forward_flops(ARCHITECTURE, [-1])
    with pytest.raises(ValueError, match="at least 1"):
        Architecture(0)
    with pytest.raises(ValueError, match="trace draws"):
        pair_cost(ESTIMATORS["mean_of_4"].make(DPO_1), toy_pair())
