"""Training files: the share is alpha, the mean of the rows is the mixed gradient, and the text is what is scored."""

import json
from dataclasses import replace

import numpy as np
import pytest
from families import family_model, family_options, family_pairs
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences import shipped_pairs, write_pairs
from bvpo_analysis.preferences.__main__ import main
from bvpo_analysis.preferences.export import METHODS, mixed_rows, trl_row
from bvpo_analysis.preferences.shipped import pairs_path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.0, 0.03, 0.25, 0.415, 0.5, 0.8, 1.0])
def test_the_share_is_alpha_and_no_pair_is_favoured(alpha, method):
    pairs = 50
    rows = mixed_rows(pairs, alpha, method=method, seed=3)
    assert abs(rows.share - alpha) <= 0.5 / len(rows.pair)
    per_kind = {kind: np.bincount([i for i, t in zip(rows.pair, rows.thinking, strict=True) if t == kind],
                                  minlength=pairs) for kind in (True, False)}  # fmt: skip
    for kind, share in ((True, alpha), (False, 1 - alpha)):
        counts = per_kind[kind]
        assert counts.max() - counts.min() <= 1  # complete, a sample of it, or whole copies and a sample
        larger = share >= 0.5
        if share == 0:
            assert counts.sum() == 0
        elif (method == "thin") == larger:
            assert set(counts) == {1}
    assert mixed_rows(pairs, alpha, method=method, seed=3) == rows


@pytest.mark.parametrize("method", METHODS)
def test_every_pair_has_the_same_chance(method):
    pairs, seeds = 10, 4000
    extra = np.zeros(pairs)
    for seed in range(seeds):
        rows = mixed_rows(pairs, 0.3, method=method, seed=seed)
        rarer = method == "thin"  # the sampled kind: trace-based rows when thinning, empty ones when repeating
        extra += np.bincount([i for i, t in zip(rows.pair, rows.thinking, strict=True) if t == rarer], minlength=pairs)
    # thin: round(10 * 3 / 7) = 4 of 10; repeat: round(10 * 7 / 3) = 23, so 2 copies of each and 3 more.
    expected = 0.4 if method == "thin" else 2.3
    chance = expected % 1
    se = np.sqrt(chance * (1 - chance) / seeds)
    assert np.abs(extra / seeds - expected).max() < 5 * se  # false alarm rate 6e-6


def test_the_mean_row_is_the_mixed_gradient_and_its_variance_exceeds_by_the_stated_term():
    rng = np.random.default_rng(0)
    pairs, alpha = 40, 0.25
    g_t, g_e = rng.normal(size=(pairs, 6)), rng.normal(0.4, 0.5, size=(pairs, 6))
    rows = mixed_rows(pairs, alpha, method="repeat")
    drawn = np.array([(g_t if t else g_e)[i] for i, t in zip(rows.pair, rows.thinking, strict=True)])
    mixed = alpha * g_t + (1 - alpha) * g_e
    np.testing.assert_allclose(drawn.mean(axis=0), mixed.mean(axis=0), rtol=1e-12)
    excess = ((drawn - drawn.mean(0)) ** 2).sum(1).mean() - ((mixed - mixed.mean(0)) ** 2).sum(1).mean()
    assert excess == pytest.approx(alpha * (1 - alpha) * ((g_t - g_e) ** 2).sum(1).mean(), rel=1e-9)


def test_orders_differ_between_seeds():
    assert mixed_rows(20, 0.5, seed=1).pair != mixed_rows(20, 0.5, seed=2).pair


@pytest.mark.parametrize(
    ("alpha", "options", "says"),
    [
        (-0.1, {}, "--alpha must be between 0 and 1, got -0.1"),
        (1.5, {}, "--alpha must be between 0 and 1"),
        (float("nan"), {}, "--alpha must be between 0 and 1, got nan"),
        (0.5, {"method": "weigh"}, "--method must be one of thin, repeat, got 'weigh'"),
        (0.001, {"method": "repeat"}, "needs more than 100 copies of each pair; use --method thin"),
    ],
)
def test_impossible_shares_are_refused(alpha, options, says):
    with pytest.raises(InputError, match=says):
        mixed_rows(10, alpha, **options)
    with pytest.raises(InputError, match="no pairs to export"):
        mixed_rows(0, 0.5)


def test_the_text_of_a_row_encodes_to_what_is_scored(lrm):
    for pair in shipped_pairs("correct", limit=8):
        for thinking in (True, False):
            row = trl_row(lrm, pair, thinking=thinking)
            assert row.same_tokens
            for side, text in enumerate((row.chosen, row.rejected)):
                if thinking:
                    sequence = lrm.assembler.with_trace(pair.prompt, pair.traces(side)[0], pair.answer(side))
                else:
                    sequence = lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side))
                encoded = [lrm.tokenizer(part)["input_ids"] for part in (row.prompt, row.prompt + text)]
                # A trainer tokenises prompt with completion and appends the end-of-sequence token.
                assert (*encoded[1], lrm.tokenizer.eos_token_id) == sequence.ids
                assert len(encoded[0]) == sequence.score_start


def test_a_row_that_a_trainer_would_spell_otherwise_is_noticed(tmp_path):
    folder = family_model("qwen3", tmp_path / "model")
    lrm = load_model(folder, **family_options("qwen3", folder))
    (pair,) = family_pairs(1)
    assert trl_row(lrm, pair, thinking=True).same_tokens
    # A token across the border of trace and closing tag exists only where both are read together.
    lrm.tokenizer.add_tokens([AddedToken("24.\n", normalized=False)])
    assert pair.chosen.trace.endswith("24.")
    assert not trl_row(lrm, pair, thinking=True).same_tokens
    assert trl_row(lrm, pair, thinking=False).same_tokens


def test_the_token_that_begins_a_sequence_is_not_written_twice(tmp_path):
    folder = family_model("llama", tmp_path / "model")
    lrm = load_model(folder, **family_options("llama", folder))
    (pair,) = family_pairs(1)
    begin = lrm.tokenizer.bos_token
    assert trl_row(lrm, pair, thinking=True).prompt.startswith(begin)  # this tokenizer adds none
    lrm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, lrm.tokenizer.bos_token_id)]
    )
    row = trl_row(lrm, pair, thinking=True)
    assert not row.prompt.startswith(begin)
    assert lrm.tokenizer(row.prompt)["input_ids"] == list(lrm.assembler.prompt(pair.prompt))
    assert row.same_tokens


@pytest.mark.parametrize("family", ["r1_distill_qwen", "glm"])
def test_templates_that_delete_traces_or_end_turns_their_own_way_are_served(family, tmp_path):
    folder = family_model(family, tmp_path / family)
    lrm = load_model(folder, **family_options(family, folder))
    (pair,) = family_pairs(1)
    row = trl_row(lrm, pair, thinking=True)
    assert pair.chosen.trace in row.chosen
    assert row.chosen.index("</think>") > row.chosen.index(pair.chosen.trace)
    end = "" if lrm.assembler.end_id == lrm.tokenizer.eos_token_id else lrm.assembler.format.end
    assert row.chosen.endswith(pair.chosen.answer + end)
    assert bool(end) == (family == "glm")
    assert row.prompt == lrm.assembler.decode(lrm.assembler.prompt(pair.prompt))
    empty = trl_row(lrm, pair, thinking=False)
    assert (empty.chosen, empty.rejected) == (pair.empty_chosen + end, pair.empty_rejected + end)
    assert "</think>" in empty.prompt


def test_the_command_writes_a_file_with_three_columns(tmp_path, capsys):
    output = tmp_path / "mixed.jsonl"
    argv = ["export-trl", str(pairs_path("correct")), "--alpha", "0.415", "--output", str(output), "--seed", "5"]
    assert main(argv) == 0
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    thinking = [row["prompt"].endswith("<|assistant|>") for row in rows]
    assert len(rows) == 256 + round(256 * 0.415 / 0.585) == 438
    assert sum(thinking) == 182
    assert capsys.readouterr().out == (
        f"{output}: 438 rows, 182 trace-based and 256 with an empty trace: share 0.4155 for alpha 0.415\n"
    )
    assert all(set(row) == {"prompt", "chosen", "rejected"} for row in rows)
    assert all(row["chosen"].startswith("<think>") == t for row, t in zip(rows, thinking, strict=True))
    before = output.read_bytes()
    assert main([*argv, "--overwrite"]) == 0
    assert output.read_bytes() == before


def test_copied_answers_are_mentioned(tmp_path, capsys):
    pairs = [replace(p, empty_answers="copied") for p in shipped_pairs("style", limit=4)]
    write_pairs(tmp_path / "p.jsonl", pairs)
    assert main(["export-trl", str(tmp_path / "p.jsonl"), "--alpha", "0.5", "--output", str(tmp_path / "o")]) == 0
    assert "4 pairs have no answers of their own for the empty trace" in capsys.readouterr().out
