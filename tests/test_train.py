"""The command line of the trainer: its run folder, resumption, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from families import family_model, family_options, family_pairs

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences import write_pairs
from bvpo_analysis.preferences.shipped import pairs_path, shipped_pairs
from bvpo_analysis.train import main
from bvpo_analysis.training import TrainConfig, train
from bvpo_analysis.training.checkpoints import load_checkpoint

SMALL = ("--limit", "12", "--batch-size", "4", "--held-out", "0.25", "--steps", "2", "--regime", "style")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps, kept for the tests that only read it."""
    folder = tmp_path_factory.mktemp("train") / "run"
    assert main([*SMALL, "--output-dir", str(folder), "--lr", "1e-3"]) == 0
    return folder


def refused(capsys, *arguments, code=2):
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == code
    line = capsys.readouterr().err.rpartition("\r")[2]  # after the progress bar, which is cleared
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_folder(finished):
    assert sorted(p.name for p in finished.iterdir()) == [
        "checkpoint.safetensors",
        "config.yaml",
        "log.jsonl",
        "manifest.json",
        "model",
    ]
    manifest = json.loads((finished / "manifest.json").read_text())
    log = rows(finished)
    assert manifest["finished"]
    assert manifest["steps"] == 2
    assert (manifest["training_pairs"], manifest["held_out_pairs"]) == (9, 3)
    assert len(log) == 3
    assert log[0]["eval/accuracy"] == 0.5
    assert "eval/accuracy" not in log[1]
    assert log[2]["eval/loss"] != log[0]["eval/loss"]


def test_the_saved_model_is_the_trained_one(finished):
    """Catches a model that is saved before its last step, or not moved at all."""
    saved = load_model(finished / "model")
    held = load_checkpoint(finished / "checkpoint.safetensors")
    assert saved.fingerprint == json.loads((finished / "manifest.json").read_text())["model"]
    assert saved.fingerprint != load_model().fingerprint
    for name, value in saved.model.named_parameters():
        assert torch.equal(value, held.parameters[name])


def test_a_configuration_replays_to_the_same_log(finished, tmp_path, capsys):
    again = tmp_path / "again"
    assert main(["--config", str(finished / "config.yaml"), "--output-dir", str(again)]) == 0
    assert (again / "log.jsonl").read_bytes() == (finished / "log.jsonl").read_bytes()
    shown = capsys.readouterr().out
    assert "held-out accuracy" in shown
    assert f"model: {again / 'model'}" in shown
    other = tmp_path / "other"
    assert main(["--config", str(finished / "config.yaml"), "--seed", "1", "--output-dir", str(other)]) == 0
    assert rows(other)[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert rows(other)[0]["logps/chosen"] != rows(finished)[0]["logps/chosen"]


def test_a_finished_run_resumes_to_itself(finished):
    before = (finished / "log.jsonl").read_bytes()
    assert main(["--output-dir", str(finished), "--resume"]) == 0
    assert (finished / "log.jsonl").read_bytes() == before


def test_options_that_differ_are_named(finished, capsys):
    before = {p.name: p.stat().st_mtime_ns for p in finished.iterdir()}
    line = refused(capsys, "--output-dir", finished, "--resume", "--lr", "0.5")
    assert "holds a run with other options (lr: 0.001 there, 0.5 here)" in line
    assert "is not empty; use --resume, --overwrite" in refused(capsys, *SMALL, "--output-dir", finished)
    # What fails before the first step takes nothing from the run that is there.
    line = refused(capsys, *SMALL, "--batch-size", "20", "--output-dir", finished, "--overwrite")
    assert "--batch-size 20 is more than the 9 rows of the data" in line
    assert {p.name: p.stat().st_mtime_ns for p in finished.iterdir()} == before


def test_pairs_that_have_changed_are_named(tmp_path, capsys):
    lines = pairs_path("style").read_text().splitlines()
    data, folder = tmp_path / "pairs.jsonl", tmp_path / "run"
    options = ["--data", data, "--ref-model", "box", "--held-out", "0", "--batch-size", "4", "--steps", "1"]
    data.write_text("\n".join(lines[:8]) + "\n")
    assert main([str(o) for o in (*options, "--output-dir", folder)]) == 0
    data.write_text("\n".join(lines[1:9]) + "\n")
    line = refused(capsys, *options, "--output-dir", folder, "--resume")
    assert "the interrupted run had another set of training pairs; put it back" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alpha", "1.5"], "--alpha must be in [0, 1], got 1.5; --allow-extrapolation accepts other weights"),
        (["--alpha", "half"], "--alpha must be a number or one of auto, kappa"),
        (["--method", "dpo", "--alpha", "0.3"], "--alpha belongs to --method bvpo; drop it with --method dpo"),
        (["--traces", "4"], "--traces belongs to --method multi_trace"),
        (["--ref-model", "no/such/folder"], "no/such/folder"),
        (["--limit", "4", "--batch-size", "16"], "--batch-size 16 is more than the 3 rows of the data"),
        (["--steps", "many"], "argument --steps: invalid int value: 'many'; see --help"),
        (["--resume"], "--resume needs --output-dir"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--config", "no.yaml"], "no.yaml: no such file"),
        (["--lora-rank", "-1"], "--lora-rank must be at least 0, got -1"),
        (["--smoothness", "large"], "--smoothness must be a positive number or 'measured', got 'large'"),
        (["--kappa", "0.5", "--smoothness", "3"], "--kappa and --smoothness exclude each other"),
        (["--gamma", "1"], "--gamma is the margin of --loss simpo"),
        (["--patience", "2", "--held-out", "0"], "--patience needs --held-out"),
        (["--params", "("], "--params '(' is not a regular expression"),
        (
            ["--method", "multi_trace", "--traces", "4", "--combination", "marginal", "--loss", "simpo"],
            "--combination marginal needs a loss of log-ratios, which simpo is not",
        ),
        (
            ["--method", "multi_trace", "--traces", "9", "--combination", "pooled"],
            "has 7 prior traces, 8 are needed",
        ),
    ],
)
def test_what_it_refuses(options, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *options)
    assert not (tmp_path / "runs").exists()


def test_unknown_options_of_a_file_are_named(tmp_path, capsys):
    (tmp_path / "options.yaml").write_text("learning_rate: 0.1\n")
    assert "unknown option 'learning_rate'; known are" in refused(capsys, "--config", tmp_path / "options.yaml")
    for text, says in {
        "lr: fast": "--lr must be a number, got 'fast'",
        "params: 5": "--params must be text, got 5",
        "alpha: true": "--alpha must be a number or the name of a rule, got True",
        "alpha: [1, 2]": "--alpha must be a number or the name of a rule, got [1, 2]",
        "copied_empty: 1": "--copied-empty must be true or false, got 1",
        "steps: 2.5": "--steps must be a whole number, got 2.5",
        "lr: .nan": "--lr must be a positive number, got nan",
        "- lr": "not a mapping of options",
        "lr: [": "not valid YAML",
    }.items():
        (tmp_path / "options.yaml").write_text(text + "\n")
        assert says in refused(capsys, "--config", tmp_path / "options.yaml")


def test_numbers_of_a_file_need_no_point(tmp_path):
    """Catches a learning rate that YAML has read as text."""
    (tmp_path / "options.yaml").write_text("lr: 1e-3\nalpha: 5e-1\n")
    config = TrainConfig.from_yaml(tmp_path / "options.yaml")
    assert (config.lr, config.alpha) == (1e-3, 0.5)


def test_a_trace_that_the_template_would_change_is_refused(tmp_path, capsys):
    """Catches an end of turn inside a trace, after which no model would have written an answer."""
    lines = [json.loads(line) for line in pairs_path("style").read_text().splitlines()[:8]]
    lines[3]["chosen"][-1]["reasoning_content"] += "<|end|>"
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    line = refused(capsys, "--data", tmp_path / "pairs.jsonl", "--ref-model", "box", *SMALL[2:6])
    assert f"prompt {lines[3]['prompt_id']!r}: end-of-turn token" in line


def test_pairs_without_empty_answers_are_refused(tmp_path, capsys):
    lines = [json.loads(line) for line in pairs_path("style").read_text().splitlines()[:8]]
    kept = [{k: v for k, v in row.items() if not k.startswith("empty_")} for row in lines]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    options = ["--data", tmp_path / "pairs.jsonl", "--ref-model", "box", *SMALL[2:6]]
    assert "6 of 6 pairs have no empty-trace answers of their own" in refused(capsys, *options)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path, capsys):
    folder = tmp_path / "run"
    wild = ["--optimiser", "sgd", "--lr", "1e30", "--clip", "none", "--save-every", "1", "--warmup", "0"]
    line = refused(capsys, *SMALL, *wild, "--output-dir", folder, code=1)
    assert line.startswith("error: step 1, batch of prompts style-")
    assert "smaller learning rate" in line
    assert line.endswith("; the checkpoint of step 0 is kept\n")
    held = load_checkpoint(folder / "checkpoint.safetensors")
    assert held.step == 0
    assert all(torch.equal(p, held.parameters[name]) for name, p in load_model().model.named_parameters())
    assert not json.loads((folder / "manifest.json").read_text())["finished"]
    assert not (folder / "model").exists()


def test_a_run_stops_early_when_it_gains_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--steps", "9", "--lr", "1e-12", "--evaluate-every", "1", "--patience", "2"]
    assert main([*SMALL, *options, "--output-dir", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "stopped after 2 of 9 steps: held-out accuracy has not risen for 2 evaluations" in shown
    assert json.loads((folder / "manifest.json").read_text())["steps"] == 2


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "sequences per step     16" in shown
    assert "trained parameters     280368" in shown
    assert list(tmp_path.iterdir()) == []


def test_adapters_are_trained_and_added_to_the_model(tmp_path):
    """Catches base weights that move, adapters that do not, and a saved model without them."""
    pytest.importorskip("peft", reason="peft is not installed: pip install '.[lora]'")
    folder = tmp_path / "run"
    assert main([*SMALL, "--lora-rank", "2", "--lr", "1e-2", "--warmup", "0", "--output-dir", str(folder)]) == 0
    held = load_checkpoint(folder / "checkpoint.safetensors")
    assert held.parameters
    assert all("lora_" in name for name in held.parameters)
    before, after = (dict(m.model.named_parameters()) for m in (load_model(), load_model(folder / "model")))
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "_proj" in name}
    assert rows(folder)[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert rows(folder)[-1]["eval/loss"] != rows(folder)[0]["eval/loss"]
    rank = torch.linalg.matrix_rank((after[min(moved)] - before[min(moved)]).double(), rtol=1e-3)
    assert rank <= 2
    whole = {name: (folder / name).read_bytes() for name in ("log.jsonl", "model/model.safetensors")}
    assert main(["--output-dir", str(folder), "--resume"]) == 0
    assert whole == {name: (folder / name).read_bytes() for name in whole}


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_models_of_other_families_are_trained(family, tmp_path):
    """Catches what only the model in the box has: its names, tied weights, a template with think tags."""
    family_model(family, tmp_path / "model")
    write_pairs(tmp_path / "pairs.jsonl", family_pairs(6, 2))
    loading = [f"--{k.replace('_', '-')}={v}" for k, v in family_options(family, tmp_path).items() if v is not None]
    named = ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "pairs.jsonl"), "--copied-empty", *loading]
    options = ["--batch-size", "4", "--steps", "3", "--lr", "3e-3", "--warmup", "0", "--held-out", "0.3"]
    assert main([*named, *options, "--output-dir", str(tmp_path / "run")]) == 0
    log = rows(tmp_path / "run")
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert log[2]["loss"] < 0.6
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    saved = load_model(tmp_path / "run" / "model", **family_options(family, tmp_path))
    assert saved.fingerprint == manifest["model"] != manifest["start"]


def test_help_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bvpo_analysis.train", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--allow-extrapolation" in done.stdout
    seen = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not {"torch", "transformers", "matplotlib", "pandas"} & seen


def command(*arguments, processes=1):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launch if processes > 1 else []), "-m", "bvpo_analysis.train", *map(str, arguments)]


@pytest.mark.slow
def test_two_hundred_steps_take_less_than_a_minute():
    """40 steps of the default run, in CPU seconds of one thread; wall time depends on what else the machine does."""
    config, lrm, pairs = TrainConfig(steps=40), load_model(), shipped_pairs("correct")
    started = time.process_time()
    train(config, lrm, pairs)
    assert 5 * (time.process_time() - started) < 60


@pytest.mark.slow
def test_two_processes_write_the_log_of_one(tmp_path):
    """Catches logs of one process's share, and two writers of one folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = (*SMALL, "--steps", "3")
    assert main([*options, "--output-dir", str(tmp_path / "1")]) == 0
    two_processes = command(*options, "--output-dir", tmp_path / "2", processes=2)
    subprocess.run(two_processes, env=environment, check=True, timeout=300)
    one, two = rows(tmp_path / "1"), rows(tmp_path / "2")
    assert [set(row) for row in one] == [set(row) for row in two]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose([a[k] for k in sorted(a)], [b[k] for k in sorted(a)], rtol=2e-3, atol=1e-4)
    manifest = json.loads((tmp_path / "2" / "manifest.json").read_text())
    assert (manifest["processes"], manifest["finished"]) == (2, True)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    """Catches state outside the checkpoint, through the command line: killed without warning, then continued."""
    options = [*SMALL, "--steps", 12, "--save-every", 2, "--alpha", "auto", "--evaluate-every", 5]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*map(str, options), "--output-dir", str(whole)]) == 0
    process = subprocess.Popen(command(*options, "--output-dir", killed), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if (killed / "checkpoint.safetensors").exists() and load_checkpoint(
            killed / "checkpoint.safetensors"
        ).step >= 4:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "model").exists()
    assert main(["--output-dir", str(killed), "--resume"]) == 0
    assert (killed / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    ends = [load_model(folder / "model").fingerprint for folder in (whole, killed)]
    assert ends[0] == ends[1]
    assert yaml.safe_load((killed / "config.yaml").read_text()) == yaml.safe_load((whole / "config.yaml").read_text())
