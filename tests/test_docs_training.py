"""The page on training says what its tables say: fed with small tables of known content."""

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def page():
    """The module that writes the section."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("training_findings")
    finally:
        sys.path.remove(str(DOCS))
        for name in ("training_findings", "markup"):
            sys.modules.pop(name, None)


def estimate(name, value, half=0.05):
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def tables(minus_dpo):
    arm = {"regime": "valid", "group": "sweep", "seeds": 5}
    modes = ("thinking", "empty")
    arms = {"alpha=1": 0.0, "alpha=0.5": minus_dpo}
    return {
        "win_rates": [
            arm | {"arm": name, "mode": mode} | estimate("win_rate", 0.6) | estimate("minus_dpo", gain)
            for name, gain in arms.items()
            for mode in modes
        ],
        "accuracy": [
            arm | {"arm": name, "mode": mode, "before": 0.75} | estimate("after", 0.8)
            for name in arms
            for mode in modes
        ],
        "training": [
            arm
            | {"arm": name, "gradient_variance": 0.25}
            | estimate("roughness", 0.1)
            | estimate("steps_to_level", 30)
            | estimate("marginal_loss", 0.5)
            | estimate("gap", 0.02)
            for name in arms
        ],
        "rankings": [
            {"regime": "valid", "optimiser": "sgd", "source": source, "criterion": "mse", "outcome": "marginal_loss"}
            | {"seeds": 5, "predicted_best": 0.25, "realised_best": 0.75}
            | estimate("spearman", 0.3)
            for source in ("enumerated", "sampled")
        ],
        "alpha_path": [arm | {"arm": "alpha=1", "step": 20, "alpha": 0.44, "used": 1.0}],
        "overhead": [
            {"method": "bvpo", "sequences": 64, "tokens": 1660, "flops": 1e9, "cpu_seconds": 0.2, "memory_mb": 80}
        ],
    }


def written(folder, minus_dpo):
    for name, rows in tables(minus_dpo).items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_without_tables_it_says_which_command_makes_them(page, tmp_path):
    assert "make train-study" in page.section(tmp_path)


@pytest.mark.parametrize(
    ("gain", "said"),
    [(0.2, "win more often"), (-0.2, "win less often"), (0.01, "no mix is told from g_t alone")],
)
def test_the_verdict_follows_the_interval(page, tmp_path, gain, said):
    """Catches a verdict from point values, and one with the wrong sign."""
    text = page.section(written(tmp_path, gain))
    assert said in text.split("###")[0]
    assert "`style`: not run" in text


def test_tables_show_numbers_with_intervals(page, tmp_path):
    text = page.section(written(tmp_path, 0.2))
    assert "| `valid`, alpha=0.5 | 0.60 [0.55, 0.65] | 0.20 [0.15, 0.25] |" in text
    assert "| `valid`, alpha=1 | 0.75 | 0.80 [0.75, 0.85] |" in text
    assert "| `valid`, alpha=1, step 20 | 0.44 | 1 |" in text
    assert text.count("`valid`, sgd, mse") == 1
    assert "| bvpo | 64 | 1660 |" in text
