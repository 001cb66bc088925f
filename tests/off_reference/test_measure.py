"""The whole measurement on a small scale: it resumes, refuses what belongs to other settings, and keeps populations."""

import json

import numpy as np
import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference import measure
from bvpo_analysis.off_reference.__main__ import main
from bvpo_analysis.off_reference.checkpoints import ShortRun
from bvpo_analysis.off_reference.measure import Settings, load_population, measure_regime, save_population
from bvpo_analysis.off_reference.replications import exact_moments
from bvpo_analysis.off_reference.results import STATISTICS, TARGETS

SMALL = Settings(
    prompts=4,
    run=ShortRun(steps=2, batch_size=4),
    shares=(1.0,),
    beta_share=1.0,
    betas=(0.1,),
    sampled_shares=(1.0,),
    traces=(2,),
    replications=3,
    projection=64,
)


def test_stages_are_kept_and_belong_to_their_settings(tmp_path, lrm, monkeypatch):
    said = []
    found = measure_regime(lrm, "style", tmp_path, SMALL, said.append)
    assert found["regime"] == "style"
    assert [point["share"] for point in found["points"]] == [1.0]
    assert [point["beta"] for point in found["betas"]] == [0.1]
    assert {(cell["target"], cell["statistic"]) for cell in found["cells"]} == {
        (t, s) for t in TARGETS for s in STATISTICS
    }
    assert all(cell["predicted"] is None for cell in found["cells"] if cell["target"] == "jackknife")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert said == ["style: t = 1", "style: t = 1, K = 2"]
    assert (tmp_path / "checkpoint-style" / "config.json").exists()

    def again(*_):
        raise AssertionError("a finished stage is not computed again")

    monkeypatch.setattr(measure, "train_briefly", again)
    monkeypatch.setattr(measure, "replicate", again)
    assert measure_regime(lrm, "style", tmp_path, SMALL) == found
    with pytest.raises(InputError, match="belongs to other settings"):
        measure_regime(lrm, "style", tmp_path, Settings(prompts=5))
    # Sampled studies are taken up again from the kept population.
    (tmp_path / "sampled-style.json").unlink()
    monkeypatch.undo()
    assert measure_regime(lrm, "style", tmp_path, SMALL)["cells"] == found["cells"]
    (tmp_path / "sampled-style.json").unlink()
    (tmp_path / "population-style-1.npz").unlink()
    with pytest.raises(InputError, match=r"population-style-1\.npz is missing"):
        measure_regime(lrm, "style", tmp_path, SMALL)


def test_a_population_survives_its_file(tmp_path, population_of):
    population = population_of(0.4, prompts=3)
    save_population(population, tmp_path / "p.npz")
    again = load_population(tmp_path / "p.npz")
    for first, second in zip(population.pairs, again.pairs, strict=True):
        np.testing.assert_array_equal(first.log_prob, second.log_prob)
        np.testing.assert_array_equal(first.support, second.support)
        assert first.prompt_id == second.prompt_id
    first, second = (exact_moments(p, DPO()) for p in (population, again))
    assert first.bias_t_sq[0] == second.bias_t_sq[0]
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_what_is_sampled_must_be_on_the_path():
    with pytest.raises(ValueError, match="must be among the shares"):
        Settings(shares=(0.5,), beta_share=0.5, sampled_shares=(1.0,))


def test_wrong_options_end_in_one_line(capsys):
    assert main(["--prompts", "3"]) == 2
    assert capsys.readouterr().err == "error: --prompts must be at least 4 and --replications at least 2\n"
