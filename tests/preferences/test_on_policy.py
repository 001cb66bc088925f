"""On-policy pairs: reproducible, counted, ranked without sight of the traces, with exact posterior traces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from bvpo_analysis.lrm.shipped.task import enumerate_traces, last_letter, parse_answer, sample_problem, style_reward
from bvpo_analysis.preferences import pair_from_row, pair_to_row
from bvpo_analysis.preferences.on_policy import (
    BuildCounts,
    OnPolicySampler,
    add_posterior_traces,
    add_prior_traces,
    build_pairs,
)
from bvpo_analysis.preferences.shipped.rules import by_style
from bvpo_analysis.records import Completion, PreferencePair
from bvpo_analysis.scores import sequence_log_probs

FURTHER = 3


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(5)
    return [(f"p{i:02d}", ({"role": "user", "content": sample_problem(rng).text},)) for i in range(24)]


def build(lrm, prompts, *, seed=1, further=FURTHER, rule=by_style, **options):
    counts = BuildCounts()
    sampler = OnPolicySampler(lrm, seed=seed, **options)
    pairs = build_pairs(sampler, prompts, rule, meta={"seed": seed}, score=style_reward, counts=counts)
    return add_posterior_traces(sampler, pairs, further, counts=counts), counts


@pytest.fixture(scope="module")
def built(lrm, prompts):
    return build(lrm, prompts)


def test_counts_add_up(built, prompts):
    pairs, counts = built
    assert counts.prompts == len(prompts) == len(pairs) + counts.no_pair + counts.no_empty_pair + counts.no_traces
    assert counts.completions == 5 * len(prompts)
    assert counts.rejection_completions > 0
    assert counts.rejection_completions % 32 == 0
    assert len(pairs) >= 3
    assert counts.no_pair > 0
    assert counts.no_empty_pair > 0


def test_pairs_are_in_prompt_order_complete_and_well_formed(built, prompts):
    pairs, _ = built
    by_id = dict(prompts)
    assert [pair.prompt_id for pair in pairs] == sorted(pair.prompt_id for pair in pairs)
    for pair in pairs:
        assert pair.prompt == by_id[pair.prompt_id]
        assert pair.empty_answers == "own"
        assert len(pair.traces(0)) == len(pair.traces(1)) == 1 + FURTHER
        assert pair.meta == {"seed": 1, "temperature": 1.0}
        assert (pair.score_chosen, pair.score_rejected) == tuple(style_reward("", pair.answer(s)) for s in (0, 1))
        for better, worse in ((pair.answer(0), pair.answer(1)), (pair.empty_chosen, pair.empty_rejected)):
            assert style_reward("", better) > style_reward("", worse)
        assert pair_from_row(pair_to_row(pair)) == pair


def test_a_build_repeats_and_ignores_the_global_generators(lrm, prompts, built):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global generator is the point
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = build(lrm, prompts)
    assert again == built
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_another_seed_gives_other_samples(lrm, prompts, built):
    pairs, _ = build(lrm, prompts, seed=2, further=0)
    assert [(p.prompt_id, p.chosen) for p in pairs] != [(p.prompt_id, p.chosen) for p in built[0]]


def test_a_pair_does_not_depend_on_the_other_prompts(lrm, prompts, built):
    pair = built[0][-1]
    alone, _ = build(lrm, [(pair.prompt_id, pair.prompt)])
    assert alone == [pair]


def test_the_rule_is_shown_the_answers_and_no_trace(lrm, prompts):
    seen = []

    def rule(prompt, answers):
        seen.append((prompt, list(answers)))

    pairs, counts = build(lrm, prompts[:4], rule=rule)
    assert pairs == []
    assert counts.no_pair == 4
    assert [prompt for prompt, _ in seen] == [m[-1]["content"] for _, m in prompts[:4] for _ in range(2)]
    answers = [answer for _, shown in seen for answer in shown]
    assert len(answers) == 2 * 5 * 4
    assert all(parse_answer(answer) for answer in answers)
    assert not any("=" in answer or "think" in answer for answer in answers)


def test_posterior_traces_are_the_first_matches_in_index_order(lrm, built):
    """The search for a pair, repeated sample by sample: it stops early, keeps order, and mixes up no sides."""
    sampler = OnPolicySampler(lrm, seed=1)
    for pair in built[0][:2]:
        drawn = sampler.thinking([(pair.prompt_id, pair.prompt, "posterior", k) for k in range(256)])
        for side, further in enumerate((pair.chosen_traces, pair.rejected_traces)):
            matches = [c.trace for c in drawn if c is not None and c.answer == pair.answer(side)]
            assert tuple(matches[:FURTHER]) == further[: len(matches)]
            assert len(matches) > 0


def test_kept_traces_make_their_answer_likely(lrm, built):
    """log pi(y | x, r) is that of the task (ending 1/4, digit 0.88 or 0.06), and the letter is the last one visited."""
    for pair in built[0]:
        for side in (0, 1):
            answer = pair.answer(side)
            sequences = [lrm.assembler.with_trace(pair.prompt, trace, answer) for trace in pair.traces(side)]
            _, log_prob = sequence_log_probs(lrm.model, sequences)
            assert log_prob.min() > np.log(0.25 * 0.06 / 5)
            assert {last_letter(trace) for trace in pair.traces(side)} == {parse_answer(answer).letter}


def test_turns_that_never_end_are_counted_not_paired(lrm, prompts):
    pairs, counts = build(lrm, prompts[:3], max_new_tokens=6)  # too short to close the trace
    assert pairs == []
    assert counts.unclosed == counts.completions == 15
    assert counts.no_pair == 3


def test_answers_too_rare_for_rejection_are_dropped_and_counted(lrm, built):
    pairs = list(built[0][:2])
    pairs[0] = replace(pairs[0], chosen=Completion("0000", pairs[0].chosen.trace))  # never generated
    counts = BuildCounts()
    sampler = OnPolicySampler(lrm, seed=1)
    kept = add_posterior_traces(sampler, pairs, 1, per_round=64, max_samples=256, counts=counts)
    assert [pair.prompt_id for pair in kept] == [pairs[1].prompt_id]
    assert counts.no_traces == 1
    assert counts.rejection_completions >= 256


def test_prior_traces_have_streams_of_their_own_and_a_longer_list_begins_with_the_shorter(lrm, built):
    """Catches prior traces that repeat the completions sampled for pairing, and seeds that depend on the count."""
    sampler, pairs = OnPolicySampler(lrm, seed=1), built[0][:3]
    counts = BuildCounts()
    five = add_prior_traces(sampler, pairs, 5, counts=counts)
    assert (counts.prior_completions, counts.prior_unclosed) == (15, 0)
    assert [replace(pair, prior_traces=()) for pair in five] == pairs
    assert [p.prior_traces[:3] for p in five] == [p.prior_traces for p in add_prior_traces(sampler, five, 3)]
    paired = sampler.traces([(pairs[0].prompt_id, pairs[0].prompt, "think", k) for k in range(5)])
    assert pairs[0].chosen.trace in paired
    assert paired != list(five[0].prior_traces)
    assert len({trace for pair in five for trace in pair.prior_traces}) > 10


def test_prior_traces_that_never_close_are_counted_and_not_drawn_again(lrm, built):
    counts = BuildCounts()
    sampler = OnPolicySampler(lrm, seed=1, max_new_tokens=6)
    (pair,) = add_prior_traces(sampler, built[0][:1], 4, counts=counts)
    assert pair.prior_traces == ()
    assert (counts.prior_completions, counts.prior_unclosed) == (4, 4)


def test_a_closed_trace_counts_even_if_its_answer_never_ends(lrm, built):
    """Catches prior traces that are kept or not by what follows them, which conditions them on the answer."""
    pair = built[0][0]
    (whole,) = OnPolicySampler(lrm, seed=1).traces([(pair.prompt_id, pair.prompt, "prior", 0)])
    tokens = len(lrm.assembler.encode(lrm.assembler.format.open + whole + lrm.assembler.format.close)) + 1
    request = [(pair.prompt_id, pair.prompt, "prior", 0)]
    short = OnPolicySampler(lrm, seed=1, max_new_tokens=tokens)
    assert short.thinking(request) == [None]
    assert short.traces(request) == [whole]


def test_no_further_traces_cost_nothing(lrm, built):
    counts = BuildCounts()
    kept = add_posterior_traces(OnPolicySampler(lrm), built[0], 0, counts=counts)
    assert counts == BuildCounts()
    assert [p.chosen_traces for p in kept] == [()] * len(kept)


@pytest.mark.slow
def test_rejection_draws_from_the_enumerated_posterior(lrm):
    """Chi-square of 240 kept traces per answer against pi(r | x, y) by enumeration.

    False-alarm rate 1e-4 per side (one seeded draw). The power gate: traces of the other answer, or traces kept
    whatever the answer, would have an expected statistic far beyond the critical value.
    """
    text, n = "a3b7c2d9", 240
    prompt = ({"role": "user", "content": text},)
    answers = ("1b.", "1c sure.")
    pair = PreferencePair("chi", prompt, Completion(answers[0], ""), Completion(answers[1], ""), "1b.", "1c.")
    (kept,) = add_posterior_traces(OnPolicySampler(lrm, seed=3), [pair], n, per_round=512)
    traces = enumerate_traces(text)
    joint, prior = [], None
    for answer in answers:
        parts = sequence_log_probs(lrm.model, [lrm.assembler.with_trace(prompt, t, answer) for t in traces])
        joint.append(torch.exp(parts[0] + parts[1]).numpy())
        prior = torch.exp(parts[0]).numpy() / torch.exp(parts[0]).numpy().sum()
    posterior = [p / p.sum() for p in joint]
    for side, drawn in enumerate((kept.chosen_traces, kept.rejected_traces)):
        assert len(drawn) == n
        big = n * posterior[side] >= 5  # the rest is one cell, with the traces outside the enumeration
        assert big.sum() >= 5

        def cells(weights, big=big):
            return np.append(weights[big], max(1 - weights[big].sum(), 0))

        observed = cells(np.array([drawn.count(t) for t in traces]) / n) * n
        expected = np.maximum(cells(posterior[side]) * n, 0.5)
        critical = stats.chi2.isf(1e-4, df=len(expected) - 1)
        for wrong in (prior, posterior[1 - side]):
            assert ((n * cells(wrong) - expected) ** 2 / expected).sum() > 3 * critical
        assert ((observed - expected) ** 2 / expected).sum() < critical
