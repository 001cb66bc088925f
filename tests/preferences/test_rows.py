"""Native rows: what is written is read back, and every mistake is named with its place, field and expectation."""

import json
import re
from dataclasses import replace

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import pair_from_row, pair_to_row, read_pairs, write_pairs
from bvpo_analysis.preferences.rows import require_traces
from bvpo_analysis.records import Completion, PreferencePair


def turn(answer, trace="t"):
    return [{"role": "assistant", "content": answer, "reasoning_content": trace}]


def row(**changes):
    base = {
        "prompt_id": "q1",
        "prompt": [{"role": "user", "content": "x"}],
        "chosen": turn("a", "why a"),
        "rejected": turn("b", "why b"),
    }
    return {**base, **changes}


def full_row():
    return row(
        prompt=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "größer → 3 < 5?\nline two"}],
        chosen_traces=["t1", ""],
        rejected_traces=["t2", "t3"],
        prior_traces=["p"],
        empty_chosen=turn("c", None),
        empty_rejected=turn("d", None),
        score_chosen=0.25,
        score_rejected=-3,
        meta={"policy": "f00", "temperature": 1.0, "nested": {"k": [1, None]}},
    )


def write_lines(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_full_row_becomes_a_pair_field_by_field():
    pair = pair_from_row(full_row())
    assert pair == PreferencePair(
        prompt_id="q1",
        prompt=tuple(full_row()["prompt"]),
        chosen=Completion("a", "why a"),
        rejected=Completion("b", "why b"),
        empty_chosen="c",
        empty_rejected="d",
        empty_answers="own",
        chosen_traces=("t1", ""),
        rejected_traces=("t2", "t3"),
        prior_traces=("p",),
        score_chosen=0.25,
        score_rejected=-3.0,
        meta=full_row()["meta"],
    )
    assert pair.traces(0) == ("why a", "t1", "")
    assert pair.traces(1) == ("why b", "t2", "t3")


@pytest.mark.parametrize("source", [full_row(), row(), row(meta=None, score_chosen=None, prior_traces=None)])
def test_row_to_pair_to_row_to_pair_is_the_identity(source):
    pair = pair_from_row(source)
    again = pair_from_row(json.loads(json.dumps(pair_to_row(pair))))
    assert again == pair
    written = pair_to_row(pair)
    assert {k: written[k] for k, v in source.items() if v is not None} == {k: v for k, v in source.items() if v}


def test_a_file_round_trips_bit_for_bit(tmp_path):
    pairs = [pair_from_row(full_row()), replace(pair_from_row(row()), prompt_id="q2")]
    write_pairs(tmp_path / "one.jsonl", pairs)
    read = read_pairs(tmp_path / "one.jsonl")
    assert read == tuple(pairs)
    write_pairs(tmp_path / "two.jsonl", read)
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert b"\r" not in (tmp_path / "one.jsonl").read_bytes()


def test_rows_without_empty_answers_copy_them_and_say_so():
    pair = pair_from_row(row())
    assert (pair.empty_answers, pair.empty_chosen, pair.empty_rejected) == ("copied", "a", "b")
    assert not {"empty_chosen", "empty_rejected"} & set(pair_to_row(pair))


def test_an_empty_trace_is_a_trace_and_null_is_none():
    assert pair_from_row(row(chosen=turn("a", ""))).traces(0) == ("",)
    with pytest.raises(InputError, match="reasoning_content"):
        pair_from_row(row(chosen=turn("a", None)))


def without(key):
    return {k: v for k, v in row().items() if k != key}


BAD_ROWS = {
    # id: (row, field named, what the message says)
    "no prompt_id": (without("prompt_id"), "prompt_id", "is missing; required are prompt_id, prompt"),
    "no prompt": (without("prompt"), "prompt", "is missing"),
    "no chosen": (without("chosen"), "chosen", "is missing"),
    "no rejected": (without("rejected"), "rejected", "is missing"),
    "unknown field": (row(rewards=[1, 2]), "rewards", "unknown field.*put provenance under 'meta'"),
    "prompt_id a number": (row(prompt_id=7), "prompt_id", "expected a non-empty string, got 7"),
    "prompt_id empty": (row(prompt_id=""), "prompt_id", "expected a non-empty string"),
    "prompt a string": (row(prompt="x"), "prompt", "expected a non-empty list of chat messages, got \"x\""),
    "prompt empty": (row(prompt=[]), "prompt", "expected a non-empty list of chat messages"),
    "prompt of strings": (row(prompt=["x"]), "prompt", "messages with a role among"),
    "prompt with a wrong role": (row(prompt=[{"role": "human", "content": "x"}]), "prompt", "system, user, assistant"),
    "prompt without content": (row(prompt=[{"role": "user"}]), "prompt", "expected a non-empty string, got null"),
    "prompt ends with the assistant": (
        row(prompt=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "a"}]),
        "prompt",
        "last message not to be the assistant's",
    ),
    "chosen a string": (row(chosen="a"), "chosen", "expected a list of one assistant message, got \"a\""),
    "chosen two messages": (row(chosen=turn("a") * 2), "chosen", "expected a list of one assistant message"),
    "chosen from the user": (row(chosen=[{"role": "user", "content": "a"}]), "chosen", "role assistant"),
    "answer empty": (row(rejected=turn("")), "rejected", "expected a non-empty string"),
    "answer a number": (row(rejected=turn(4)), "rejected", "expected a non-empty string, got 4"),
    "no trace": (row(rejected=turn("b", None)), "rejected", r"reasoning_content \(the trace that generated the answer"),
    "trace a number": (row(rejected=turn("b", 5)), "rejected", "expected a string, got 5"),
    "trace never closes": (row(chosen=turn("<think>so", None)), "chosen", "a trace that closes.*more tokens"),
    "trace inside content": (row(chosen=turn("<think>so</think>a", None)), "chosen", "under reasoning_content, not"),
    "trace with tags": (row(chosen=turn("a", "<think>so")), "chosen", "a trace without <think> tags"),
    "further trace with tags": (row(chosen_traces=["so</think>"]), "chosen_traces", "a trace without <think> tags"),
    "traces a string": (row(chosen_traces="so"), "chosen_traces", "expected a list of traces, got \"so\""),
    "traces of numbers": (row(prior_traces=[3]), "prior_traces", "expected a string, got 3"),
    "same answers": (row(rejected=turn("a", "why b")), "chosen", r"chosen and rejected answers are the same \('a'\)"),
    "only empty_chosen": (row(empty_chosen=turn("a", None)), "empty_chosen", "must be given together, or neither"),
    "only empty_rejected": (row(empty_rejected=turn("a", None)), "empty_rejected", "given together, or neither"),
    "same empty answers": (
        row(empty_chosen=turn("c", None), empty_rejected=turn("c", None)),
        "empty_rejected",
        r"are the same \('c'\)",
    ),
    "empty answer with a trace": (
        row(empty_chosen=turn("c", "t"), empty_rejected=turn("d", None)),
        "empty_chosen",
        "reasoning_content null",
    ),
    "score NaN": (row(score_chosen=float("nan")), "score_chosen", "expected a finite number or null, got NaN"),
    "score infinite": (row(score_rejected=float("-inf")), "score_rejected", "expected a finite number or null"),
    "score a string": (row(score_chosen="0.5"), "score_chosen", "expected a finite number or null, got \"0.5\""),
    "score a boolean": (row(score_chosen=True), "score_chosen", "expected a finite number or null, got true"),
    "meta a list": (row(meta=["x"]), "meta", "expected an object"),
    "not an object": ([1, 2], "", "expected a JSON object, got list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named_with_file_line_field_and_expectation(name, tmp_path):
    bad, field, says = BAD_ROWS[name]
    path = write_lines(tmp_path / "pairs.jsonl", row(prompt_id="good"), "", bad)
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")  # blank lines count, as in an editor
    assert field in message
    assert re.search(says, message), message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


def test_long_values_are_shortened_in_messages():
    with pytest.raises(InputError) as caught:
        pair_from_row(row(prompt="x" * 10_000))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("line", ['{"prompt_id": "q"', "{'prompt_id': 'q'}", "prompt_id,prompt", "["])
def test_malformed_json_is_named_with_its_line_and_column(line, tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", row(), line)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:2: not a JSON object \(.* column \d+\)$"):
        read_pairs(path)


def test_a_repeated_prompt_names_both_lines(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", row(), row(prompt_id="q2"), row())
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}:3: prompt_id 'q1' repeats line 1; .*one pair per"):
        read_pairs(path)


def test_files_that_hold_no_pairs(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.jsonl: no such file; give --data"):
        read_pairs(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="no such file"):
        read_pairs(tmp_path)  # a folder
    for text in ("", "\n \n\n"):
        (tmp_path / "empty.jsonl").write_text(text)
        with pytest.raises(InputError, match=r"empty\.jsonl: no preference pairs in the file; expected one JSON obj"):
            read_pairs(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(row()).encode() + "\nä".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.jsonl:2: not UTF-8 text \(byte 1 of the line\)"):
        read_pairs(tmp_path / "latin.jsonl")


def test_windows_line_ends_and_unicode_line_separators_inside_strings_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps(row(chosen=turn("a\u2028\u0085", "why")), ensure_ascii=False), json.dumps(row(prompt_id="q2"))]
    path.write_bytes("\r\n".join(lines).encode() + b"\r\n")
    read = read_pairs(path)
    assert [pair.prompt_id for pair in read] == ["q1", "q2"]
    assert read[0].chosen.answer == "a\u2028\u0085"


def test_limit_keeps_the_first_pairs_and_reads_no_further(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", row(), row(prompt_id="q2"), "garbage")
    assert [pair.prompt_id for pair in read_pairs(path, limit=2)] == ["q1", "q2"]
    with pytest.raises(InputError, match=":3: not a JSON"):
        read_pairs(path, limit=3)


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "pairs.jsonl"
    first = pair_from_row(row())
    write_pairs(path, [first])
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.jsonl"]
    before = path.read_bytes()

    def breaking():
        yield replace(first, prompt_id="other")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_pairs(path, breaking())
    assert path.read_bytes() == before
    with pytest.raises(TypeError):
        write_pairs(path, [replace(first, meta={"model": object()})])  # not JSON
    assert path.read_bytes() == before
    write_pairs(path, [replace(first, prompt_id="other")])
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.jsonl"]
    assert read_pairs(path)[0].prompt_id == "other"


def test_require_traces_counts_the_poorer_side_and_names_the_prompt():
    pairs = [pair_from_row(row(chosen_traces=["t1", "t2"], rejected_traces=["t3"]))]
    require_traces(pairs, 2)
    with pytest.raises(InputError, match=r"'q1' has 2 posterior trace.*--traces 3.*use --traces 2"):
        require_traces(pairs, 3)
