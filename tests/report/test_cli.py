"""``python -m bvpo_analysis.report``: the run folder, repeating, resuming and replaying it, and every wrong input."""

import csv
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.lrm.shipped import MODEL_DIR
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.preferences.shipped import pairs_path
from bvpo_analysis.report import build
from bvpo_analysis.report.__main__ import main
from bvpo_analysis.report.config import ReportConfig
from bvpo_analysis.scores.blocks import BlockStore
from bvpo_analysis.study import Study

SMALL = ["--limit", "8", "--traces", "2", "--compare", "4"]
PROMISED = [
    "blocks",
    "config.yaml",
    "figures",
    "manifest.json",
    "per_pair.csv",
    "report.html",
    "report.md",
    "results.json",
]


@pytest.fixture(autouse=True)
def _restore_torch(monkeypatch):
    """The command sets global switches of torch; no test may depend on another's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out what is drawn; numbers and files are what a test then looks at."""
    monkeypatch.setattr(build, "write_figures", lambda results, folder: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(build, "render_html", lambda results: "<html></html>")


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def core(folder):
    """results.json without what may differ between equal runs."""
    results = strict_json(folder / "results.json")
    results["cost"].pop("seconds")
    results["cost"].pop("peak_memory_bytes")
    return results


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A whole small run, with its printed output; read only."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([*SMALL, "--output-dir", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def fails(capsys, tmp_path):
    """Run, expect one line ``error: ...`` with the exit code, and no folder; returns the line."""

    def run(*argv, code=2, folder=None):
        folder = folder or tmp_path / "out"
        before = contents(folder) if folder.is_dir() else None
        assert main([*map(str, argv), "--output-dir", str(folder)]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("error: "), printed.err
        assert (contents(folder) if folder.is_dir() else None) == before
        return printed.err

    return run


# --- a whole run --------------------------------------------------------------------------------------------


def test_the_promised_files_appear_and_the_path_is_printed(first):
    folder, printed = first
    assert sorted(p.name for p in folder.iterdir()) == PROMISED
    figures = sorted(p.name for p in (folder / "figures").iterdir())
    assert len(figures) == 12
    for name in {Path(f).stem for f in figures}:
        assert {f"{name}.pdf", f"{name}.png", f"{name}.csv"} <= set(figures)
    assert not list(folder.rglob("*.part"))
    assert all(p.stat().st_size > 0 for p in folder.rglob("*") if p.is_file())
    assert printed.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "alpha_star.population.B16.K1.kappa1" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 100


def test_results_are_strict_json_and_say_what_they_refer_to(first, lrm):
    results = strict_json(first[0] / "results.json")
    assert results["schema_version"] == 3
    assert results["config"]["limit"] == 8
    assert results["headline"]["alpha"]["name"] == "alpha_star.population.B16.K1.kappa1"
    assert results["model"]["fingerprint"] == lrm.fingerprint
    assert results["model"]["parameters"] == sum(p.numel() for p in lrm.model.parameters())
    assert results["data"]["pairs"] == 8
    assert results["data"]["traces_per_answer"] == 2
    assert results["data"]["empty_answers_own"] == 8
    assert results["exact"]["checked"] == 8
    assert results["exact"]["largest_deviation"] < 1e-4
    assert any("Only 8 prompts" in alert["text"] for alert in results["alerts"])


def test_results_are_those_of_the_python_interface(first, lrm):
    results = strict_json(first[0] / "results.json")
    pairs = build.choose_pairs(shipped_pairs("correct"), 8, 0)
    study = Study.from_pairs(lrm, pairs, traces=2)
    alpha = study.optimal_alpha(batch_size=16)
    assert results["headline"]["alpha"]["estimate"]["value"] == alpha.estimate.value
    assert results["headline"]["alpha"]["recommended"] == alpha.recommended
    assert results["moments"]["var_t"]["value"] == float(study.whole.var_t[0])


def test_the_table_of_pairs_has_a_row_per_pair(first):
    with (first[0] / "per_pair.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = build.choose_pairs(shipped_pairs("correct"), 8, 0)
    assert [row["prompt_id"] for row in rows] == [pair.prompt_id for pair in pairs]
    assert all(float(row["log_prob_chosen"]) < 0 and float(row["trace_variance"]) >= 0 for row in rows)


def test_the_manifest_names_everything_the_numbers_depend_on(first, lrm):
    manifest = strict_json(first[0] / "manifest.json")
    assert manifest["model"] == lrm.fingerprint
    assert manifest["dtype"] == "torch.float32"
    assert manifest["attention"] == "eager"
    assert manifest["threads"] == 1
    assert manifest["empty_mode"] == "prefilled"
    assert manifest["think_format"]["close"] == "</think>"
    assert set(manifest["versions"]) >= {"python", "torch", "transformers", "numpy"}
    assert manifest["wall_seconds"] > 0


# --- again ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pictures")
def test_two_runs_are_bit_identical(first, tmp_path):
    assert main([*SMALL, "--output-dir", str(tmp_path / "b")]) == 0
    assert core(tmp_path / "b") == core(first[0])
    for name in ("per_pair.csv", "config.yaml", "blocks/gram-000000.safetensors", "blocks/totals-1of1.npz"):
        assert (tmp_path / "b" / name).read_bytes() == (first[0] / name).read_bytes()


@pytest.mark.usefixtures("no_pictures")
def test_a_config_replays_to_the_same_numbers(tmp_path):
    options = [
        *["--regime", "style", "--loss", "ipo", "--beta", "0.3", "--batch-size", "4", "--kappa", "0.5", "--seed", "3"],
        *["--empty-mode", "generated", "--params", r"layers\.0", "--engine", "loop", *SMALL],
    ]
    assert main([*options, "--output-dir", str(tmp_path / "a")]) == 0
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["empty_mode"] == "generated"
    assert main(["--from", str(tmp_path / "a" / "config.yaml"), "--output-dir", str(tmp_path / "b")]) == 0
    assert core(tmp_path / "b") == core(tmp_path / "a")
    results = core(tmp_path / "a")
    assert results["headline"]["alpha"]["name"] == "alpha_star.population.B4.K1.kappa0.5"
    assert results["config"] == config
    assert {k: v for k, v in config.items() if k not in ("model", "ref_model", "data")} == {
        **{"regime": "style", "seed": 3, "loss": "ipo", "beta": 0.3, "batch_size": 4, "traces": 2, "kappa": 0.5},
        **{"empty_mode": "generated", "params": r"layers\.0", "limit": 8, "compare": 4, "engine": "loop"},
        **{"train": [], "from_study": None},
        **ModelOptions().plain(),
    }
    assert results["model"]["groups"] == ["layer 0"]


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_folder_is_refused_resumed_or_overwritten(first, tmp_path, fails, capsys):
    folder = tmp_path / "run"
    shutil.copytree(first[0], folder)
    assert "is not empty; use --resume, --overwrite or another --output-dir" in fails(*SMALL, folder=folder)
    line = fails("--limit", 8, "--traces", 1, "--resume", folder=folder)
    assert "holds a run with other options (traces: 2 there, 1 here" in line
    (folder / "results.json").unlink()
    (folder / "report.html").unlink()
    assert main([*SMALL, "--resume", "--output-dir", str(folder)]) == 0
    assert core(folder) == core(first[0])
    assert main(["--limit", "6", "--params", r"^model\.norm", "--overwrite", "--output-dir", str(folder)]) == 0
    assert core(folder)["data"]["pairs"] == 6
    assert sorted(p.name for p in folder.iterdir()) == PROMISED
    capsys.readouterr()
    (folder / "notes.txt").write_text("mine")
    line = fails("--limit", 6, "--traces", 1, "--overwrite", folder=folder)
    assert "holds 'notes.txt', which no run has made" in line


def test_a_folder_that_no_run_has_made_is_never_touched(tmp_path, fails):
    folder = tmp_path / "thesis"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "mine.txt").write_text("years of work")
    for option in ("--overwrite", "--resume"):
        assert "was not made by a run (no config.yaml of one)" in fails(*SMALL, option, folder=folder)
    (tmp_path / "file").write_text("x")
    assert main([*SMALL, "--output-dir", str(tmp_path / "file")]) == 2
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.usefixtures("no_pictures")
def test_overwrite_clears_what_a_killed_run_left(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(ReportConfig(limit=6, traces=1).to_yaml())
    (folder / "report.html.part").write_text("<html>")
    assert main(["--limit", "6", "--params", r"^model\.norm", "--overwrite", "--output-dir", str(folder)]) == 0
    assert sorted(p.name for p in folder.iterdir()) == PROMISED


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_run_resumes_to_the_same_numbers(tmp_path, monkeypatch, capsys):
    options = ["--limit", "20", "--traces", "1", "--params", r"^model\.norm"]
    write, calls = BlockStore.write, []

    def dying(self, *args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        write(self, *args)

    monkeypatch.setattr(BlockStore, "write", dying)
    folder = tmp_path / "a"
    assert main([*options, "--output-dir", str(folder)]) == 1
    line = capsys.readouterr().err.split("interrupted; ")[-1]
    assert "--output-dir" in line
    assert "--resume" in line
    monkeypatch.setattr(BlockStore, "write", write)
    assert not (folder / "results.json").exists()
    assert main([*options, "--resume", "--output-dir", str(folder)]) == 0
    assert main([*options, "--output-dir", str(tmp_path / "b")]) == 0
    assert core(folder) == core(tmp_path / "b")


@pytest.mark.usefixtures("no_pictures")
def test_the_default_folder_is_dated_and_latest_points_at_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--limit", "4", "--traces", "1", "--regime", "valid", "--params", r"^model\.norm"]) == 0
    (folder,) = [p for p in (tmp_path / "runs").iterdir() if not p.is_symlink()]
    assert folder.name.endswith("Z-report-valid")
    assert (tmp_path / "runs" / "latest").resolve() == folder
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {Path('runs') / folder.name / 'report.html'}"


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--dry-run"]) == 0
    assert main(["--traces", "exact", "--limit", "2", "--dry-run", "--output-dir", "x"]) == 0
    assert not list(tmp_path.iterdir())
    printed = capsys.readouterr().out
    assert "pairs 8, " in printed
    assert "distinct sequences 100, " in printed  # two pairs of 24 traces per side and two empty ones
    assert printed.count("nothing was written") == 2
    assert main(["--traces", "9", "--dry-run"]) == 2


# --- exact, off the reference ------------------------------------------------------------------------------


def copy_of_the_box(folder, change=None):
    """A copy of the model in the box, its weights changed in place by ``change``."""
    shutil.copytree(MODEL_DIR, folder)
    if change is not None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def perturb(weights):
    generator = torch.Generator().manual_seed(1)
    for weight in weights.values():
        weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=generator)


@pytest.mark.usefixtures("no_pictures")
def test_exact_traces_serve_a_model_off_its_reference(tmp_path, lrm, fails, capsys):
    model = copy_of_the_box(tmp_path / "model", perturb)
    options = ["--model", model, "--ref-model", MODEL_DIR, "--data", pairs_path("correct"), "--limit", 4]
    assert "two or more traces per answer" in fails(*options, "--traces", 1)
    folder = tmp_path / "exact"
    assert main([*map(str, options), "--traces", "exact", "--output-dir", str(folder)]) == 0
    capsys.readouterr()
    results = core(folder)
    assert results["model"]["fingerprint"] != lrm.fingerprint
    alpha = results["headline"]["alpha"]["estimate"]
    assert alpha["method"] == "exact"
    assert alpha["ci_low"] == alpha["value"] == alpha["ci_high"]
    assert results["moments"]["bias_t_sq"]["value"] > 1e-9  # off the reference g_t is biased
    at = tmp_path / "at"
    assert main(["--limit", "4", "--traces", "exact", "--output-dir", str(at)]) == 0
    moments = core(at)["moments"]
    assert moments["bias_t_sq"]["value"] <= 1e-9 * moments["var_t"]["value"]  # at the reference it is not
    sampled = tmp_path / "sampled"
    assert main([*map(str, options), "--traces", "2", "--output-dir", str(sampled)]) == 0
    found = core(sampled)
    assert not any(row["name"].startswith("alpha_star.per_prompt") for row in found["targets"])
    assert "Off the reference the marginal gradient is estimated" in found["questions"][1]["answer"]


# --- wrong input -------------------------------------------------------------------------------------------


def rows():
    return [json.loads(line) for line in pairs_path("correct").read_text().splitlines()[:6]]


def write_rows(path, data):
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return path


def test_data_that_is_missing_malformed_or_empty(tmp_path, fails):
    line = fails("--data", tmp_path / "none.jsonl")
    assert "none.jsonl: no such file; give --data a JSONL file of preference pairs" in line
    path = write_rows(tmp_path / "bad.jsonl", rows())
    path.write_text(path.read_text() + '{"prompt_id": \n')
    assert f"{path}:7: not a JSON object" in fails("--data", path)
    path.write_text("\n\n")
    assert "no preference pairs in the file" in fails("--data", path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in fails("--data", path)
    assert "at least four preference pairs are needed" in fails("--data", write_rows(path, rows()[:3]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rejected": "chosen"}, ":3: chosen and rejected answers are the same"),
        (
            {"chosen": [{"role": "assistant", "content": "<think>c2=2 a3", "reasoning_content": None}]},
            ":3: field 'chosen': expected a trace that closes",
        ),
        ({"score_chosen": float("nan")}, ":3: field 'score_chosen': expected a finite number"),
        ({"prompt_id": "correct-00001"}, ":3: prompt_id 'correct-00001' repeats line 1"),
        ({"reward": 1}, ":3: unknown field 'reward'; put provenance under 'meta'"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, fails, change, says):
    data = rows()
    assert data[0]["prompt_id"] == "correct-00001"
    data[2].update({k: data[2][v] if isinstance(v, str) and v in data[2] else v for k, v in change.items()})
    assert says in fails("--data", write_rows(tmp_path / "pairs.jsonl", data))


def test_more_traces_than_there_are(fails):
    line = fails("--traces", 5, "--limit", 8)
    assert "4 posterior trace(s) per answer, but --traces 5 asks for more; use --traces 4" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--batch-size", 0], "--batch-size must be at least 1, got 0"),
        (["--batch-size", "x"], "--batch-size: invalid int value: 'x'"),
        (["--batch-size", 2.5], "--batch-size: invalid int value: '2.5'"),
        (["--traces", 2.5], "--traces: expected a positive number or 'exact', got '2.5'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--kappa", 0], "--kappa must be a positive number, got 0"),
        (["--kappa", -1], "--kappa must be a positive number, got -1"),
        (["--kappa", "nan"], "--kappa must be a positive number, got nan"),
        (["--beta", 0], "--beta must be a positive number, got 0"),
        (["--beta", "nan"], "--beta must be a positive number, got nan"),
        (["--beta", "inf", *SMALL], "--beta must be a positive number, got inf"),
        (["--kappa", "inf", *SMALL], "--kappa must be a positive number, got inf"),
        (["--seed", -1, "--limit", 8], "--seed must not be negative, got -1"),
        (["--limit", 0], "--limit must be at least 1, got 0"),
        (["--limit", -3], "--limit must be at least 1, got -3"),
        (["--limit", 3], "at least four preference pairs are needed for an interval, got 3"),
        (["--traces", 0], "--traces must be a positive number or 'exact', got 0"),
        (["--regime", "vaild"], "--regime must be one of style, valid, correct, got 'vaild'"),
        (["--loss", "kto"], "--loss must be one of dpo, ipo, simpo, got 'kto'"),
        (["--loss", "simpo"], "use --loss dpo or ipo, or --traces exact"),
        (["--empty-mode", "none"], "--empty-mode must be prefilled or generated, got 'none'"),
        (["--engine", "fast"], "choose among auto, vmap, hooks, loop"),
        (["--params", "lora"], "--params 'lora' matches no parameter"),
        (["--params", "("], "--params '(' is not a regular expression"),
        (["--model", "somewhere"], "--model needs --data"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--resume", "--merge"], "--resume and --merge exclude each other"),
        (["--shard", "1/2", "--merge"], "--shard and --merge exclude each other; a shard joins the run"),
        (["--shard", "3/2"], "--shard 3/2: shards of 2 are numbered 1/2 to 2/2"),
        (["--shard", "0/2"], "--shard 0/2: shards of 2 are numbered 1/2 to 2/2"),
        (["--shard", "half"], "--shard expects i/n, such as 2/3 for the second of three processes, got 'half'"),
        (["--dtype", "int8"], "--dtype must be one of float32, float64, bfloat16, float16, got 'int8'"),
        (["--device", "tpu"], "--device must be cpu, cuda, cuda:N"),
        (["--think-empty", "x"], "--think-empty needs --think-open and --think-close"),
        (["--from", "none.yaml"], "none.yaml: no such file; give --from the config.yaml of a run"),
        (["--from", "none.yaml", "--beta", 1], "--from takes a whole run or configuration; drop --beta"),
        (["--from", "none.yaml", "--quick"], "--from takes a whole run or configuration; drop --quick"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options(fails, options, says):
    assert says in fails(*options)


@pytest.mark.parametrize(
    ("options", "what"),
    [(["--resume"], "the interrupted run"), (["--merge"], "the shards"), (["--shard", "1/2"], "all shards")],
)
def test_continuing_needs_to_know_where(capsys, options, what):
    assert main(options) == 2
    assert capsys.readouterr().err == f"error: {options[0]} needs --output-dir, the folder of {what}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "not a mapping of options"),
        ("betta: 0.1", "unknown option 'betta'; known are attention, batch_size, beta"),
        ("beta: [", "not valid YAML"),
        ("beta: big", "an option has a value of the wrong type"),
        ("beta: -1", "--beta must be a positive"),
        ("traces: many", "--traces must be a positive number or 'exact', got 'many'"),
        ("limit: 5.5", "--limit must be a whole number, got 5.5"),
        ("seed: x\nlimit: 8", "--seed must be a whole number"),
    ],
)
def test_a_config_that_cannot_be_replayed(tmp_path, fails, text, says):
    (tmp_path / "config.yaml").write_text(text)
    assert says in fails("--from", tmp_path / "config.yaml")


DATA = ["--data", pairs_path("correct"), "--limit", 8, "--traces", 1]


def test_models_that_cannot_be_loaded(tmp_path, fails):
    line = fails("--model", "no/such-model", *DATA)
    assert "no reasoning model could be loaded from 'no/such-model'" in line
    assert "give --model a directory that holds config.json" in line
    assert "no reasoning model could be loaded" in fails("--ref-model", tmp_path, *SMALL)
    folder = copy_of_the_box(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in fails("--model", folder, *DATA)


def spoil(weights):
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")


def test_a_model_that_gives_nan_is_a_failure_and_leaves_nothing(tmp_path, capsys):
    model = copy_of_the_box(tmp_path / "model", spoil)
    assert main([*map(str, ["--model", model, *DATA]), "--output-dir", str(tmp_path / "out")]) == 1
    # The progress bar is wiped with a carriage return before the error is written.
    error = capsys.readouterr().err.split("\r")[-1]
    assert error.startswith("error: ")
    assert "the model gives log pi = nan" in error
    assert "check the weights for NaN or infinity" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"role": "system", "content": "a3b7c2d9"},
        {"role": "user", "content": "What is 7 x 8?"},
    ],
    ids=["a role that the template refuses", "letters that the tokenizer lacks"],
)
def test_data_that_the_model_cannot_read(tmp_path, fails, content):
    data = rows()
    data[3]["prompt"] = [content]
    path = write_rows(tmp_path / "pairs.jsonl", data)
    line = fails("--data", path, "--traces", 1)
    assert data[3]["prompt_id"] in line


def test_exact_traces_need_the_task_in_the_box(tmp_path, fails):
    data = rows()
    data[3]["prompt"][0]["content"] = "a3b7"
    line = fails("--data", write_rows(tmp_path / "pairs.jsonl", data), "--traces", "exact")
    assert "traces can be enumerated for the task of the model in the box only" in line
    assert "use --traces with a number" in line


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="--beta must be a positive"):
        main(["--beta", "-1", "--debug", "--output-dir", str(tmp_path / "out")])


# --- as a process ------------------------------------------------------------------------------------------


def process(*argv, cwd):
    root = str(Path(build.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bvpo_analysis.report", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_a_process_with_bad_input_exits_with_two_and_one_line(tmp_path):
    done = process("--data", "none.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: none.jsonl: no such file; give --data a JSONL file of preference pairs\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_gives_the_numbers_of_this_process(first, tmp_path):
    done = process(*SMALL, "--output-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert core(tmp_path / "run") == core(first[0])
    assert done.stdout.splitlines()[:-1] == first[1].splitlines()[:-1]
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert html.count("<svg") >= 4
