"""The committed weights, tokenizer, evaluation and card of the LRM in the box, and the command that makes
them."""

import dataclasses
import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from bvpo_analysis.lrm.shipped import MODEL_DIR, train
from bvpo_analysis.lrm.shipped.evaluation import (
    GATES,
    Evaluation,
    GateError,
    Measurement,
    evaluate,
    trace_log_probs,
)
from bvpo_analysis.lrm.shipped.model_card import render_model_card
from bvpo_analysis.lrm.shipped.task import ENDINGS, Row, enumerate_traces, sample_problem, sample_row
from bvpo_analysis.lrm.shipped.tokenizer import VOCABULARY, build_tokenizer, prompt_text
from bvpo_analysis.lrm.shipped.train import IGNORE, Recipe, Stage, encode_rows, train_model

RENDERED = "<|user|>a3b7c2d9<|assistant|><think>c2=2 a3=5 d9=4 b7=1</think>1b sure.<|end|>"
USER = {"role": "user", "content": "a3b7c2d9"}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def committed():
    return json.loads((MODEL_DIR / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def remeasured(model, tokenizer):
    """The evaluation repeated on a small sample of other prompts."""
    return evaluate(model, tokenizer, seed=2026, samples=800, exact_prompts=40)


# --- the model directory ---------------------------------------------------------------------------------


def test_the_directory_is_a_small_plain_qwen3_model(model):
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.dtype == torch.float32
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(file.stat().st_size for file in MODEL_DIR.iterdir()) < 4e6


def test_importing_the_package_and_its_task_needs_no_torch():
    code = (
        "import sys, bvpo_analysis.lrm.shipped, bvpo_analysis.lrm.shipped.task;"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- tokenizer and chat template -------------------------------------------------------------------------


def test_the_committed_tokenizer_is_the_one_the_code_builds(tokenizer):
    built = build_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab() == {token: i for i, token in enumerate(VOCABULARY)}
    assert tokenizer.chat_template == built.chat_template
    assert json.loads((MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8")) == json.loads(
        built.backend_tokenizer.to_str()
    )
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|end|>")


def test_text_round_trips_exactly_and_pieces_concatenate(tokenizer):
    rng = np.random.default_rng(4)
    for i in range(200):
        row = sample_row(rng, empty=i % 2 == 0)
        pieces = [
            prompt_text(row.prompt, empty=False), "<think>", row.trace, "</think>", row.answer, "<|end|>",
        ]  # fmt: skip
        ids = tokenizer("".join(pieces))["input_ids"]
        assert tokenizer.decode(ids) == "".join(pieces)
        assert list(itertools.chain(*tokenizer(pieces)["input_ids"])) == ids
        assert len(tokenizer(row.trace)["input_ids"]) == len(row.trace)


def test_style_words_are_single_tokens(tokenizer):
    assert [len(tokenizer("1b" + ending)["input_ids"]) for ending in ENDINGS] == [3, 4, 4, 3]


def test_characters_outside_the_alphabet_raise(tokenizer):
    for text in ("hello", "a3b7c2z9", "A", "é"):
        with pytest.raises(Exception, match="Missing"):
            tokenizer(text)


def test_the_tokenizer_file_loads_without_transformers():
    core = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    assert core.decode(core.encode(RENDERED).ids, skip_special_tokens=False) == RENDERED


def test_the_chat_template_renders_every_form(tokenizer):
    def render(messages, **options):
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        ids = tokenizer.apply_chat_template(messages, **options)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        return text

    answer = {"role": "assistant", "content": "1b sure."}
    trace = "c2=2 a3=5 d9=4 b7=1"
    assert render([USER, {**answer, "reasoning_content": trace}]) == RENDERED
    assert render([USER, {"role": "assistant", "content": f"<think>{trace}</think>1b sure."}]) == RENDERED
    empty = "<|user|>a3b7c2d9<|assistant|><think></think>1b sure.<|end|>"
    for content in (None, ""):
        assert render([USER, {**answer, "reasoning_content": content}]) == empty
    assert render([USER, answer]) == empty
    for thinking in (True, False):
        opened = render([USER], add_generation_prompt=True, enable_thinking=thinking)
        assert opened == prompt_text("a3b7c2d9", empty=not thinking)
    assert render([USER], add_generation_prompt=True) == prompt_text("a3b7c2d9", empty=False)
    with pytest.raises(Exception, match="roles are"):
        render([{"role": "system", "content": "1"}, USER])


# --- what the weights can do -----------------------------------------------------------------------------


def test_the_committed_evaluation_is_within_every_gate(committed):
    measurements = {name: Measurement(**m) for name, m in committed["measurements"].items()}
    evaluation = Evaluation(measurements, committed["answer_counts"])
    assert evaluation.failures() == []
    assert set(measurements) == set(GATES)
    assert all(m.n >= 1_000 for m in measurements.values())


@pytest.mark.parametrize("name", GATES)
def test_a_fresh_sample_agrees_with_the_committed_evaluation(name, committed, remeasured):
    """Both numbers differ by less than 4 SE, where the SE of a share is taken from its Wilson interval."""
    new, old = remeasured.measurements[name], Measurement(**committed["measurements"][name])
    se = math.hypot(*((m.ci_high - m.ci_low) / (2 * 1.96) for m in (new, old)))
    assert abs(new.value - old.value) < 4 * se


def test_a_fresh_sample_contradicts_no_gate(remeasured):
    for name, gate in GATES.items():
        m = remeasured.measurements[name]
        assert m.ci_high >= gate.low, name
        assert m.ci_low <= gate.high, name
    assert all(min(counts.values()) > 0 for counts in remeasured.answer_counts.values())


def test_enumerated_traces_carry_the_prior_mass_by_token_by_token_scoring(model, tokenizer):
    """An independent scorer: one trace at a time, padded on the right, piece by piece."""
    problem = sample_problem(np.random.default_rng(9))
    fast = trace_log_probs(model, tokenizer, [problem])[0]
    prompt = tokenizer(prompt_text(problem.text, empty=False))["input_ids"]
    slow = []
    for trace in enumerate_traces(problem):
        target = list(itertools.chain(*tokenizer(["<think>", trace, "</think>"])["input_ids"]))
        ids = torch.tensor([prompt + target + [tokenizer.pad_token_id] * 3])
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0].double().log_softmax(-1)
        slow.append(sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(target)))
    np.testing.assert_allclose(fast, slow, rtol=1e-4)
    assert 0.98 < np.exp(slow).sum() < 1


def test_the_model_card_shows_the_committed_evaluation(committed):
    assert (MODEL_DIR / "README.md").read_text(encoding="utf-8") == render_model_card(committed)


# --- training --------------------------------------------------------------------------------------------


def test_loss_covers_the_right_tokens(tokenizer):
    trace = "c2=2 a3=5 d9=4 b7=1"
    ids, labels = encode_rows(tokenizer, [Row("a3b7c2d9", trace, "1b sure."), Row("a3b7c2d9", "", "1b ok!")])
    trained = [tokenizer.decode(row[row != IGNORE]) for row in labels]
    assert trained == [f"<think>{trace}</think>1b sure.<|end|>", "1b ok!<|end|>"]
    assert torch.equal(ids[labels != IGNORE], labels[labels != IGNORE])
    assert tokenizer.decode(ids[1], skip_special_tokens=False).startswith(
        "<|user|>a3b7c2d9<|assistant|><think></think>"
    )


def test_training_is_a_function_of_the_seed():
    recipe = Recipe(hidden_size=32, feed_forward=32, layers=1, batch_size=8, stages=(Stage(4, 1e-2, 1),))
    (first, losses), (second, again), (_, other) = (train_model(recipe, s, progress=False) for s in (0, 0, 1))
    assert losses == again != other
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.slow
def test_loss_falls():
    recipe = dataclasses.replace(Recipe(), stages=(Stage(60, 4e-3, 10),))
    _, losses = train_model(recipe, 0, progress=False)
    assert losses[0] > 3
    assert np.mean(losses[-5:]) < 1.3


def test_written_models_load_and_replace_the_old_directory_whole(tmp_path, committed):
    recipe = Recipe(hidden_size=32, feed_forward=32, layers=1)
    model = train.build_model(recipe, 0)
    measurements = {name: Measurement(**m) for name, m in committed["measurements"].items()}
    output = tmp_path / "new" / "lrm"
    for stale in (False, True):
        if stale:
            (output / "stale.txt").write_text("left by an older run")
        train.write_model(output, model, recipe, 0, Evaluation(measurements, committed["answer_counts"]), 1.0)
        assert [path.name for path in output.parent.iterdir()] == ["lrm"]
        assert {file.name for file in output.iterdir()} == {file.name for file in MODEL_DIR.iterdir()}
    loaded = AutoModelForCausalLM.from_pretrained(output)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(output).decode([1]) == "<|user|>"


def test_a_model_that_fails_a_gate_is_not_written(tmp_path, monkeypatch, capsys, committed):
    measurements = {name: Measurement(**m) for name, m in committed["measurements"].items()}
    measurements["coverage_wrong"] = Measurement.of_share([True] * 5 + [False] * 95)
    bad = Evaluation(measurements, committed["answer_counts"])
    with pytest.raises(GateError, match=r"coverage_wrong = 0\.0500"):
        bad.require()
    monkeypatch.setattr(train, "train_model", lambda recipe, seed: (None, []))
    monkeypatch.setattr(train, "evaluate", lambda model, tokenizer, seed: bad)
    assert train.main(["--output", str(tmp_path / "lrm")]) == 1
    assert "coverage_wrong" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_never_occurs_or_was_never_measured_fails(committed):
    measurements = {name: Measurement(**m) for name, m in committed["measurements"].items()}
    measurements["coverage_wrong"] = Measurement.of_share([])
    counts = {**committed["answer_counts"], "endings_empty": {".": 3, "!": 0}}
    failures = Evaluation(measurements, counts).failures()
    assert len(failures) == 2
    assert failures[1] == "endings_empty: '!' never occurs"


def test_a_directory_with_content_is_not_overwritten_unasked(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("")
    assert train.main(["--output", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
