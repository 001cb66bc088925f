"""Building pairs: ranked by the reward, the same after any interruption and in parts, with everything counted."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from families import family_model, family_options, family_pairs

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.shipped.task import is_right, sample_problem
from bvpo_analysis.preferences import read_pairs
from bvpo_analysis.preferences.__main__ import main
from bvpo_analysis.preferences.build import BuildSettings, build, part_of, read_prompts
from bvpo_analysis.preferences.rewards import Prompt, Reward, function_reward
from bvpo_analysis.records import Completion

RIGHT = function_reward("bvpo_analysis.lrm.shipped.task:is_right")
SETTINGS = BuildSettings(samples=6, prior=2, max_tokens=48, seed=4)


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(11)
    return tuple(Prompt(f"p{i:02d}", ({"role": "user", "content": sample_problem(rng).text},)) for i in range(20))


@pytest.fixture(scope="module")
def built(lrm, prompts, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "pairs.jsonl"
    return build(lrm, prompts, RIGHT, output, SETTINGS), output


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_pairs_are_ranked_by_the_reward_and_carry_their_provenance(built, lrm, prompts):
    report, output = built
    pairs = read_pairs(output, format="native")
    assert len(pairs) == report.pairs >= 3
    assert files(output.parent) == ["pairs.jsonl", "pairs.jsonl.counts.json"]
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    for pair in pairs:
        text = pair.prompt[-1]["content"]
        assert pair.prompt == by_id[pair.prompt_id].messages
        assert is_right(text, pair.answer(0))
        assert not is_right(text, pair.answer(1))
        assert is_right(text, pair.empty_chosen)
        assert not is_right(text, pair.empty_rejected)
        assert (pair.score_chosen, pair.score_rejected) == (1.0, 0.0)
        assert len(pair.prior_traces) == 2
        assert pair.meta == {
            **{"policy": lrm.fingerprint, "temperature": 1.0, "seed": 4, "max_tokens": 48},
            **{"reward": "bvpo_analysis.lrm.shipped.task:is_right", "trace_source": "posterior"},
        }


def test_counts_add_up_and_are_written(built, prompts):
    report, output = built
    counts = report.counts
    assert counts.prompts == len(prompts) == report.pairs + report.tags + counts.no_pair + counts.no_empty_pair
    assert counts.completions == 6 * len(prompts)
    assert counts.prior_completions == 2 * report.pairs
    facts = json.loads(output.with_name("pairs.jsonl.counts.json").read_text())
    assert facts["pairs"] == report.pairs
    assert facts["counts"]["no_pair"] == counts.no_pair
    assert facts["samples"] == 6


class Interrupted(Exception):
    pass


def test_an_interrupted_build_continues_to_the_same_file(built, lrm, prompts, tmp_path):
    output, calls = tmp_path / "pairs.jsonl", []

    def dying(prompt, answer):
        calls.append(prompt.prompt_id)
        if prompt.prompt_id == "p12":
            raise KeyboardInterrupt
        return RIGHT.function(prompt, answer)

    with pytest.raises(KeyboardInterrupt):
        build(lrm, prompts, replace(RIGHT, function=dying), output, SETTINGS)
    assert files(tmp_path) == ["pairs.jsonl.parts"]
    assert files(tmp_path / "pairs.jsonl.parts") == ["build.json", "chunk-00000000.json"]
    with pytest.raises(InputError, match="holds an interrupted build; continue it with --resume"):
        build(lrm, prompts, RIGHT, output, SETTINGS)
    with pytest.raises(InputError, match=r"had another seed \(4, not 5\); use --overwrite"):
        build(lrm, prompts, RIGHT, output, replace(SETTINGS, seed=5), resume=True)
    with pytest.raises(InputError, match="had another prompts"):
        build(lrm, prompts[:-1], RIGHT, output, SETTINGS, resume=True)
    calls.clear()

    def watching(prompt, answer):
        calls.append(prompt.prompt_id)
        return RIGHT.function(prompt, answer)

    report = build(lrm, prompts, replace(RIGHT, function=watching), output, SETTINGS, resume=True)
    assert min(calls) == "p08"  # the finished chunk was not done again
    assert output.read_bytes() == built[1].read_bytes()
    assert report == built[0]
    assert files(tmp_path) == ["pairs.jsonl", "pairs.jsonl.counts.json"]


def test_parts_joined_are_the_whole(built, lrm, prompts, tmp_path):
    names = []
    for i in (1, 2):
        part = part_of(prompts, f"{i}/2")
        names.append(tmp_path / f"part{i}.jsonl")
        build(lrm, part, RIGHT, names[-1], SETTINGS, may_be_empty=True)
    assert names[1].read_bytes() == b""  # the last four prompts give no pair, which is no fault of this part
    assert main(["merge", *map(str, names), "--output", str(tmp_path / "whole.jsonl")]) == 0
    assert (tmp_path / "whole.jsonl").read_bytes() == built[1].read_bytes()


@pytest.mark.parametrize("parts", range(1, 6))
def test_parts_cover_every_prompt_once(parts):
    prompts = [Prompt(str(i), ()) for i in range(37)]
    cut = [part_of(prompts, f"{i}/{parts}") for i in range(1, parts + 1)]
    assert [p for part in cut for p in part] == prompts
    assert all(len(part) % 8 == 0 for part in cut[:-1])


@pytest.mark.parametrize("shard", ["3/2", "0/2", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_impossible_parts_are_refused(shard):
    with pytest.raises(InputError, match="--shard must be I/N with 1 <= I <= N"):
        part_of([Prompt("p", ())], shard)


def test_more_parts_than_chunks_are_refused():
    with pytest.raises(InputError, match="there are only 1 chunks of 8 prompts"):
        part_of([Prompt("p", ())], "9/9")


def test_a_failing_reward_leaves_what_is_finished_and_no_output(lrm, prompts, tmp_path):
    bad = Reward("bad", lambda prompt, answer: float("nan"))
    with pytest.raises(StudyError, match=r"the reward bad gave nan on prompt 'p00'"):
        build(lrm, prompts[:8], bad, tmp_path / "pairs.jsonl", SETTINGS)
    assert files(tmp_path) == []  # nothing was finished
    late = Reward("late", lambda prompt, answer: float("nan") if prompt.prompt_id == "p08" else len(answer))
    with pytest.raises(StudyError, match=r"the reward late gave nan on prompt 'p08'"):
        build(lrm, prompts[:9], late, tmp_path / "pairs.jsonl", SETTINGS)
    assert files(tmp_path / "pairs.jsonl.parts") == ["build.json", "chunk-00000000.json"]
    report = build(lrm, prompts[:8], RIGHT, tmp_path / "pairs.jsonl", SETTINGS, overwrite=True)
    assert report.counts.prompts == 8
    assert files(tmp_path) == ["pairs.jsonl", "pairs.jsonl.counts.json"]


def test_without_any_pair_nothing_is_left(lrm, prompts, tmp_path):
    same = Reward("same", lambda prompt, answer: 1.0)
    with pytest.raises(InputError, match="none of 8 prompts gives a pair"):
        build(lrm, prompts[:8], same, tmp_path / "pairs.jsonl", SETTINGS)
    assert files(tmp_path) == []
    with pytest.raises(InputError, match="48 of 48 completions never ended"):
        build(lrm, prompts[:8], RIGHT, tmp_path / "pairs.jsonl", replace(SETTINGS, max_tokens=3))


def test_folders_of_others_are_left_alone(lrm, prompts, tmp_path):
    parts = tmp_path / "pairs.jsonl.parts"
    parts.mkdir()
    (parts / "thesis.txt").write_text("mine")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match=r"was not made by a build|holds 'thesis\.txt'"):
            build(lrm, prompts[:8], RIGHT, tmp_path / "pairs.jsonl", SETTINGS, **options)
    assert (parts / "thesis.txt").read_text() == "mine"


def test_every_distinct_answer_is_scored_once(lrm, prompts, tmp_path):
    seen = []

    def counting(prompt, answer):
        seen.append((prompt.prompt_id, answer))
        return RIGHT.function(prompt, answer)

    build(lrm, prompts, replace(RIGHT, function=counting), tmp_path / "pairs.jsonl", SETTINGS)
    assert len(seen) == len(set(seen))


def test_pairs_that_no_native_row_can_hold_are_counted(lrm, prompts, tmp_path, monkeypatch):
    from bvpo_analysis.preferences import build as module

    whole = module.choose_pair
    monkeypatch.setattr(
        module,
        "choose_pair",
        lambda *args, **options: (
            None if (p := whole(*args, **options)) is None else replace(p, chosen=Completion(p.answer(0), "<think>"))
        ),
    )
    with pytest.raises(InputError, match="none of 20 prompts"):
        build(lrm, prompts, RIGHT, tmp_path / "pairs.jsonl", SETTINGS)


@pytest.mark.slow
def test_further_posterior_traces_are_drawn_by_rejection(lrm, prompts, tmp_path):
    report = build(lrm, prompts[:8], RIGHT, tmp_path / "pairs.jsonl", replace(SETTINGS, further=1), may_be_empty=True)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert {len(p.traces(side)) for p in pairs for side in (0, 1)} == {2}
    assert report.counts.rejection_completions > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"samples": 1}, "--samples must be at least 2, got 1"),
        ({"further": -1}, "--further must be at least 0"),
        ({"max_tokens": 0}, "--max-tokens must be at least 1"),
        ({"rows": 0}, "--rows must be at least 1"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"temperature": 0.0}, "--temperature must be a positive number"),
        ({"temperature": float("inf")}, "--temperature must be a positive number"),
    ],
)
def test_impossible_settings_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        BuildSettings(**options)


def test_prompts_are_read_in_their_usual_forms(tmp_path):
    rows = [
        "just text",
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "prompt_id": 7},
        {"question": "2 + 2?", "answer": "#### 4"},
        {"problem": "3 + 3?", "solution": 6, "answer": "six"},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_prompts(path)
    assert [p.messages[-1]["content"] for p in found] == ["just text", "u", "2 + 2?", "3 + 3?"]
    assert found[1].prompt_id == "7"
    assert found[0].prompt_id.startswith("prompt-")
    assert {p.reference for p in found} == {None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[2:]))
    assert [p.reference for p in read_prompts(path, references=True)] == ["#### 4", "6"]
    assert len(read_prompts(path, limit=1)) == 1


def test_other_models_and_stop_tokens_are_served(tmp_path):
    """A random model never says anything sensible, but its turns are read, ranked and written like any other's."""
    folder = family_model("qwen3", tmp_path / "model")
    lrm = load_model(folder, **family_options("qwen3", folder))
    prompts = [Prompt(p.prompt_id, p.prompt) for p in family_pairs(2)]
    with pytest.raises(InputError, match=r"none of 2 prompts gives a pair: 4 of 4 completions never ended"):
        build(lrm, prompts, RIGHT, tmp_path / "out.jsonl", BuildSettings(samples=2, max_tokens=4))


@pytest.fixture
def prompt_file(prompts, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p.messages[0]["content"]}) + "\n" for p in prompts))
    return path


def test_the_command_builds_and_tells_what_it_left_out(prompt_file, tmp_path, capsys):
    output = tmp_path / "pairs.jsonl"
    argv = ["build", str(prompt_file), "--reward", RIGHT.description, "--output", str(output), "--limit", "8"]
    argv += ["--max-tokens", "40", "--seed", "2", "--temperature", "1.2"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    pairs = read_pairs(output)
    assert f"{output}: {len(pairs)} pairs of 8 prompts" in printed
    assert re.search(r"left out: \d \((no two different rewards with|none without) thinking\)", printed)
    assert "completions that never ended: " in printed
    assert "so g_t is biased" in printed
    assert {p.meta["temperature"] for p in pairs} == {1.2}
    assert main(argv) == 2
    assert "exists; use --overwrite" in capsys.readouterr().err


def test_the_command_needs_one_reward(prompt_file, tmp_path, capsys):
    argv = ["build", str(prompt_file), "--output", str(tmp_path / "o.jsonl")]
    for more in ([], ["--reward", "a:b", "--verifier", "exact"]):
        assert main([*argv, *more]) == 2
        assert "give one of --reward MODULE:FUNCTION" in capsys.readouterr().err
    assert main([*argv, "--verifier", "exact"]) == 2
    assert "'reference': expected the right answer, which a verifier compares with" in capsys.readouterr().err
