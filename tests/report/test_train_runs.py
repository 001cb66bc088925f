"""Runs of the trainer in a report: read from their folders, shown as they were logged, and every wrong folder."""

import csv
import json
import shutil

import pytest
import torch
from scipy import stats

from bvpo_analysis.errors import InputError
from bvpo_analysis.report.__main__ import main
from bvpo_analysis.report.config import ReportConfig
from bvpo_analysis.report.train_runs import held_out, probe_rows, read_runs, train_runs_section, weight_sentence
from bvpo_analysis.report.trained import StudyTables, trained_sections
from bvpo_analysis.training import TrainConfig
from bvpo_analysis.training.run import run_training
from bvpo_analysis.training_study.committed import FOLDER


@pytest.fixture(autouse=True)
def _restore_torch():
    """The command sets global switches of torch; no test may depend on another's."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real run of five steps with two probes and held-out pairs; read only."""
    folder = tmp_path_factory.mktemp("trained") / "mine"
    options = {"regime": "correct", "limit": 32, "held_out": 0.25, "steps": 5, "batch_size": 4, "evaluate_every": 2}
    run_training(TrainConfig(**options, alpha="auto", probe_every=4, probe_pairs=8, lr=1e-3), folder)
    return folder


def lines_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_is_read_as_it_was_logged(trained):
    (run,) = read_runs([trained])
    log = lines_of(trained)
    assert (run["name"], run["method"], run["alpha"], run["data"]) == ("mine", "bvpo", "auto", "correct")
    assert (run["steps"], run["planned"], run["finished"], run["held_out_pairs"]) == (5, 5, True, 8)
    first, last = held_out(run, "eval/loss", 0), held_out(run, "eval/loss", -1)
    assert (first.value, last.value) == (log[0]["eval/loss"], log[-1]["eval/loss"])
    half = stats.t.ppf(0.975, 7) * log[-1]["eval/loss_se"]
    assert (last.ci_low, last.ci_high) == pytest.approx((last.value - half, last.value + half))
    rows = probe_rows(run)
    assert [row[0] for row in rows] == [0, 4, 5]
    assert rows[1][2].value == log[4]["probe/alpha"]
    assert rows[1][2].ci_high == log[4]["probe/alpha_high"]
    assert rows[1][1] == log[4]["alpha"]
    assert "at step 0 and" in weight_sentence(run)
    assert "at step 5; the run took 0." in weight_sentence(run)


def test_a_report_shows_runs_and_tables_that_are_given(trained, tmp_path):
    """Catches a section that is read but not shown, and options that do not replay."""
    study = tmp_path / "tables"
    shutil.copytree(FOLDER, study)
    (study / "accuracy.csv").write_text(
        (FOLDER / "accuracy.csv").read_text().replace("correct,alpha=0.5", "correct,new")
    )
    folder = tmp_path / "report"
    options = ["--limit", "8", "--traces", "2", "--compare", "0", "--train", str(trained), "--from-study", str(study)]
    assert main([*options, "--output-dir", str(folder)]) == 0
    results = json.loads((folder / "results.json").read_text())
    page, words = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert results["training_runs"][0]["name"] == "mine"
    thirteenth, last = results["questions"][12], results["questions"][15]
    assert thirteenth["source"] == last["source"] == "given"
    assert thirteenth["answer"].startswith("In mine the best weight of a batch is ")
    assert "read from runs or tables that were given" in words
    assert "equal mix" not in last["answer"]
    assert "g_t alone" in last["answer"]
    assert 'id="train-runs"' in page
    assert "gradients at the probes" in page
    with (folder / "figures" / "train_runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"mine"}
    assert float(rows[-1]["eval/loss"]) == lines_of(trained)[-1]["eval/loss"]
    config = ReportConfig.from_yaml(folder / "config.yaml")
    assert config.train == (str(trained),)
    assert main(["--from", str(folder), "--output-dir", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_runs_with_the_same_folder_name_are_told_apart(trained, tmp_path):
    other = tmp_path / "mine"
    shutil.copytree(trained, other)
    assert [run["name"] for run in read_runs([trained, other])] == [str(trained), str(other)]


def test_an_unbounded_weight_and_a_run_without_probes(trained, tmp_path):
    """Catches an interval without ends that is shown as if there were none, and rows for probes that were not made."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    log = lines_of(folder)
    log[4] |= {"probe/alpha_low": None, "probe/alpha_high": None}
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    cell = train_runs_section(read_runs([folder])).tables[1].rows[1][3]
    assert (cell["ci_low"], cell["ci_high"], cell["se"]) == (None, None, 0.0)
    bare = [{k: v for k, v in line.items() if not k.startswith(("probe/", "eval/"))} for line in log]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    section = train_runs_section(read_runs([folder]))
    assert len(section.tables) == 1
    assert section.text == ()
    assert section.tables[0].rows[0][5] is None


def test_a_study_without_probes_or_rankings_is_shown(tmp_path):
    """Catches tables that a study had no rows for, taken for a folder that is not one."""
    study = tmp_path / "tables"
    shutil.copytree(FOLDER, study)
    for name in ("alpha_path", "rankings", "overhead", "equal_tokens"):
        (study / f"{name}.csv").unlink()
    sections = trained_sections(StudyTables("correct", study).require())
    assert [section.anchor for section in sections] == ["training", "training_methods", "training_gradients"]
    shutil.copytree(FOLDER, other := tmp_path / "other")
    (other / "sweep.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column"):
        StudyTables("correct", other).require()


def test_an_unfinished_run_says_so(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"finished": False, "kept_step": None}))
    assert train_runs_section(read_runs([folder])).tables[0].rows[0][4] == "5 of 5, unfinished"
    (folder / "manifest.json").write_text(json.dumps(manifest | {"kept_step": 2}))
    assert train_runs_section(read_runs([folder])).tables[0].rows[0][4] == "5 of 5, weights of step 2 kept"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: shutil.rmtree(f), "not the folder of a training run (no config.yaml)"),
        (lambda f: (f / "manifest.json").unlink(), "not the folder of a training run (no manifest.json)"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json: not valid JSON"),
        (lambda f: (f / "log.jsonl").unlink(), "log.jsonl: not there yet"),
        (lambda f: (f / "log.jsonl").write_text('{"step": 0, "loss": 1}\n{"step"'), "log.jsonl:2: not valid JSON"),
        (lambda f: (f / "log.jsonl").write_text(""), "log.jsonl: no finished step"),
        (lambda f: (f / "log.jsonl").write_text("5\n"), "log.jsonl:1: not a JSON object"),
        (lambda f: (f / "log.jsonl").write_text('{"loss": 1}\n'), "log.jsonl:1: no line of a training log"),
        (lambda f: (f / "log.jsonl").write_bytes(b"\xff\xfe\x00"), "log.jsonl: cannot be read as text"),
        (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json: not a JSON object"),
    ],
)
def test_what_is_no_run_is_refused_before_anything_is_written(trained, tmp_path, spoil, says, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    spoil(folder)
    assert main(["--limit", "8", "--train", str(folder), "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_study_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no sweep\.csv; give --from-study the folder"):
        StudyTables("correct", tmp_path).require()
    study = tmp_path / "tables"
    shutil.copytree(FOLDER, study)
    (study / "sweep.csv").write_text("")
    with pytest.raises(InputError, match=r"sweep\.csv: not a table of a training study"):
        StudyTables("correct", study).require()
    shutil.copytree(FOLDER, study := tmp_path / "other")
    (study / "sweep.csv").write_text("regime,optimiser,alpha\nstyle,sgd,0.5\n")
    with pytest.raises(InputError, match="no runs of the regime 'correct'; it has style"):
        StudyTables("correct", study).require()
    with pytest.raises(InputError, match="drop --data"):
        ReportConfig(data="pairs.jsonl", from_study="tables")
