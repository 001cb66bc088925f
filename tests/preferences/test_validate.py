"""Checking a file: everything wrong with it is found and counted, and the numbers are those of the rows."""

import json
from dataclasses import replace

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import pair_to_row, shipped_pairs, write_pairs
from bvpo_analysis.preferences.__main__ import main
from bvpo_analysis.preferences.recorded import log_prob
from bvpo_analysis.preferences.shipped import pairs_path
from bvpo_analysis.preferences.validate import Quantiles, validate
from bvpo_analysis.preferences.validation_text import validation_text
from bvpo_analysis.scores import sequence_log_probs


def messy_lines():
    """A file as it comes out of a pipeline that nobody looked at."""

    def row(number, chosen, rejected, **more):
        prompt = f"What is {number} times 7?"
        return json.dumps({"id": number, "prompt": prompt, "chosen": chosen, "rejected": rejected, **more})

    def thought(number, answer, **more):
        said = f"<think>\n{number} times 7 is {number} + {number} + ... seven times.\n</think>\n\n{answer}"
        return [{"role": "assistant", "content": said, **more}]

    good = [
        row(n, thought(n, f"{7 * n}"), thought(n, f"{7 * n + 1}"), score_chosen=1, score_rejected=0) for n in (2, 3)
    ]
    return [
        "\ufeff" + good[0],
        good[1] + "\r",
        "",
        row(4, "4 * 7: count on.</think>28", "<think>a guess</think>30", temperature=0.6),
        row(5, "<think>5 * 7 = 35, or is it? Let me count once mo", "<think>easy</think>35"),
        row(6, "42", "<think>six sevens</think>41"),
        row(7, "<think>a</think>49", "<think>b</think>49"),
        row(8, "<think>a</think>56", "<think>b</think>"),
        row(2, thought(2, "fourteen"), thought(2, "forty")),
        row(9, "<think>a</think>63", "<think>b</think>36", score_chosen=0.25, score_rejected=0.75, temperature=1),
        '{"prompt": "What is 10 times 7?", "chosen": "<think>ten sev',
        row(11, "<think>a</think>77", "<think>b</think>Is it <think>c</think> 78?"),
        row(12, 84, "<think>b</think>85"),
        row(13, "<think>a</think>91", "<think>b</think>92", score_chosen=float("nan")),
    ]


@pytest.fixture
def messy(tmp_path):
    path = tmp_path / "messy.jsonl"
    path.write_bytes("\n".join(messy_lines()).encode())
    return path


def test_everything_wrong_with_a_messy_file_is_found_and_counted(messy):
    found = validate(messy)
    assert (found.format, found.rows, found.pairs, found.usable) == ("trl", 13, 4, False)
    assert found.mistakes == {"malformed": 3, "repeated prompt": 1, "tags in answer": 1}
    assert found.dropped == {"unclosed trace": 1, "no trace": 1, "same answers": 1, "empty answer": 1}
    assert found.rows == found.pairs + sum(found.mistakes.values()) + sum(found.dropped.values())
    assert found.unclosed == 1 / 5
    assert (found.empty_own, found.posterior_traces, found.prior_traces, found.duplicate_prompts) == (0, 1, 0, 0)
    assert (found.margins.n, found.margins.minimum, found.margins.maximum) == (3, -0.5, 1.0)
    assert (found.reversed_scores, found.other_law, found.unknown_law) == (1, 1, 2)
    assert found.ignored == ("id",)
    assert found.trace_lengths.n == found.answer_lengths.n == 8
    assert found.trace_lengths.minimum == 1
    assert found.trace_lengths.maximum == len("2 times 7 is 2 + 2 + ... seven times.")
    places = [line.split(": ")[0].rsplit(":", 1)[1] for line in found.problems]
    assert places == ["9", "11", "12", "13", "14", "5", "6", "7", "8"]
    assert validate(messy, one_per_prompt=True).dropped["repeated prompt"] == 1


def test_the_command_prints_what_was_found_and_says_whether_it_will_do(messy, capsys):
    assert main(["validate", str(messy)]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.rstrip("\n") == validation_text(validate(messy))
    assert printed.out.splitlines()[-1] == "not usable as it is"
    for text in (
        "format                     trl",
        "  to mend: repeated prompt 1 ",
        "  left out: no trace       1 ",
        "never closed               20.0%",
        "score margin               min -0.5  ",
        "  of which reversed        1 of 3 pairs",
        "sampled from               the policy itself: 1, another law: 1, not said: 2",
        f"  {messy}:11: not a JSON object (Unterminated string",
        f"  {messy}:5: field 'chosen': expected a trace that closes",
        "5 rows must be mended",
    ):
        assert " ".join(text.split()) in " ".join(printed.out.split())
    assert main(["validate", str(messy), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["mistakes"] == {"malformed": 3, "repeated prompt": 1, "tags in answer": 1}
    assert facts["usable"] is False
    assert facts["trace_lengths"]["n"] == 8


def test_the_shipped_pairs_are_fit(capsys):
    assert main(["validate", str(pairs_path("valid"))]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "usable: 256 pairs"
    assert "alerts" not in printed
    assert "256 own, 0 copied" in printed


def changed(tmp_path, change, count=6):
    pairs = list(shipped_pairs("style", limit=count))
    pairs[1] = change(pairs[1])
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    return tmp_path / "pairs.jsonl"


def test_with_a_model_lengths_are_tokens_and_limits_are_counted(tmp_path, lrm):
    pairs = shipped_pairs("style", limit=6)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    found = validate(tmp_path / "pairs.jsonl", lrm)
    turns = [(p, lrm.assembler.with_trace(p.prompt, p.traces(s)[0], p.answer(s))) for p in pairs for s in (0, 1)]
    generated = [sequence.tokens for _, sequence in turns]
    assert found.unit == "tokens"
    assert found.answer_lengths.maximum == max(sequence.tokens_answer - 1 for _, sequence in turns)
    assert (found.limit, found.over_limit) == (128, 0.0)
    for limit in sorted({*generated, min(generated) - 1}):
        cut = validate(tmp_path / "pairs.jsonl", lrm, limit=limit).over_limit
        assert cut == sum(size > limit for size in generated) / 12
    assert found.round_trips.turns == 12
    assert found.round_trips.failed == 0
    assert found.recorded is None
    assert found.usable


def test_turns_that_do_not_fit_the_model_are_named(tmp_path, lrm):
    strange = changed(tmp_path, lambda p: replace(p, chosen=replace(p.chosen, trace="größer")))
    found = validate(strange, lrm)
    assert (found.round_trips.failed, found.round_trips.too_long, found.usable) == (1, 0, False)
    assert found.round_trips.failures[0].startswith(f"{strange}:2: ")
    long = changed(tmp_path, lambda p: replace(p, rejected=replace(p.rejected, trace=" ".join(["a3=3"] * 200))))
    found = validate(long, lrm)
    assert (found.round_trips.failed, found.round_trips.too_long) == (1, 1)
    assert "context" in found.round_trips.failures[0]
    assert found.over_limit == 1 / 12


def test_recorded_log_probabilities_are_held_against_the_model(tmp_path, lrm):
    pair = shipped_pairs("style", limit=2)[1]
    sequences = [lrm.assembler.with_trace(pair.prompt, pair.traces(s)[0], pair.answer(s)) for s in (0, 1)]
    trace, answer = sequence_log_probs(lrm.model, sequences)
    exact = (trace + answer).tolist()
    assert [log_prob(lrm, sequence) for sequence in sequences] == pytest.approx(exact, rel=1e-5)

    def recorded(chosen, rejected):
        return lambda p: replace(p, meta={**p.meta, "sampler_log_prob": {"chosen": chosen, "rejected": rejected}})

    good = validate(changed(tmp_path, recorded(*exact)), lrm)
    assert (good.recorded.sequences, good.recorded.share_notable) == (2, 0.0)
    assert good.recorded.largest < 1e-4
    assert not any("nats" in alert for alert in good.alerts)
    off = validate(changed(tmp_path, recorded(exact[0] + 0.5, exact[1])), lrm)
    assert off.recorded.largest == pytest.approx(0.5, abs=1e-4)
    assert off.recorded.mean == pytest.approx(0.25, abs=1e-4)
    assert off.recorded.share_notable == 0.5
    assert off.recorded.prompt == pair.prompt_id
    assert any("50.0% of the recorded log-probabilities" in alert for alert in off.alerts)
    one = validate(changed(tmp_path, recorded(exact[0], None)), lrm)
    assert one.recorded.sequences == 1
    assert "1 sequence, off by" in validation_text(one)


def test_a_prompt_under_two_names_is_a_duplicate(tmp_path):
    path = changed(tmp_path, lambda p: replace(p, prompt=shipped_pairs("style", limit=1)[0].prompt))
    found = validate(path)
    assert found.duplicate_prompts == 1
    assert any("intervals come out too narrow" in alert for alert in found.alerts)


@pytest.mark.parametrize(
    ("meta", "counts"),
    [
        ({}, (0, 1)),
        ({"temperature": 1}, (0, 0)),
        ({"temperature": 1.0, "top_p": 1, "top_k": -1}, (0, 0)),
        ({"temperature": 0.6}, (1, 0)),
        ({"temperature": 0}, (1, 0)),
        ({"temperature": 1, "top_p": 0.95}, (1, 0)),
        ({"temperature": 1, "top_k": 20}, (1, 0)),
        ({"top_p": "most"}, (1, 0)),
    ],
)
def test_other_laws_than_the_policy_are_counted(meta, counts, tmp_path):
    found = validate(changed(tmp_path, lambda p: replace(p, meta=meta)))
    assert (found.other_law, found.unknown_law) == counts
    assert any("no draws from the posterior" in alert for alert in found.alerts) == bool(counts[0])


def test_few_pairs_and_copied_answers_are_alerts(tmp_path):
    rows = [pair_to_row(pair) for pair in shipped_pairs("style", limit=3)]
    for row in rows:
        del row["empty_chosen"], row["empty_rejected"]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = validate(tmp_path / "few.jsonl")
    assert not found.usable
    assert [alert.split(";")[0] for alert in found.alerts] == [
        "3 usable pairs",
        "no answers of their own for the empty trace in 3 of 3 pairs",
    ]


def test_what_cannot_be_checked_is_said(tmp_path, capsys):
    with pytest.raises(InputError, match="--max-tokens must be at least 1"):
        validate(pairs_path("style"), limit=0)
    assert main(["validate", str(pairs_path("style")), "--max-tokens", "5"]) == 2
    assert "--max-tokens needs --model" in capsys.readouterr().err
    assert main(["validate", str(tmp_path / "none.jsonl")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_quantiles_of_nothing_are_none():
    assert Quantiles.of([]) is None
    assert Quantiles.of([3.0]) == Quantiles(1, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0)
