"""The pairs in the box: every row obeys the rule of its regime and comes from the model in the box."""

import json
from dataclasses import replace

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.shipped.task import (
    is_correct_trace,
    is_right,
    last_letter,
    parse_answer,
    parse_problem,
    style_reward,
    value_reward,
)
from bvpo_analysis.preferences import REGIMES, pair_to_row, read_pairs, shipped_pairs, write_pairs
from bvpo_analysis.preferences.on_policy import OnPolicySampler, add_prior_traces
from bvpo_analysis.preferences.shipped import DIRECTORY, pairs_path
from bvpo_analysis.preferences.shipped import build as build_command
from bvpo_analysis.preferences.shipped.build import posterior_coverage

PAIRS = 256


@pytest.fixture(scope="module", params=REGIMES)
def regime(request):
    return request.param


@pytest.fixture(scope="module")
def pairs(regime):
    return shipped_pairs(regime)


@pytest.fixture(scope="module")
def provenance(regime):
    return json.loads((DIRECTORY / f"{regime}.provenance.json").read_text(encoding="utf-8"))


def answers_of(pair):
    """(better, worse) with thinking, and without."""
    return (pair.answer(0), pair.answer(1)), (pair.empty_answer(0), pair.empty_answer(1))


def test_256_pairs_with_own_empty_answers_three_further_traces_and_seven_prior_traces(pairs):
    assert len(pairs) == PAIRS
    for pair in pairs:
        assert pair.empty_answers == "own"
        assert len(pair.chosen_traces) == len(pair.rejected_traces) == 3
        assert len(pair.prior_traces) == 7
        assert len(pair.prompt) == 1
        assert pair.prompt[0]["role"] == "user"
        parse_problem(pair.prompt[0]["content"])


def test_no_prompt_appears_twice(pairs):
    assert len({pair.prompt_id for pair in pairs}) == PAIRS
    assert len({pair.prompt[0]["content"] for pair in pairs}) == PAIRS


def test_regimes_use_different_prompts():
    texts = [{pair.prompt[0]["content"] for pair in shipped_pairs(regime)} for regime in REGIMES]
    assert sum(map(len, texts)) - len(set.union(*texts)) <= 3  # chance alone: 768 of 5 040 x 10^4 prompts


def test_every_row_obeys_the_rule_of_its_regime(regime, pairs):
    for pair in pairs:
        prompt = pair.prompt[0]["content"]
        for better, worse in answers_of(pair):
            high, low = parse_answer(better), parse_answer(worse)
            assert high is not None
            assert low is not None
            if regime == "style":
                assert (high.digit, high.letter) == (low.digit, low.letter)
                assert style_reward(prompt, better) > style_reward(prompt, worse)
            elif regime == "valid":
                assert is_right(prompt, better)
                assert is_right(prompt, worse)
                assert value_reward(prompt, better) > value_reward(prompt, worse)
            else:
                assert is_right(prompt, better)
                assert not is_right(prompt, worse)


def test_scores_are_the_rewards_of_the_answers(regime, pairs):
    reward = {"style": style_reward, "valid": value_reward, "correct": lambda p, a: float(is_right(p, a))}[regime]
    for pair in pairs:
        prompt = pair.prompt[0]["content"]
        assert (pair.score_chosen, pair.score_rejected) == tuple(reward(prompt, pair.answer(s)) for s in (0, 1))
        assert pair.score_chosen > pair.score_rejected


def test_traces_fit_the_letter_of_their_answer(pairs):
    """A trace put on the wrong side would show: the letter of an answer is the one its trace visited last."""
    agree = [
        last_letter(trace) == parse_answer(pair.answer(side)).letter
        for pair in pairs
        for side in (0, 1)
        for trace in pair.traces(side)
        if is_correct_trace(pair.prompt[0]["content"], trace)
    ]
    assert sum(agree) >= 0.995 * len(agree)


def test_the_posterior_of_every_answer_is_covered_by_the_enumeration(pairs, provenance):
    coverage = posterior_coverage(pairs)
    assert coverage["traces"] == 2 * 4 * PAIRS
    assert min(coverage["value_chosen"], coverage["value_rejected"]) - 3 * coverage["se"] >= 0.95
    assert coverage == pytest.approx(provenance["posterior_coverage"], rel=1e-12)


def test_provenance_is_that_of_the_model_in_the_box(regime, pairs, provenance, lrm):
    assert provenance["model"] == lrm.fingerprint
    assert provenance["pairs"] == PAIRS
    assert {pair.meta["policy"] for pair in pairs} == {lrm.fingerprint}
    assert {pair.meta["temperature"] for pair in pairs} == {1.0}
    assert {pair.meta["reward"] for pair in pairs} == {regime}
    assert {pair.meta["trace_source"] for pair in pairs} == {"posterior"}
    assert {pair.meta["seed"] for pair in pairs} == {provenance["seed"]}


def test_counts_explain_every_prompt(provenance):
    counts = provenance["counts"]
    dropped = counts["no_pair"] + counts["no_empty_pair"] + counts["no_traces"]
    surplus = counts["prompts"] - dropped - provenance["pairs"]
    assert 0 <= surplus < 256  # pairs of the last round beyond the 256 that were kept
    assert counts["completions"] == 5 * counts["prompts"]
    assert counts["unclosed"] <= 0.001 * counts["completions"]


def test_prior_traces_were_drawn_without_sight_of_the_answers(pairs, provenance):
    """Catches posterior traces among them: of four letters one is the answer's, in a quarter of the prior traces.

    Posterior traces end in the answer's letter nearly always. Of 1 792 prior traces about a quarter do; chance alone
    leaves (0.15, 0.35) with a probability below 1e-9.
    """
    counts = provenance["counts"]
    assert counts["prior_completions"] == 7 * PAIRS
    assert sum(len(pair.prior_traces) for pair in pairs) == counts["prior_completions"] - counts["prior_unclosed"]
    drawn = [(pair, trace) for pair in pairs for trace in pair.prior_traces]
    assert sum(is_correct_trace(p.prompt[0]["content"], t) for p, t in drawn) >= 0.99 * len(drawn)
    for side in (0, 1):
        share = sum(last_letter(t) == parse_answer(p.answer(side)).letter for p, t in drawn) / len(drawn)
        assert 0.15 < share < 0.35
    # Fresh draws: no more often equal to the generating trace than another prior trace is.
    first = sum(p.prior_traces[0] == p.chosen.trace for p in pairs)
    second = sum(p.prior_traces[0] == p.prior_traces[1] for p in pairs)
    assert max(first, second) < 0.2 * PAIRS


def test_prior_traces_are_those_of_their_seeds(regime, pairs, lrm):
    """Catches rows whose prior traces came from another seed, prompt, purpose or order."""
    bare = [replace(pair, prior_traces=()) for pair in pairs[:6]]
    assert add_prior_traces(OnPolicySampler(lrm, seed=0), bare, 7) == list(pairs[:6])


def test_every_sequence_survives_the_round_trip_through_the_chat_template(pairs, lrm):
    for pair in pairs[::16]:
        for side in (0, 1):
            for trace in pair.traces(side):
                lrm.assembler.check_round_trip(pair.prompt, trace, pair.answer(side))


def test_files_are_in_the_form_that_the_writer_writes(regime, pairs):
    lines = pairs_path(regime).read_text(encoding="utf-8").splitlines()
    assert lines == [json.dumps(pair_to_row(pair), ensure_ascii=False) for pair in pairs]


@pytest.mark.slow
def test_a_whole_build_and_renewed_prior_traces_give_the_same_files(tmp_path):
    """Catches prior traces that depend on the rest of the build, and a renewal that touches anything else."""
    arguments = ["--output-dir", str(tmp_path), "--regime", "style", "--pairs", "4"]
    assert build_command.main([*arguments, "--further", "1"]) == 0
    names = ("style.jsonl", "style.provenance.json")
    whole = [(tmp_path / name).read_bytes() for name in names]
    bare = tmp_path / "style.jsonl"
    write_pairs(bare, [replace(pair, prior_traces=()) for pair in read_pairs(bare)])
    assert build_command.main([*arguments, "--prior-only"]) == 0
    assert [(tmp_path / name).read_bytes() for name in names] == whole


def test_rows_of_another_seed_are_not_renewed(tmp_path, capsys):
    for name in ("valid.jsonl", "valid.provenance.json"):
        (tmp_path / name).write_bytes((DIRECTORY / name).read_bytes())
    before = (tmp_path / "valid.jsonl").read_bytes()
    arguments = ["--output-dir", str(tmp_path), "--regime", "valid", "--prior-only", "--seed", "1"]
    assert build_command.main(arguments) == 2
    assert "rows of another model or seed" in capsys.readouterr().err
    assert (tmp_path / "valid.jsonl").read_bytes() == before


def test_limit_and_unknown_regime():
    assert shipped_pairs("valid", limit=3) == shipped_pairs("valid")[:3]
    with pytest.raises(InputError, match="unknown regime 'vaild'; choose among style, valid, correct"):
        shipped_pairs("vaild")
