"""Every family from a saved model to moments: load, assemble, score by every engine, sample, study, report."""

import json

import numpy as np
import pytest
import torch
from families import FAMILIES, FURTHER, family_model, family_options, family_pairs

from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Trace, totals_of
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.sampling import row_seed, sample_completions
from bvpo_analysis.moments import population_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences import write_pairs
from bvpo_analysis.scores import HooksEngine, LoopEngine, VmapEngine, score_pairs, sequence_log_probs

CUT = {"r1_distill_qwen", "r1_model_opens", "qwq", "nemotron", "gemma4", "deepseek_v31"}
"""Families whose templates cut the trace from a completed turn."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(name, loaded model) of each family in turn."""
    folder = family_model(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, load_model(folder, **family_options(request.param, folder))


def every_turn(pairs):
    return [(p.prompt, trace, p.answer(side)) for p in pairs for side in (0, 1) for trace in p.traces(side)]


def sequences_of(lrm, pairs):
    found = [lrm.assembler.with_trace(*turn) for turn in every_turn(pairs)]
    return found + [
        lrm.assembler.with_empty_trace(p.prompt, p.empty_answer(0), mode)
        for p in pairs
        for mode in ("prefilled", "generated")
    ]


def test_turns_are_assembled_and_read_back(family):
    name, lrm = family
    assembler = lrm.assembler
    for prompt, trace, answer in every_turn(family_pairs(3, 2)):
        assert assembler.check_round_trip(prompt, trace, answer) == ("cut" if name in CUT else "same")
        sequence = assembler.with_trace(prompt, trace, answer)
        turn = assembler.read(sequence.ids[sequence.score_start :])
        assert (turn.trace, turn.answer, turn.canonical, turn.complete) == (trace, answer, True, True)
        assert assembler.decode(sequence.ids[sequence.answer_start :]) == answer + assembler.format.end
        assert sequence.ids[: sequence.score_start] == assembler.prompt(prompt)
        assert sum(token in assembler.stop_ids for token in sequence.ids[sequence.score_start :]) == 1
        alone = assembler.trace_only(prompt, trace)
        assert alone.ids == sequence.ids[: sequence.answer_start]
    prefilled = assembler.with_empty_trace(prompt, "56!")
    generated = assembler.with_empty_trace(prompt, "56!", "generated")
    assert assembler.decode(prefilled.ids[prefilled.score_start :]) == "56!" + assembler.format.end
    assert prefilled.ids[: prefilled.score_start] == assembler.prompt(prompt, empty=True)
    assert assembler.decode(generated.ids[generated.score_start :]) == (
        assembler.format.empty + "56!" + assembler.format.end
    )
    read = assembler.read_answer(prefilled.ids[prefilled.score_start :])
    assert (read.answer, read.canonical) == ("56!", True)


def test_the_whole_turn_is_what_the_tokenizer_makes_of_its_text(family):
    """Only where trace and answer meet may the tokens differ from those of the whole text."""
    _, lrm = family
    prompt, trace, answer = every_turn(family_pairs(1))[0]
    sequence = lrm.assembler.with_trace(prompt, trace, answer)
    given = lrm.assembler.decode(sequence.ids[: sequence.answer_start])
    assert lrm.assembler.encode(given) == sequence.ids[: sequence.answer_start]


def test_engines_agree(family):
    """Hooks and vmap against the loop, each parameter to 1e-5 of its size."""
    _, lrm = family
    sequences = sequences_of(lrm, family_pairs(2))
    oracle = LoopEngine(lrm.model)
    expected = oracle.buffer(len(sequences))
    log_probs = oracle.fill(sequences, expected)
    plain = sequence_log_probs(lrm.model, sequences)
    torch.testing.assert_close(plain[0] + plain[1], log_probs[0] + log_probs[1], rtol=1e-5, atol=1e-5)
    for kind in (HooksEngine, VmapEngine):
        engine = kind(lrm.model)
        rows = engine.buffer(len(sequences)).fill_(torch.nan)
        parts = engine.fill(sequences, rows)
        torch.testing.assert_close(parts, log_probs, rtol=1e-5, atol=1e-5)
        for name, place in engine.places().items():
            distance = (rows[:, place] - expected[:, place]).norm()
            # Gradients that vanish identically, as of a bias of keys, are rounding errors in every engine.
            assert distance <= 1e-5 * expected[:, place].norm() + 1e-8 * expected.norm(), (engine.name, name)
    assert HooksEngine(lrm.model).fallback is None


@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER)
def test_further_architectures(name, tmp_path):
    """Experts, convolutions and linear attention: every engine is right, whether or not the hooks serve."""
    lrm = load_model(family_model(name, tmp_path), **family_options(name, tmp_path))
    sequences = sequences_of(lrm, family_pairs(2))
    rows = {}
    for kind in (LoopEngine, HooksEngine, VmapEngine):
        engine = kind(lrm.model)
        rows[engine.name] = engine.buffer(len(sequences)).fill_(torch.nan)
        engine.fill(sequences, rows[engine.name])
    for engine in ("hooks", "vmap"):
        assert (rows[engine] - rows["loop"]).norm() <= 1e-5 * rows["loop"].norm()
    prompts = [lrm.assembler.prompt(p.prompt) for p in family_pairs(2)]
    prompts[1] = prompts[1] + lrm.assembler.encode("It is a longer prompt than the other. ")
    options = {"max_new_tokens": 8, "eos_id": lrm.assembler.stop_ids, "pad_id": lrm.assembler.pad_id}
    together = sample_completions(lrm.model, prompts, [1, 2], **options)
    assert [
        sample_completions(lrm.model, [p], [s], **options)[0] for p, s in zip(prompts, (1, 2), strict=True)
    ] == together


def test_a_sampled_row_does_not_depend_on_its_batch(family):
    """Prompts of several lengths are filled up on the left; alone, each gives the same tokens."""
    name, lrm = family
    assembler = lrm.assembler
    prompts = [assembler.prompt(p.prompt, empty=i % 2 == 1) for i, p in enumerate(family_pairs(5))]
    prompts[3] = prompts[3] + assembler.encode("It is a longer prompt than the others. ")
    assert len({len(ids) for ids in prompts}) > 1
    seeds = [row_seed(0, name, "think", i) for i in range(len(prompts))]
    options = {"max_new_tokens": 10, "eos_id": assembler.stop_ids, "pad_id": assembler.pad_id}
    together = sample_completions(lrm.model, prompts, seeds, **options)
    assert len({tuple(row) for row in together}) == len(together)
    for row, ids, seed in zip(together, prompts, seeds, strict=True):
        assert sample_completions(lrm.model, [ids], [seed], **options) == [row]
        assert all(token not in assembler.stop_ids for token in row[:-1])


def test_sampled_tokens_have_the_recomputed_log_probabilities(family):
    """The chance of a sampled first token under the prompt is what the sequence scorer says, padding or not."""
    _, lrm = family
    prompt = family_pairs(1)[0].prompt
    sequence = lrm.assembler.with_trace(prompt, "56", "56")
    with torch.no_grad():
        logits = lrm.model(torch.tensor([sequence.ids])).logits[0].double().log_softmax(-1)
    token = logits[:-1].gather(-1, torch.tensor(sequence.ids[1:])[:, None]).squeeze(-1)
    cut = [sequence.score_start - 1, sequence.answer_start - 1]
    trace, answer = sequence_log_probs(lrm.model, [sequence, *sequences_of(lrm, family_pairs(1))])
    assert trace[0].item() == pytest.approx(token[cut[0] : cut[1]].sum().item(), rel=1e-5)
    assert answer[0].item() == pytest.approx(token[cut[1] :].sum().item(), rel=1e-5)


def test_moments_do_not_depend_on_the_engine(family):
    _, lrm = family
    pairs = family_pairs(4, traces=2)
    estimators = Trace(DPO()), EmptyTrace(DPO())
    totals = totals_of(*estimators)
    fast, slow = (
        population_moments(score_pairs(lrm, pairs, traces=2, totals=totals, engine=engine), *estimators)
        for engine in ("auto", "loop")
    )
    assert min(slow.var_t[0], slow.var_diff[0], slow.trace_var[0]) > 0
    for name in ("var_t", "var_diff", "trace_var", "bias_e_sq"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-4, atol=1e-4 * slow.var_t[0])


def test_data_that_do_not_fit_are_refused(family):
    _, lrm = family
    prompt = family_pairs(1)[0].prompt
    closing = lrm.assembler.format.tags[-1]
    with pytest.raises(InputError, match=r"think tag .* inside the answer .*; give the trace and the answer apart"):
        lrm.assembler.check_round_trip(prompt, "t", f"so {closing} 56")
    with pytest.raises(InputError, match="inside the trace"):
        lrm.assembler.check_round_trip(prompt, f"so {closing} 56", "56")
    with pytest.raises(InputError, match=r"end-of-turn token .* inside the answer .*; cut the text before it"):
        lrm.assembler.check_round_trip(prompt, "t", f"56{lrm.assembler.format.end} and more")
    with pytest.raises(InputError, match=r"more than the model's context of 512; drop the row"):
        lrm.assembler.check_round_trip(prompt, "word " * 2000, "56")


@pytest.mark.slow
def test_the_report_runs_on_every_family(family, tmp_path):
    from bvpo_analysis.report.__main__ import main

    name, lrm = family
    data, folder = tmp_path / "pairs.jsonl", tmp_path / "run"
    write_pairs(data, family_pairs(8))
    options = [f"--{key.replace('_', '-')}={value}" for key, value in family_options(name, tmp_path).items()]
    code = main(
        [
            "--model",
            lrm.name,
            "--data",
            str(data),
            "--traces",
            "1",
            "--limit",
            "8",
            "--output-dir",
            str(folder),
            *options,
        ]
    )
    assert code == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["model"]["fingerprint"] == lrm.fingerprint
    assert results["data"]["pairs"] == 8
