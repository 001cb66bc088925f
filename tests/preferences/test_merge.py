"""Joining files: empty-trace answers go to the pair of their prompt, and nothing is lost uncounted."""

import json

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import pair_to_row, read_pairs, shipped_pairs, write_pairs
from bvpo_analysis.preferences.__main__ import main
from bvpo_analysis.preferences.merge import merge, read_empty_answers


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trace_row(number, **more):
    prompt = f"{number}?"
    return {"prompt": prompt, "chosen": f"<think>t</think>a{number}", "rejected": f"<think>u</think>b{number}", **more}


def empty_row(number, **more):
    return {"prompt": f"{number}?", "chosen": f"c{number}", "rejected": f"<think>\n\n</think>\n\nd{number}", **more}


def test_each_pair_receives_the_answers_of_its_prompt(tmp_path):
    traces = write(tmp_path / "t.jsonl", *(trace_row(n) for n in range(4)))
    empties = write(tmp_path / "e.jsonl", empty_row(2), empty_row(0), empty_row(9), empty_row(3, chosen="d3"))
    merged = merge([traces], empties)
    assert [(p.empty_chosen, p.empty_rejected, p.empty_answers) for p in merged.pairs] == [
        ("c0", "d0", "own"),
        ("a1", "b1", "copied"),
        ("c2", "d2", "own"),
        ("a3", "b3", "copied"),
    ]
    assert (merged.with_empty, merged.unused_empty) == (2, 1)
    assert merged.dropped == {"empty trace: same answers": 1}


def test_prompts_that_differ_in_their_system_message_are_joined_by_name(tmp_path):
    system = {"role": "system", "content": "/no_think"}
    user = {"role": "user", "content": "0?"}
    traces = write(tmp_path / "t.jsonl", trace_row(0, prompt_id="q0"))
    empties = write(tmp_path / "e.jsonl", {**empty_row(0), "prompt_id": "q0", "prompt": [system, user]})
    assert merge([traces], empties).pairs[0].empty_chosen == "c0"
    other = write(tmp_path / "e.jsonl", empty_row(5, prompt_id="q0"))
    with pytest.raises(InputError, match=r"e\.jsonl:1: prompt_id 'q0' names another prompt"):
        merge([traces], other)


def test_parts_are_joined_in_order_and_repeated_prompts_are_refused(tmp_path):
    pairs = shipped_pairs("style", limit=6)
    for name, part in (("a", pairs[:2]), ("b", pairs[2:5]), ("c", pairs[4:])):
        write_pairs(tmp_path / name, part)
    whole = tmp_path / "whole.jsonl"
    assert main(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(whole)]) == 0
    assert read_pairs(whole) == pairs[:5]
    with pytest.raises(InputError, match="is in an earlier file too; use --one-per-prompt"):
        merge([whole, tmp_path / "c"])
    merged = merge([whole, tmp_path / "c"], one_per_prompt=True)
    assert merged.pairs == pairs
    assert merged.dropped == {"repeated prompt": 1}


def test_the_command_writes_native_rows_and_says_what_it_left_out(tmp_path, capsys):
    traces = write(tmp_path / "t.jsonl", trace_row(0), trace_row(1), trace_row(2, chosen="no trace"))
    empties = write(tmp_path / "e.jsonl", empty_row(0))
    output = tmp_path / "out.jsonl"
    assert main(["merge", str(traces), "--empty-data", str(empties), "--output", str(output)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{output}: 2 pairs",
        "with empty-trace answers of their own: 1; rows not used: 0",
        "left out: 1 (no trace)",
    ]
    pairs = read_pairs(output, format="native")
    assert [p.empty_answers for p in pairs] == ["own", "copied"]
    assert main(["merge", str(traces), "--output", str(output)]) == 2
    assert "exists; use --overwrite" in capsys.readouterr().err
    assert main(["merge", str(traces), "--output", str(output), "--overwrite"]) == 0
    assert [p.empty_answers for p in read_pairs(output)] == ["copied", "copied"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.jsonl", "out.jsonl", "t.jsonl"]


def test_a_file_of_traces_is_not_taken_for_empty_answers(tmp_path):
    traces = write(tmp_path / "t.jsonl", trace_row(0))
    with pytest.raises(InputError, match=r"t\.jsonl:1: field 'chosen': expected an answer generated without thinking"):
        merge([traces], traces)
    native = tmp_path / "n.jsonl"
    write_pairs(native, shipped_pairs("style", limit=1))
    with pytest.raises(InputError, match="generated without thinking, got a trace"):
        read_empty_answers(native)


def test_empty_answers_may_come_in_every_format(tmp_path):
    turn = [{"role": "assistant", "content": "c0", "reasoning_content": None}]
    native = {
        "prompt_id": "q0",
        "prompt": [{"role": "user", "content": "0?"}],
        "chosen": turn,
        "rejected": [{**turn[0], "content": "d0"}],
    }
    scored = {"prompt": "0?", "all_generated_responses": ["d0", "c0"], "all_rm_scores": [0, 1]}
    for row in (empty_row(0), native, scored):
        (found,), dropped = read_empty_answers(write(tmp_path / "e.jsonl", row))
        assert (found.chosen, found.rejected) == ("c0", "d0")
        assert not {k: v for k, v in dropped.items() if k != "responses"}


def test_what_cannot_be_joined_is_named(tmp_path):
    traces = write(tmp_path / "t.jsonl", trace_row(0))
    for rows, says in (
        ([empty_row(7)], "shares no prompt with the other files"),
        ([empty_row(0), empty_row(0)], r"e\.jsonl:2: repeats the prompt of .*e\.jsonl:1"),
        ([empty_row(0, chosen="d0")], "no pairs of empty-trace answers"),
        ([7], r"e\.jsonl:1: expected a JSON object, got int"),
        ([empty_row(0, prompt=4)], "'prompt': expected text or a list of messages"),
    ):
        with pytest.raises(InputError, match=says):
            merge([traces], write(tmp_path / "e.jsonl", *rows))
    with pytest.raises(InputError, match="unknown format"):
        read_empty_answers(traces, format="xml")
    row = pair_to_row(shipped_pairs("style", limit=1)[0])
    assert row["empty_chosen"][0]["reasoning_content"] is None
