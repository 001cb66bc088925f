"""The doctor finds a healthy model healthy, and names what is wrong with one that is not."""

import copy
from dataclasses import replace

import pytest
import torch
from families import FAMILIES, family_model, family_options, family_pairs

from bvpo_analysis import doctor
from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences import shipped_pairs, write_pairs
from bvpo_analysis.records import Completion
from bvpo_analysis.scores import HooksEngine, VmapEngine

NORM = r"^model\.norm|layers\.0\.self_attn\.q_norm"


@pytest.fixture(scope="module")
def pairs():
    return shipped_pairs("correct", limit=6)


@pytest.fixture
def sick(lrm):
    """A copy of the model in the box, to be harmed."""
    return replace(lrm, model=copy.deepcopy(lrm.model))


def findings(lrm, pairs, parameters=NORM):
    return {check.name: check for check in doctor.examine(lrm, pairs, parameters)}


def failed(checks):
    return {name for name, check in checks.items() if check.status == "fail"}


def test_the_model_in_the_box_is_healthy(capsys):
    assert doctor.main(["--params", NORM]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{len(doctor.CHECKS)} pass, 0 warn, 0 fail"
    assert all(line.startswith("pass  ") for line in printed[:-1])
    assert len(printed) == len(doctor.CHECKS) + 1
    assert any("of 512 turns, 512 written alike" in line for line in printed)


def spoil_forward(lrm, change):
    forward = lrm.model.forward

    def spoilt(ids, **kwargs):
        output = forward(ids, **kwargs)
        output.logits = change(output.logits, ids)
        return output

    lrm.model.forward = spoilt


def test_a_model_that_looks_ahead(sick, pairs):
    spoil_forward(sick, lambda logits, ids: logits * (1 + 0.01 * ids.float().mean(1)[:, None, None]))
    checks = findings(sick, pairs)
    assert {"causality", "padding"} <= failed(checks)
    assert "no causal language model" in checks["causality"].remedy


def test_a_model_whose_rows_see_each_other(sick, pairs):
    spoil_forward(sick, lambda logits, ids: logits * (1 + 0.1 * ids.float().mean() / 50))
    assert "padding" in failed(findings(sick, pairs))


def test_a_model_that_does_not_repeat_itself(sick, pairs):
    spoil_forward(sick, lambda logits, ids: logits + 0.01 * torch.randn_like(logits))
    assert "repeatability" in failed(findings(sick, pairs))


def test_dropout_that_is_on(sick, pairs):
    sick.model.model.layers[1].add_module("drop", torch.nn.Dropout(0.1).train())
    assert failed(findings(sick, pairs)) == {"dropout"}
    sick.model.model.layers[1].drop.eval()
    assert findings(sick, pairs)["dropout"].text == "evaluation mode; 1 dropout modules are off"


def test_weights_that_ought_to_be_tied(sick, pairs):
    sick.model.lm_head.weight = torch.nn.Parameter(sick.model.lm_head.weight.detach().clone(), requires_grad=False)
    checks = findings(sick, pairs)
    assert failed(checks) == {"tied weights"}
    assert "save_pretrained" in checks["tied weights"].remedy


def test_weights_in_bfloat16_are_a_warning(pairs):
    checks = findings(load_model(dtype="bfloat16"), pairs)
    assert not failed(checks)
    assert checks["precision"].status == "warn"
    assert "bfloat16 against float64" in checks["precision"].text
    assert checks["precision"].remedy == "use --dtype float32"


def test_a_damaged_weight(sick, pairs):
    sick.model.model.norm.weight.data[0] = float("nan")
    checks = findings(sick, pairs)
    assert {"repeatability", "causality", "engines"} <= failed(checks)
    assert checks["repeatability"].text == "the logits are not finite"


@pytest.mark.parametrize(("engine", "factor", "status"), [(HooksEngine, 1.1, "fail"), (VmapEngine, None, "warn")])
def test_engines_that_disagree_or_cannot_run(lrm, pairs, monkeypatch, engine, factor, status):
    write = engine._write

    def wrong(self, sequences, out, rows):
        if factor is None:
            raise RuntimeError("vmap: not supported")
        parts = write(self, sequences, out, rows)
        out[rows] *= factor
        return parts

    monkeypatch.setattr(engine, "_write", wrong)
    found = findings(lrm, pairs)["engines"]
    assert found.status == status
    assert "--engine" in found.remedy
    assert engine.name in found.text


def test_rows_beyond_the_context(lrm, pairs):
    assembler = copy.copy(lrm.assembler)
    long = replace(pairs[0], prompt_id="long", chosen=Completion(pairs[0].answer(0), "a1=1 " * 30 + "b2=3"))
    checks = findings(replace(lrm, assembler=assembler), (*pairs[1:], long))
    assert failed(checks) == {"context length"}
    assert "1 of 6 pairs (17%) are beyond it" in checks["context length"].text
    assembler.context = 10
    (only,) = doctor.examine(replace(lrm, assembler=assembler), pairs, NORM)
    assert (only.status, only.name) == ("fail", "context length")


def test_data_of_another_model(lrm, pairs):
    strange = replace(pairs[2], prompt_id="strange", chosen=Completion(pairs[2].answer(0), "why not 7 x 8?"))
    (found,) = doctor.examine(lrm, (strange,), NORM)
    assert found.status == "fail"
    assert "is --model the model of these data?" in found.remedy
    tagged = replace(pairs[2], prompt_id="tagged", chosen=Completion("1a</think>.", pairs[2].chosen.trace))
    checks = findings(lrm, (pairs[0], tagged))
    assert checks["template"].status == "fail"
    assert "prompt 'tagged'" in checks["template"].remedy


@pytest.mark.parametrize(("free", "status"), [(None, "pass"), (2**40, "pass"), (300 * 2**20, "warn"), (2**20, "fail")])
def test_memory_for_a_study(lrm, pairs, monkeypatch, free, status):
    monkeypatch.setattr(doctor, "available_bytes", lambda device: free)
    checks = findings(lrm, pairs)
    assert checks["memory"].status == status
    assert ("--params" in checks["memory"].remedy) == (status != "pass")
    assert checks["precision"].status == ("warn" if free == 2**20 else "pass")


@pytest.mark.parametrize("name", ["qwen3", "r1_distill_qwen", "gpt_neox"])
def test_some_families_are_healthy(tmp_path, name):
    folder = family_model(name, tmp_path / "model")
    lrm = load_model(folder, **family_options(name, tmp_path))
    checks = {check.name: check for check in doctor.examine(lrm, family_pairs(4))}
    assert not failed(checks), [str(check) for check in checks.values()]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_healthy(tmp_path, name):
    folder = family_model(name, tmp_path / "model")
    lrm = load_model(folder, **family_options(name, tmp_path))
    checks = {check.name: check for check in doctor.examine(lrm, family_pairs(4))}
    assert not failed(checks), [str(check) for check in checks.values()]
    assert (checks["template"].status == "warn") == (lrm.assembler.format.keeps == "cut")


def test_a_model_without_data_is_checked_on_plain_text(tmp_path, capsys):
    folder = family_model("qwen3", tmp_path / "model")
    assert doctor.main(["--model", str(folder)]) == 0
    assert "of 2 turns, 2 written alike" in capsys.readouterr().out
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, family_pairs(5))
    assert doctor.main(["--model", str(folder), "--data", str(path)]) == 0
    assert "of 10 turns" in capsys.readouterr().out


def test_a_finding_of_failure_is_exit_code_one(tmp_path, capsys, pairs):
    long = replace(pairs[0], chosen=Completion(pairs[0].answer(0), "a1=1 " * 30 + "b2=3"))
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [*pairs[1:], long])
    assert doctor.main(["--data", str(path), "--params", NORM]) == 1
    printed = capsys.readouterr().out
    assert "fail  context length" in printed
    assert "-> drop these rows" in printed
    assert printed.endswith("1 fail\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--params", "lora"], "--params 'lora' matches no parameter"),
        (["--regime", "x"], "--regime must be one of"),
        (["--data", "none.jsonl"], "none.jsonl: no such file"),
        (["--model", "/none"], "no reasoning model could be loaded"),
        (["--dtype", "int8"], "--dtype must be one of"),
        (["--nothing"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(capsys, options, says):
    assert doctor.main(options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1


def test_debug_shows_the_traceback():
    with pytest.raises(InputError, match="--regime"):
        doctor.main(["--regime", "x", "--debug"])
