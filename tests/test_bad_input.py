"""Whatever a user gives that cannot work: one line that says where and what to do, and nothing half-written.

Every case runs through the commands' own ``main``. Exit code 2 is wrong usage or input, 1 a file that was read and
found unusable; the only thing on the error stream is one line without a traceback.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from families import family_tokenizer
from safetensors.torch import load_file, save_file

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.shipped import MODEL_DIR
from bvpo_analysis.preferences import pair_to_row, read_pairs, shipped_pairs
from bvpo_analysis.preferences.__main__ import main as preferences
from bvpo_analysis.preferences.shipped import pairs_path
from bvpo_analysis.report.__main__ import main as report

GOOD = str(pairs_path("style"))
TURN = {"role": "assistant", "content": "x", "reasoning_content": "t"}


def rows():
    return [pair_to_row(pair) for pair in shipped_pairs("style", limit=6)]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a command in a folder of its own and hold it to the contract; returns what it printed."""

    def run(main, argv, code=(2,)):
        before = contents(tmp_path)
        assert main([str(word) for word in argv]) in code
        printed = capsys.readouterr()
        assert contents(tmp_path) == before, "something was written"
        for stream in printed:
            assert "Traceback" not in stream
        error = printed.err.rsplit("\r", 1)[-1]  # a progress bar wipes itself out
        if error:
            assert error.startswith("error: "), error
            assert error.count("\n") == 1, error
            assert len(error) < 700, error
        return printed

    return run


# --- files of pairs: every command that reads one --------------------------------------------------------------


def changed(**fields):
    """The third of six rows with other fields; None deletes one."""

    def write(path):
        data = rows()
        data[2].update(fields)
        data[2] = {key: value for key, value in data[2].items() if value is not DELETE}
        path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")

    return write


DELETE = object()


def line(text):
    """The third of six lines replaced by a text or by bytes."""

    def write(path):
        lines = [json.dumps(row).encode() for row in rows()]
        lines[2] = text.encode() if isinstance(text, str) else text
        path.write_bytes(b"\n".join(lines) + b"\n")

    return write


def whole(content):
    """The whole file is this."""
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut_off(path):
    path.write_text("\n".join(json.dumps(row) for row in rows())[:-40], encoding="utf-8")


def completion(content, **more):
    return [{**TURN, "content": content, **more}]


FILES: dict[str, tuple[Callable, str]] = {
    # name: (how to write the file, what the message says; {at} is the place of the third line)
    "no such file": (lambda path: None, "no such file; give --data a JSONL file"),
    "a folder": (lambda path: path.mkdir(), "is a folder, no such file"),
    "empty": (whole(""), "no preference pairs in the file; expected one JSON object per line"),
    "blank lines": (whole("\n \n\r\n"), "no preference pairs in the file"),
    "an empty list": (whole("[]"), "no preference pairs in the file"),
    "broken JSON": (line('{"prompt_id": "q", '), r"{at}: not a JSON object \(.* at column \d+\)"),
    "single quotes": (line("{'prompt_id': 'q'}"), "{at}: not a JSON object"),
    "cut off": (cut_off, r"6: not a JSON object"),
    "a cut-off list": (lambda path: path.write_text(json.dumps(rows())[:-9]), ":1: item 6 of the list is not"),
    "CSV": (whole("prompt,chosen,rejected\nx,a,b\n"), ":1: not a JSON object"),
    "a list on a line": (line("[1, 2]"), "{at}: expected a JSON object, got list"),
    "a number on a line": (line("7"), "{at}: expected a JSON object, got int"),
    "nested without end": (line('{"a":' * 20_000), "{at}: not a JSON object"),
    "a number of 5000 digits": (line('{"prompt_id": ' + "9" * 5000 + "}"), "{at}: not a JSON object .*digits"),
    "a key twice": (line('{"prompt_id": "a", "prompt_id": "b"}'), "{at}: .*key 'prompt_id' appears twice"),
    "latin-1": (
        line("ärger".encode("latin-1")),
        "{at}: not UTF-8 text .byte 1 of the line.; save the",
    ),
    "UTF-16": (whole(json.dumps({"prompt": "x"}).encode("utf-16")), ":1: not UTF-8 text"),
    "a pickle": (whole(b"\x80\x04\x95\x0a\x00"), ":1: not UTF-8 text"),
    "a line of 10 MB": (line("x" * 10_000_000), "{at}: not a JSON object"),
    "a field of 10 MB": (changed(prompt="x" * 10_000_000), "{at}: field 'prompt': expected a non-empty list"),
    "an unknown field": (changed(rewards=[1]), "{at}: unknown field 'rewards'; put provenance under 'meta'"),
    "a missing field": (changed(rejected=DELETE), "{at}: field 'rejected' is missing"),
    "another format": (changed(prompt_id=DELETE), "{at}: field 'prompt_id' is missing"),
    "a prompt that is a number": (changed(prompt=5), "{at}: field 'prompt': expected a non-empty list.*got 5"),
    "a prompt that is text": (changed(prompt="x"), "{at}: field 'prompt': expected a non-empty list"),
    "an empty prompt": (changed(prompt=[]), "{at}: field 'prompt': expected a non-empty list"),
    "an empty message": (changed(prompt=[{"role": "user", "content": ""}]), "'prompt': expected a non-empty string"),
    "an unknown role": (changed(prompt=[{"role": "human", "content": "x"}]), "messages with a role among system"),
    "a prompt_id that is a number": (changed(prompt_id=3), "{at}: field 'prompt_id': expected a non-empty string"),
    "a repeated prompt_id": (
        changed(prompt_id=rows()[0]["prompt_id"]),
        "{at}: prompt_id .* repeats line 1",
    ),
    "text for a list": (changed(chosen="yes"), "{at}: field 'chosen': expected a list of one assistant message"),
    "two messages": (changed(chosen=[TURN, TURN]), "{at}: field 'chosen': expected a list of one"),
    "an answer that is a number": (changed(chosen=completion(4)), "{at}: field 'chosen': expected a non-empty string"),
    "an empty answer": (changed(chosen=completion("")), "{at}: field 'chosen': expected a non-empty string"),
    "a null trace": (changed(chosen=completion("a", reasoning_content=None)), "{at}: .*'chosen': .*reasoning_content"),
    "an unclosed trace": (changed(chosen=completion("<think>so")), "{at}: .*a trace that closes .*more tokens"),
    "tags in an answer": (changed(chosen=completion("a</think>b")), "{at}: .*the trace under reasoning_content"),
    "tags in a trace": (changed(prior_traces=["<think>"]), "{at}: .*'prior_traces': .*without <think> tags"),
    "equal answers": (changed(rejected=rows()[2]["chosen"]), "{at}: chosen and rejected answers are the same"),
    "equal empty answers": (changed(empty_rejected=rows()[2]["empty_chosen"]), "{at}: .* are the same .*drop the row"),
    "one empty answer": (changed(empty_chosen=DELETE), "{at}: .*must be given together"),
    "an empty answer with a trace": (changed(empty_chosen=[TURN]), "{at}: .*expected reasoning_content null"),
    "traces that are text": (changed(chosen_traces="t"), "{at}: field 'chosen_traces': expected a list of traces"),
    "a score that is NaN": (changed(score_chosen=float("nan")), "{at}: .*'score_chosen': expected a finite number"),
    "a score that is text": (changed(score_rejected="1"), "{at}: .*'score_rejected': expected a finite number"),
    "meta that is a list": (changed(meta=[]), "{at}: field 'meta': expected an object"),
    "a temperature in words": (changed(meta={"temperature": "hot"}), "{at}: .*'meta.temperature': expected a finite"),
    "log-probabilities in a list": (changed(meta={"sampler_log_prob": [1]}), "{at}: .*an object with the keys chosen"),
    "half a surrogate pair": (changed(prompt_id="\ud83d"), "{at}: field 'prompt_id': expected Unicode text"),
    "other columns": (
        lambda path: path.write_text('{"question": "x", "answer": "y"}'),
        ":1: .*format is not known",
    ),
    "no trace at all": (
        lambda path: path.write_text('{"prompt": "x", "chosen": "a", "rejected": "b"}'),
        "none of 1 rows gives a pair; .* without a reasoning trace|1  .the chosen or the rejected answer comes without",
    ),
    "only ties": (
        lambda path: path.write_text('{"prompt": "x", "all_generated_responses": ["a", "b"], "all_rm_scores": [1, 1]}'),
        r"best and worst score are equal",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_by_every_command_that_reads_one(name, tmp_path, refused):
    write, says = FILES[name]
    path = tmp_path / "pairs.jsonl"
    write(path)
    says = says.replace("{at}", re.escape(f"{path}:3"))
    commands = [
        (report, ["--data", path, "--traces", 1, "--output-dir", tmp_path / "out"]),
        (preferences, ["merge", path, "--output", tmp_path / "out.jsonl"]),
        (preferences, ["export-trl", path, "--alpha", 0.5, "--output", tmp_path / "out.jsonl"]),
    ]
    for main, argv in commands:
        printed = refused(main, argv)
        assert printed.out == ""
        assert re.search(says, printed.err), printed.err
    printed = refused(preferences, ["validate", path], code=(1, 2))
    shown = printed.err or printed.out
    assert re.search(says, shown) or "usable pairs" in shown, shown
    assert printed.err or printed.out.splitlines()[-1] == "not usable as it is"
    assert max(map(len, shown.splitlines())) < 500


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(row).encode() for row in rows()) + b"\r\n")
    assert read_pairs(path) == shipped_pairs("style", limit=6)


# --- models ---------------------------------------------------------------------------------------------------


def drop(name):
    return lambda folder: (folder / name).unlink()


def overwrite(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def edit(name, **fields):
    def change(folder):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, **fields}))

    return change


def truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def pickle_only(folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def other_tokenizer(folder):
    family_tokenizer("qwen3").save_pretrained(folder)


def template(text):
    def change(folder):
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")

    return change


def no_template(folder):
    (folder / "chat_template.jinja").unlink()
    values = json.loads((folder / "tokenizer_config.json").read_text())
    values.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def not_a_number(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


MODELS: dict[str, tuple[Callable, str]] = {
    "no folder": (shutil.rmtree, "no reasoning model could be loaded .*no such folder"),
    "an empty folder": (lambda folder: [p.unlink() for p in folder.iterdir()], "no reasoning model could be loaded"),
    "no configuration": (drop("config.json"), "no reasoning model could be loaded"),
    "a broken configuration": (overwrite("config.json", b"{"), "no reasoning model could be loaded"),
    "an unknown architecture": (edit("config.json", model_type="rnn9"), "no reasoning model could be loaded .*rnn9"),
    "weights of other sizes": (
        edit("config.json", intermediate_size=64),
        "do not fit their configuration",
    ),
    "weights of more layers": (edit("config.json", num_hidden_layers=2, layer_types=None), "do not fit their config"),
    "no weights": (drop("model.safetensors"), "no reasoning model could be loaded"),
    "truncated weights": (truncate, "no reasoning model could be loaded .*give --model a directory"),
    "garbage for weights": (overwrite("model.safetensors", b"garbage"), "no reasoning model could be loaded"),
    "a pickle for weights": (pickle_only, "weights in pickle format, .*convert them"),
    "no tokenizer": (drop("tokenizer.json"), "could be loaded|tokenizer"),
    "a broken tokenizer": (overwrite("tokenizer.json", b"{}"), "could be loaded|tokenizer"),
    "the tokenizer of another model": (other_tokenizer, "vocabulary|tokens"),
    "no chat template": (no_template, "the tokenizer has no chat template; give one with --chat-template"),
    "a template with an error in it": (template("{% for %}"), "chat template"),
    "a template that refuses": (template("{{ raise_exception('no') }}"), "the chat template refuses the messages"),
    "a template without thinking": (
        template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"),
        "says nothing about a reasoning trace; .*--think-open",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_bad_model_is_refused_by_every_command_that_loads_one(name, tmp_path, refused):
    change, says = MODELS[name]
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    change(folder)
    short = tmp_path / "pairs.jsonl"
    changed()(short)
    commands = [
        (report, ["--model", folder, "--data", short, "--traces", 1, "--output-dir", tmp_path / "out"]),
        (preferences, ["validate", short, "--model", folder]),
    ]
    for main, argv in commands:
        printed = refused(main, argv, code=(1, 2))
        assert printed.out == ""
        assert re.search(says, printed.err), printed.err


def test_weights_that_are_not_numbers_stop_a_report(tmp_path, refused):
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    not_a_number(folder)
    changed()(tmp_path / "pairs.jsonl")
    argv = ["--model", folder, "--data", tmp_path / "pairs.jsonl", "--traces", 1, "--output-dir", tmp_path / "out"]
    assert re.search("nan .*check the weights for NaN", refused(report, argv, code=(1, 2)).err)


def test_data_of_another_model_is_named_with_its_prompt(tmp_path, refused):
    for fields, says in (
        ({"chosen": completion("größer")}, "cannot encode|does not preserve"),
        ({"chosen": completion("a", reasoning_content=" ".join(["a3=3"] * 100))}, "context of 128"),
        ({"chosen": completion("1b.<|end|>")}, "end-of-turn|special|does not preserve|cannot encode"),
    ):
        path = tmp_path / "pairs.jsonl"
        changed(**fields)(path)
        printed = refused(report, ["--data", path, "--traces", 1, "--output-dir", tmp_path / "out"])
        assert re.search(says, printed.err), printed.err
        assert rows()[2]["prompt_id"] in printed.err
        printed = refused(preferences, ["validate", path, "--model", MODEL_DIR], code=(1,))
        assert f"{path}:3: " in printed.out
        refused(preferences, ["export-trl", path, "--alpha", 1, "--output", tmp_path / "o"], code=(0, 2))
        (tmp_path / "o").unlink(missing_ok=True)


# --- options --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """A command line that cannot work: {out} is a path that does not exist, {file} a file, {pairs} good pairs."""

    main: Callable
    argv: str
    says: str
    prompts: str = field(default='{"prompt": "x"}\n')


USAGES = [
    Usage(report, "--data {pairs} --limit -3 --output-dir {out}", "--limit must be at least 1, got -3"),
    Usage(report, "--data {pairs} --limit two --output-dir {out}", "invalid int value: 'two'; see --help"),
    Usage(report, "--data {pairs} --traces 0 --output-dir {out}", "--traces must be a positive number"),
    Usage(report, "--data {pairs} --beta nan --output-dir {out}", "--beta must be a positive number, got nan"),
    Usage(report, "--data {pairs} --shard 3/2 --output-dir {out}", "--shard"),
    Usage(report, "--data {pairs} --shard one --output-dir {out}", "--shard"),
    Usage(report, "--data {pairs} --params ( --output-dir {out}", "--params|regular expression"),
    Usage(report, "--data {pairs} --traces 1 --limit 4 --output-dir {file}/deeper", "cannot be (made|written)"),
    Usage(report, "--data {pairs} --traces 1 --limit 4 --output-dir {file}", "is a file; give --output-dir a folder"),
    Usage(report, "--data {pairs} --dtype int8 --output-dir {out}", "--dtype must be one of"),
    Usage(report, "--data {pairs} --device gpu --output-dir {out}", "--device must be cpu"),
    Usage(report, "--data {pairs} --attention fast --output-dir {out}", "--attention must be one of"),
    Usage(report, "--data {pairs} --think-open <t> --output-dir {out}", "--think-open needs --think-close"),
    Usage(report, "--data {pairs} --chat-template none --output-dir {out}", "none: no such file; give --chat-template"),
    Usage(preferences, "", "arguments are required|see --help"),
    Usage(preferences, "check {pairs}", "invalid choice: 'check'"),
    Usage(preferences, "validate {pairs} --format csv", "unknown format 'csv'; choose among auto, native"),
    Usage(preferences, "validate {pairs} --max-tokens -1 --model {model}", "--max-tokens must be at least 1, got -1"),
    Usage(preferences, "validate {pairs} --max-tokens 9", "--max-tokens needs --model"),
    Usage(preferences, "validate {pairs} --dtype int8", "--dtype must be one of"),
    Usage(preferences, "merge --output {out}", "the following arguments are required: files"),
    Usage(preferences, "merge {pairs} --output {file}", "exists; use --overwrite or another --output"),
    Usage(preferences, "merge {pairs} --output {file}/deeper", "there is no folder"),
    Usage(preferences, "merge {pairs} --output {here}", "is a folder; give --output a file"),
    Usage(preferences, "merge {pairs} --empty-data {pairs} --output {out}", "an answer generated without thinking"),
    Usage(preferences, "export-trl {pairs} --alpha 1.2 --output {out}", "--alpha must be between 0 and 1, got 1.2"),
    Usage(preferences, "export-trl {pairs} --alpha auto --output {out}", "invalid float value: 'auto'"),
    Usage(preferences, "export-trl {pairs} --alpha nan --output {out}", "--alpha must be between 0 and 1, got nan"),
    Usage(preferences, "export-trl {pairs} --alpha 1e-4 --method repeat --output {out}", "more than 100 copies"),
    Usage(preferences, "build {prompts} --output {out}", "give one of --reward"),
    Usage(preferences, "build {prompts} --output {out} --reward json", "--reward must be MODULE:FUNCTION"),
    Usage(preferences, "build {prompts} --output {out} --reward nosuch:f", "No module named 'nosuch'"),
    Usage(preferences, "build {prompts} --output {out} --reward json:nosuch", "has no function 'nosuch'"),
    Usage(preferences, "build {prompts} --output {out} --verifier llm", "--verifier must be one of exact, number"),
    Usage(preferences, "build {prompts} --output {out} --verifier exact", "'reference': expected the right answer"),
    Usage(preferences, "build {prompts} --output {out} --reward-model {here}", "no reward model could be loaded"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps --samples 1", "--samples must be at"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps --shard 3/2", "--shard must be I/N"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps --limit 0", "--limit must be at least 1"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps --resume --overwrite", "exclude each other"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", ":1: no prompt; expected", '{"a": 1}'),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", "is there twice", '"x"\n"x"\n'),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", "no prompts in the file", "\n"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", ":1: expected a JSON object", "5"),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", "expected a non-empty string", '""'),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", "not a JSON object", '{"prompt": '),
    Usage(preferences, "build {prompts} --output {out} --reward json:dumps", "tokenizer cannot encode", '"größer"'),
    Usage(
        preferences,
        "build {prompts} --output {out} --reward json:dumps",
        "leaves nothing of the model's context",
        json.dumps("a3b7" * 64),
    ),
]  # fmt: skip


@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: f"{usage.argv} {usage.prompts.strip()}"[:90])
def test_options_that_cannot_work_are_refused(usage, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs, prompts, file = tmp_path / "pairs.jsonl", tmp_path / "prompts.jsonl", tmp_path / "file"
    changed()(pairs)
    prompts.write_text(usage.prompts, encoding="utf-8")
    file.write_text("mine")
    places = {
        **{"{pairs}": pairs, "{prompts}": prompts, "{file}": file, "{out}": tmp_path / "out"},
        **{"{here}": tmp_path, "{model}": MODEL_DIR},
    }
    argv = []
    for word in usage.argv.split():
        for name, place in places.items():
            word = word.replace(name, str(place))
        argv.append(word)
    printed = refused(usage.main, argv)
    assert printed.out == ""
    assert re.search(usage.says, printed.err), printed.err
    for leftover in ("out", "out.parts", "out.part"):
        assert not (tmp_path / leftover).exists()


def test_debug_shows_the_traceback(tmp_path):
    for main, argv in (
        (report, ["--data", "none.jsonl", "--debug"]),
        (preferences, ["merge", "none.jsonl", "--output", str(tmp_path / "o"), "--debug"]),
        (preferences, ["validate", "none.jsonl", "--debug"]),
    ):
        with pytest.raises(InputError, match="no such file"):
            main(argv)
