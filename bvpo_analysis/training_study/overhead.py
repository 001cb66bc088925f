"""What a step of every method costs: sequences and tokens it reads, operations, CPU seconds and peak memory.

Every method is timed in a process of its own, without evaluation, on one thread. CPU seconds depend on what else the
machine does; sequences, tokens and operations do not.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bvpo_analysis.cost import BACKWARD, Architecture, forward_flops
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import Regime, shipped_pairs
from bvpo_analysis.training import train
from bvpo_analysis.training_study.arms import SECONDARY, core_arms

STEPS = 12
"""Steps that are timed; the first is left out."""
METHODS: dict[str, str] = {
    "dpo": "alpha=1",
    "empty": "alpha=0",
    "bvpo": "alpha=0.5",
    "bvpo, alpha=auto": "alpha=auto",
    "bvpo, james-stein": "james-stein",
    "mixed data": "mixed data",
    "4 traces": "4 traces",
    "pool of 4": "pool of 4",
}
"""Methods by the arm that stands for them."""


@dataclass(frozen=True)
class Overhead:
    """One method.

    Attributes:
        method: its name.
        sequences, tokens, flops: per step, on average; forward and backward passes of training, the reference's
            log-probabilities left out.
        cpu_seconds: median over steps.
        memory_mb: largest resident memory during training less that before it, in units of 10^6 bytes; nan where the
            system does not tell.
    """

    method: str
    sequences: float
    tokens: float
    flops: float
    cpu_seconds: float
    memory_mb: float


def measure_overhead(regime: Regime = SECONDARY) -> list[Overhead]:
    """One row per method, each measured in a fresh process."""
    rows = []
    for method, arm in METHODS.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(Overhead(method, **pool.submit(_measure, arm, regime).result()))
    return rows


def _measure(name: str, regime: Regime, steps: int = STEPS, rows: int = 96) -> dict[str, float]:
    torch.set_num_threads(1)
    lrm = load_model()
    config: Any = lrm.model.config
    architecture = Architecture.from_config(config, sum(p.numel() for p in lrm.model.parameters()))
    arm = next(arm for arm in core_arms() if (arm.name, arm.regime) == (name, regime))
    before = restart_peak()
    times: list[float] = []

    def note(step: int, _: object) -> dict[str, float]:
        times.append(time.process_time())
        return {}

    done = train(arm.config(0, steps=steps, evaluate_every=1), lrm, shipped_pairs(regime)[:rows], callbacks=[note])
    after = resident("VmHWM")
    log = done.log[1:-1]
    sequences, tokens = (statistics.fmean(entry[key] for entry in log) for key in ("sequences", "tokens"))
    # The passes are counted at the mean length of a sequence; attention, which is quadratic in it, is a small part.
    flops = (1 + BACKWARD) * sequences * float(forward_flops(architecture, tokens / sequences))
    seconds = statistics.median(b - a for a, b in itertools.pairwise(times[1:]))
    return {
        "sequences": sequences,
        "tokens": tokens,
        "flops": flops,
        "cpu_seconds": seconds,
        "memory_mb": (after - before) / 1e6,
    }


def restart_peak() -> float:
    """Resident bytes now, from which the peak is counted again; nan where the system does not tell.

    The peak of ``getrusage`` would not do: a process takes over that of the one that started it.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return float("nan")
    return resident("VmRSS")


def resident(name: str) -> float:
    """An entry of the process's memory status in bytes: VmRSS now, VmHWM at its peak; nan where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("nan")
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024.0 * int(found[0]) if found else float("nan")


def relative(rows: Sequence[Overhead], base: str = "dpo") -> dict[str, dict[str, float]]:
    """Tokens, operations and seconds of every method over those of one.

    Example:
        >>> rows = [Overhead("dpo", 32, 1000, 6.0, 0.1, 1), Overhead("bvpo", 64, 1500, 9.0, 0.15, 1)]
        >>> relative(rows)["bvpo"]
        {'tokens': 1.5, 'flops': 1.5, 'cpu_seconds': 1.5}
    """
    one = next(row for row in rows if row.method == base)
    return {
        row.method: {
            name: round(getattr(row, name) / getattr(one, name), 9) for name in ("tokens", "flops", "cpu_seconds")
        }
        for row in rows
    }
