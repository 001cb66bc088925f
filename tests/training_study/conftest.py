"""Made-up results of runs, with every number chosen."""

import numpy as np
import pytest


@pytest.fixture
def made_up():
    """A result: the final loss, the share of prompts won, and options to change."""

    def make(arm="alpha=1", seed=0, *, loss=0.6, won=0.5, regime="style", group="sweep", alpha=1.0, **changes):
        noise = 0.01 * seed
        log = [
            {"step": s, "loss": 0.7 - 0.01 * s + 0.02 * (s % 2), "alpha": alpha, "tokens": 100, "sequences": 8}
            for s in range(20)
        ]
        curve = [
            {"step": s, "marginal_loss": [m] * 4, "trace_loss": [m] * 4, "empty_loss": [m] * 4}
            for s, m in ((0, 0.7), (10, 0.65), (20, loss + noise))
        ]
        pairs = {name: [loss + noise] * 4 for name in ("marginal_loss", "trace_loss", "empty_loss")}
        accuracies = {name: [0.75] * 4 for name in ("marginal_accuracy", "trace_accuracy", "empty_accuracy")}
        wins = [float(k < round(8 * won)) for k in range(8)]
        answers = {
            name: [value] * 8
            for name, value in {"right": 0.9, "unreadable": 0.0, "kl": 0.1, "trace_entropy": 3.0}.items()
        }
        answers |= {"tokens_trace": [21.0] * 8, "tokens_answer": [4.0] * 8, "won": wins}
        answers["length_controlled"] = [won, 0.1]
        answers["rewards"] = [[won, None]] * 8
        return {
            "arm": arm,
            "group": group,
            "regime": regime,
            "seed": seed,
            "lr": 0.1,
            "steps": 20,
            "stopped": "",
            "log": log,
            "curve": curve,
            "probes": [],
            "held_out": pairs | accuracies,
            "trained": {"trace_loss": [loss - 0.1] * 4, "empty_loss": [loss - 0.2] * 4, "trace_accuracy": [0.9] * 4},
            "final": {"thinking": dict(answers), "empty": dict(answers)},
            "displacement": {"norm": 1.0, "sketch": list(np.array([1.0, noise]))},
            "seconds": 5.0,
        } | changes

    return make
