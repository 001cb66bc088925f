"""Files of other formats: each is read to the same pairs, what is left out is counted, what is wrong is named."""

import json
from collections import Counter

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import FORMATS, pair_to_row, read_file, read_pairs, write_pairs
from bvpo_analysis.preferences.formats import detect
from bvpo_analysis.preferences.formats.base import prompt_name
from bvpo_analysis.preferences.formats.completions import assistant_message, split_thinking
from bvpo_analysis.preferences.native import RowError
from bvpo_analysis.records import Completion

USER = {"role": "user", "content": "Is 7 prime?"}
SYSTEM = {"role": "system", "content": "Be brief."}
YES, NO = Completion("Yes.", "7 = 1 * 7"), Completion("No.", "7 is odd")


def message(content, **keys):
    return {"role": "assistant", "content": content, **keys}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


INLINE = {"chosen": "<think>7 = 1 * 7</think>Yes.", "rejected": "<think>\n7 is odd\n</think>\n\nNo."}
SAME_PAIR = {
    "text": {"prompt": USER["content"], **INLINE},
    "opener in the prompt": {
        "prompt": USER["content"],
        "chosen": "7 = 1 * 7</think>Yes.",
        "rejected": "7 is odd\n</think>\n\nNo.",
    },
    "messages, inline": {
        "prompt": [USER],
        "chosen": [message(INLINE["chosen"])],
        "rejected": [message(INLINE["rejected"])],
    },
    "messages, reasoning_content": {
        "prompt": [USER],
        "chosen": [message("Yes.", reasoning_content="7 = 1 * 7")],
        "rejected": [message("No.", reasoning_content="7 is odd")],
    },
    "messages, thinking": {
        "prompt": [USER],
        "chosen": [message("Yes.", thinking="7 = 1 * 7")],
        "rejected": [message("No.", thinking="7 is odd", reasoning=None)],
    },
    "messages, reasoning": {
        "prompt": [USER],
        "chosen": [message("Yes.", reasoning="7 = 1 * 7")],
        "rejected": [message("No.", reasoning="7 is odd")],
    },
    "single messages": {
        "prompt": USER["content"],
        "chosen": message("Yes.", reasoning="7 = 1 * 7"),
        "rejected": message("No.", reasoning="7 is odd"),
    },
    "thought and answer": {
        "prompt": USER["content"],
        "chosen": {"thought": "7 = 1 * 7", "answer": "Yes."},
        "rejected": {"thought": "7 is odd", "answer": "No."},
    },
    "the user turn repeated": {
        "prompt": USER["content"],
        "chosen": [USER, message(INLINE["chosen"])],
        "rejected": [USER, message(INLINE["rejected"])],
    },
    "messages repeated": {
        "prompt": [USER],
        "chosen": [USER, message(INLINE["chosen"])],
        "rejected": [message(INLINE["rejected"])],
    },
    "no prompt column": {
        "chosen": [USER, message(INLINE["chosen"])],
        "rejected": [USER, message(INLINE["rejected"])],
    },
    "ultrafeedback": {
        "prompt": USER["content"],
        "prompt_id": "abc",
        "chosen": [USER, message(INLINE["chosen"])],
        "rejected": [USER, message(INLINE["rejected"])],
        "messages": [USER, message(INLINE["chosen"])],
        "score_chosen": 8.5,
        "score_rejected": 3,
    },
    "scored-responses": {
        "prompt": USER["content"],
        "all_generated_responses": ["<think>x</think>Perhaps.", INLINE["rejected"], INLINE["chosen"]],
        "all_rm_scores": [0, -1.5, 4],
        "chosen": [USER, message("anything")],
        "rejected": [USER, message("anything else")],
    },
    "scored thoughts": {
        "prompt": [USER],
        "all_generated_responses": [
            {"thought": "7 = 1 * 7", "answer": "Yes."},
            [USER, message("No.", thinking="7 is odd")],
        ],
        "all_rm_scores": [1, 0],
    },
}


@pytest.mark.parametrize("name", SAME_PAIR)
def test_every_format_reads_to_the_same_pair(name, tmp_path):
    found = read_file(write(tmp_path / "pairs.jsonl", SAME_PAIR[name]))
    (pair,) = found.pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ((USER,), YES, NO)
    assert (pair.empty_answers, pair.empty_chosen, pair.empty_rejected) == ("copied", "Yes.", "No.")
    assert found.format == (name if name in FORMATS else "scored-responses" if "scored" in name else "trl")
    assert pair.prompt_id == ("abc" if name == "ultrafeedback" else prompt_name([USER]))
    scores = {"ultrafeedback": (8.5, 3.0), "scored-responses": (4.0, -1.5), "scored thoughts": (1.0, 0.0)}
    assert (pair.score_chosen, pair.score_rejected) == scores.get(name, (None, None))
    assert (found.rows, found.dropped, found.ignored) == (1, {}, ())
    # What was read is a native row from then on.
    write_pairs(tmp_path / "native.jsonl", found.pairs)
    again = read_file(tmp_path / "native.jsonl")
    assert (again.format, again.pairs) == ("native", found.pairs)


@pytest.mark.parametrize("form", ["json", "pretty json", "parquet", "folder", "id"])
@pytest.mark.parametrize("name", ["text", "messages, thinking", "ultrafeedback", "scored-responses", "native"])
def test_every_container_gives_the_same_rows(name, form, tmp_path, monkeypatch):
    rows = [SAME_PAIR["text"] if name == "native" else SAME_PAIR[name], {**SAME_PAIR["text"], "prompt": "Is 9 prime?"}]
    rows = rows[:1] if name != "text" else rows
    plain = write(tmp_path / "pairs.jsonl", *rows)
    if name == "native":
        write_pairs(plain, read_pairs(plain))
        rows = [json.loads(line) for line in plain.read_text().splitlines()]
    expected = read_file(plain)
    if form in ("json", "pretty json"):
        path = tmp_path / "pairs.json"
        path.write_text(json.dumps(rows, indent=2 if form == "pretty json" else None))
    elif form == "parquet":
        pa = pytest.importorskip("pyarrow", reason="pip install '.[data]'")
        pq = pytest.importorskip("pyarrow.parquet")
        path = tmp_path / "pairs.parquet"
        rows = [{k: v for k, v in row.items() if v not in ([], {})} for row in rows]  # parquet has no empty struct
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        datasets = pytest.importorskip("datasets", reason="pip install '.[data]'")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        datasets.disable_progress_bars()
        rows = [{k: v for k, v in row.items() if v not in ([], {})} for row in rows]
        if form == "folder":
            path = tmp_path / "saved"
            datasets.Dataset.from_list(rows).save_to_disk(str(path))
        else:
            (tmp_path / "set").mkdir()
            write(tmp_path / "set" / "train.jsonl", *rows)
            path = f"datasets:{tmp_path / 'set'}:train"
    found = read_file(path)
    assert found.pairs == expected.pairs
    assert found.format == expected.format


def test_a_prompt_name_depends_on_all_messages_and_on_nothing_else():
    assert prompt_name([USER]) == prompt_name([{"content": USER["content"], "role": "user"}])
    others = [[SYSTEM, USER], [{**USER, "content": "Is 8 prime?"}], [{**USER, "role": "tool"}]]
    assert len({prompt_name(p) for p in [[USER], *others]}) == 4


def test_system_messages_and_own_empty_answers_are_kept(tmp_path):
    row = {
        "chosen": [SYSTEM, USER, message(INLINE["chosen"])],
        "rejected": [SYSTEM, USER, message(INLINE["rejected"])],
        "empty_chosen": "<think>\n\n</think>\n\nYes, it is.",
        "empty_rejected": [USER, message("No, it is not.")],
        "temperature": 0.6,
        "prior_traces": ["hm"],
        "source": "somewhere",
    }
    found = read_file(write(tmp_path / "pairs.jsonl", row))
    (pair,) = found.pairs
    assert pair.prompt == (SYSTEM, USER)
    assert (pair.empty_answers, pair.empty_chosen, pair.empty_rejected) == ("own", "Yes, it is.", "No, it is not.")
    assert pair.meta == {"temperature": 0.6}
    assert pair.prior_traces == ("hm",)
    assert found.ignored == ("source",)


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    good = SAME_PAIR["text"]

    def other(number, **changes):
        return {**good, "prompt": f"{number}?", **changes}

    path = write(
        tmp_path / "pairs.jsonl",
        good,
        other(1, chosen="Yes."),
        other(2, chosen="<think>7 = 1"),
        other(3, rejected="<think>hm</think>\n\n"),
        other(4, rejected=INLINE["chosen"]),
        other(5, rejected="No."),
        good,
    )
    with pytest.raises(InputError, match=r"pairs\.jsonl:7: prompt_id .* repeats line 1; .*--one-per-prompt"):
        read_pairs(path)
    found = read_file(path, one_per_prompt=True)
    assert len(found.pairs) == 1
    assert found.dropped == {
        **{"no trace": 2, "unclosed trace": 1, "empty answer": 1, "same answers": 1},
        "repeated prompt": 1,
    }
    assert found.rows == 7 == len(found.pairs) + sum(found.dropped.values())
    assert read_file(path, limit=1).rows == 1


def test_ties_and_unclosed_responses_are_counted(tmp_path):
    def row(number, responses, scores):
        return {"prompt": f"{number}?", "all_generated_responses": responses, "all_rm_scores": scores}

    a, b, unclosed = "<think>t</think>a", "<think>u</think>b", "<think>on and on"
    found = read_file(
        write(
            tmp_path / "pairs.jsonl",
            row(0, [unclosed, a, b], [9, 1, 0]),
            row(1, [a, b], [1, 1]),
            row(2, [a, unclosed], [1, 0]),
            row(3, [a, a], [1, 0]),
            row(4, [b, a, b, a], [1, 2, 2, 1]),
        )
    )
    assert [pair.answer(0) + pair.answer(1) for pair in found.pairs] == ["ab", "ab"]  # the first of equal scores
    assert found.dropped == {"tie": 1, "too few responses": 1, "same answers": 1}
    assert found.counts == {"responses": 13, "unclosed responses": 2}


BAD = {
    # id: (row, what the message says)
    "no prompt": ({"chosen": "<think>a</think>b", "rejected": "c"}, "'prompt': expected text or messages, got null"),
    "prompt a number": ({**SAME_PAIR["text"], "prompt": 7}, "'prompt': expected text or a list of messages, got 7"),
    "prompt empty": ({**SAME_PAIR["text"], "prompt": ""}, "'prompt': expected a non-empty string"),
    "prompt null inside": ({**SAME_PAIR["text"], "prompt": [None]}, "expected text or a list of messages"),
    "prompt_id a list": ({**SAME_PAIR["text"], "prompt_id": [1]}, "'prompt_id': expected text or a whole number"),
    "chosen null": ({**SAME_PAIR["text"], "chosen": None}, "'chosen': expected a completion, got null"),
    "chosen a number": ({**SAME_PAIR["text"], "chosen": 5}, "'chosen': expected text, a message, or an object"),
    "chosen an empty list": ({**SAME_PAIR["text"], "chosen": []}, "'chosen': expected text or a list of messages"),
    "chosen ends with the user": ({**SAME_PAIR["text"], "chosen": [USER]}, "a last message with role assistant"),
    "content not text": ({**SAME_PAIR["text"], "chosen": [message(None)]}, "an object with text under content"),
    "two traces": (
        {**SAME_PAIR["text"], "chosen": message("a", thinking="t", reasoning="u")},
        "one trace, not different ones under reasoning and thinking",
    ),
    "trace a number": ({**SAME_PAIR["text"], "chosen": message("a", thinking=3)}, "expected text under thinking"),
    "tags in the answer": ({**SAME_PAIR["text"], "chosen": "<think>a</think>b<think>c</think>d"}, "one <think>"),
    "tags after text": ({**SAME_PAIR["text"], "chosen": "Well, <think>a</think>b"}, "one <think>...</think> block"),
    "tags and a trace": ({**SAME_PAIR["text"], "chosen": message("<think>a</think>b", thinking="a")}, "not inside"),
    "other prompts": (
        {"chosen": [USER, message("a")], "rejected": [SYSTEM, USER, message("b")]},
        "chosen and rejected repeat different prompts",
    ),
    "another prompt text": (
        {**SAME_PAIR["the user turn repeated"], "prompt": "Is 8 prime?"},
        "expected the prompt that chosen and rejected repeat",
    ),
    "another prompt": (
        {**SAME_PAIR["messages repeated"], "prompt": [SYSTEM, USER]},
        "chosen and rejected repeat another prompt",
    ),
    "empty answer with a trace": (
        {**SAME_PAIR["text"], "empty_chosen": "<think>a</think>b", "empty_rejected": "c"},
        "'empty_chosen': expected an answer without a trace",
    ),
    "one empty answer": ({**SAME_PAIR["text"], "empty_chosen": "b"}, "must be given together"),
    "scores missing": ({"prompt": "x", "all_generated_responses": ["a", "b"]}, "'all_rm_scores': expected a list of 2"),
    "scores short": (
        {"prompt": "x", "all_generated_responses": ["a", "b"], "all_rm_scores": [1]},
        "a list of 2 scores, one per response, got [1]",
    ),
    "score NaN": (
        {"prompt": "x", "all_generated_responses": ["a", "b"], "all_rm_scores": [1, float("nan")]},
        "'all_rm_scores': expected finite numbers, got NaN",
    ),
    "responses empty": (
        {"prompt": "x", "all_generated_responses": [], "all_rm_scores": []},
        "a non-empty list of resp",
    ),
    "half a surrogate": ({**SAME_PAIR["text"], "prompt": "\ud83d"}, "half of a surrogate pair"),
    "nothing known": ({"question": "x", "answer": "y"}, "the format is not known"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_with_its_line(name, tmp_path):
    bad, says = BAD[name]
    path = write(tmp_path / "pairs.jsonl", bad)
    with pytest.raises(RowError) as caught:
        read_pairs(path)
    line = str(caught.value)
    assert line.startswith(f"{path}:1: ")
    assert says in line
    assert "\n" not in line
    assert len(line) < len(str(path)) + 300


def test_one_file_has_one_format(tmp_path):
    text, scored, native = SAME_PAIR["text"], SAME_PAIR["scored-responses"], SAME_PAIR["messages, reasoning_content"]
    bare = {key: scored[key] for key in ("prompt", "all_generated_responses", "all_rm_scores")}
    path = write(tmp_path / "pairs.jsonl", text, bare)
    with pytest.raises(InputError, match=":2: a row of format 'scored-responses' in a file of format 'trl'"):
        read_pairs(path)
    with pytest.raises(InputError, match=":2: field 'prompt_id' is missing"):
        read_pairs(write(tmp_path / "pairs.jsonl", {**native, "prompt_id": "n"}, text))
    with pytest.raises(InputError, match="unknown format 'csv'; choose among auto, native, scored-responses, ultra"):
        read_pairs(path, format="csv")
    with pytest.raises(InputError, match=":1: field 'prompt_id' is missing"):
        read_pairs(write(path, text), format="native")
    both = {**bare, **INLINE}
    assert read_file(write(path, both)).format == "scored-responses"
    assert read_file(path, format="trl").format == "trl"


def test_a_file_that_gives_no_pair_says_why(tmp_path):
    path = write(tmp_path / "pairs.jsonl", {"prompt": "x", "chosen": "a", "rejected": "b"})
    with pytest.raises(InputError, match=r"none of 1 rows gives a pair; for 1 of them: .* without a reasoning trace"):
        read_pairs(path)


def test_a_json_list_names_the_line_of_each_item(tmp_path):
    path = tmp_path / "pairs.json"
    good, bad = json.dumps(SAME_PAIR["text"]), json.dumps({**SAME_PAIR["text"], "prompt": 3})
    path.write_text(f"\ufeff[\n{good},\n\n\n{bad}]", encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs\.json:5: field 'prompt'"):
        read_pairs(path)
    for text, says in (
        (f"[\n{good},\n", ":3: the JSON list never ends"),
        (f"[\n{good}", ":2: the JSON list never ends"),
        (f"[{good}\n{good}]", ":2: not a JSON list"),
        (f"[{good},]", ":1: item 2 of the list is not a JSON object"),
        (f"[{good}]\nx", ":1: text after the end"),
        ("[1]", ":1: expected a JSON object, got int"),
        ("[]", "no preference pairs in the file"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_pairs(path)


def test_data_set_ids_are_refused_offline_and_when_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set, so nothing is downloaded"):
        read_pairs("datasets:owner/name:train")
    with pytest.raises(InputError, match="name the data set, as in datasets:OWNER/NAME"):
        read_pairs("datasets:")
    pytest.importorskip("datasets", reason="pip install '.[data]'")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    with pytest.raises(InputError, match="not a readable data set"):
        read_pairs(tmp_path / "broken")
    with pytest.raises(InputError, match="cannot be loaded"):
        read_pairs(f"datasets:{tmp_path / 'broken'}:nosuch")


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install '.[data]'")
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"pairs\.parquet: not a readable parquet file"):
        read_pairs(tmp_path / "pairs.parquet")


@pytest.mark.parametrize("module", ["pyarrow", "datasets"])
def test_a_missing_extra_says_what_to_install(module, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)  # what Python does where a package is not installed
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "a.parquet").write_bytes(b"")
    source = tmp_path / "a.parquet" if module == "pyarrow" else "datasets:owner/name"
    with pytest.raises(InputError, match=rf"needs the package {module}; install it with: pip install 'bvpo-an"):
        read_pairs(source)


def test_repeated_keys_and_endless_nesting_are_no_json(tmp_path):
    path = tmp_path / "pairs.jsonl"
    for text, says in (
        ('{"prompt": 1, "prompt": 2}', "key 'prompt' appears twice"),
        ("[" * 100_000, "not a JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"prompt": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_pairs(path)


def test_split_thinking_gives_back_what_a_template_wrote():
    for trace in ("", "a", "a\nb", "  a  ", "3 < 5 > 2"):
        for answer in ("x", "x\n", " y"):
            assert split_thinking(f"<think>\n{trace}\n</think>\n\n{answer}") == (trace, answer)
            assert split_thinking(f"<think>{trace}</think>{answer}") == (trace, answer)


def test_an_assistant_message_keeps_a_trace_under_a_key_as_it_is():
    kept = assistant_message({"content": "a", "thinking": "\n t \n"}, "row", "chosen")
    assert kept == message("a", reasoning_content="\n t \n")


def test_the_shipped_rows_are_recognised_as_native():
    from bvpo_analysis.preferences import shipped_pairs

    row = pair_to_row(shipped_pairs("style", limit=1)[0])
    assert detect(row, "row").name == "native"
    assert FORMATS["native"].to_row(row, "row", Counter()) is row
