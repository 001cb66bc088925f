"""How often 95 % intervals hold the truth: replications in chunks, resumable, the same in any order.

Replication r of a setting draws from a generator seeded by (seed, regime, prompts, traces, r). A chunk of replications
is one file, written whole or not at all; a later call goes on with the chunks that are missing. So the table depends on
neither the number of processes nor on interruptions, to the last byte. Chunks of another population or of other code
lie in another folder.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bvpo_analysis.coverage.method import method_fingerprint
from bvpo_analysis.coverage.population import FinitePopulation, read_population
from bvpo_analysis.coverage.quantities import QUANTITIES
from bvpo_analysis.coverage.replication import draw_sample, sample_moments
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Floats

SEED = 2510
"""First word of every seed."""
CHUNK = 200
"""Replications per file."""


@dataclass(frozen=True)
class Setting:
    """A sample size: n prompts of a regime, K traces per answer."""

    regime: str
    prompts: int
    traces: int


@dataclass(frozen=True)
class CoverageRow:
    """What the replications of one setting say of one number.

    Attributes:
        regime, prompts, traces: the setting.
        replications: how many samples were drawn.
        quantity, group: name and sort of the number.
        unbiased: whether its point estimate is unbiased by construction.
        truth: its exact value in the population.
        coverage: share of the intervals that hold the truth, among those given.
        coverage_se: Monte Carlo standard error of ``coverage``.
        missed_low, missed_high: shares of intervals that lie below the truth, and above it.
        mean_error: mean of the estimates less the truth.
        error_in_se: the same in Monte Carlo standard errors.
        width_mean, width_median: of the bounded intervals; nan if there is none.
        unbounded: share of intervals with an infinite end.
        withheld: share of samples for which no interval was given.
    """

    regime: str
    prompts: int
    traces: int
    replications: int
    quantity: str
    group: str
    unbiased: bool
    truth: float
    coverage: float
    coverage_se: float
    missed_low: float
    missed_high: float
    mean_error: float
    error_in_se: float
    width_mean: float
    width_median: float
    unbounded: float
    withheld: float


def replication(population: FinitePopulation, setting: Setting, index: int) -> Floats:
    """(value, SE, low, high) of every quantity on one sample, [Q, 4]; nan where the setting does not identify it."""
    words = [SEED, REGIMES.index(setting.regime), setting.prompts, setting.traces, index]
    sample = draw_sample(population, np.random.default_rng(words), setting.prompts, setting.traces)
    moments = sample_moments(population, sample)
    found = np.full((len(QUANTITIES), 4), np.nan)
    for row, quantity in zip(found, QUANTITIES, strict=True):
        if quantity.split and not moments.identifies_trace_variance:
            continue
        estimate = quantity.estimate(moments)
        if estimate is not None:
            row[:] = estimate.value, estimate.se, estimate.ci_low, estimate.ci_high
    return found


def run_study(
    populations: Sequence[Path], settings: Sequence[Setting], replications: int, folder: Path, *, processes: int = 1
) -> list[CoverageRow]:
    """Run the replications that are missing in ``folder``, and sum up.

    Args:
        populations: the population file of each setting.
        settings: the settings.
        replications: replications per setting, a multiple of :data:`CHUNK` or less than one chunk.
        folder: where chunks are kept.
        processes: how many work at a time; 1 works in this process.

    Raises:
        ValueError: the number of replications is not possible.
    """
    size = min(CHUNK, replications)
    if replications < 1 or replications % size:
        raise ValueError(f"replications must be below {CHUNK} or a multiple of it, got {replications}")
    units = [
        (path, setting, start, size, folder)
        for start in range(0, replications, size)
        for path, setting in zip(populations, settings, strict=True)
    ]
    missing = [unit for unit in units if not _chunk_path(*unit).exists()]
    with tqdm(total=len(missing) * size, desc="coverage", unit="sample", leave=False) as progress:
        for _ in _run(missing, processes):
            progress.update(size)
    rows = []
    for path, setting in zip(populations, settings, strict=True):
        chunks = [np.load(_chunk_path(*unit), allow_pickle=False) for unit in units if unit[1] == setting]
        rows += summarise(setting, np.concatenate(chunks), _truth(path))
    return rows


Unit = tuple[Path, Setting, int, int, Path]


def _run(units: Sequence[Unit], processes: int) -> Iterator[None]:
    if processes == 1:
        yield from map(_run_chunk, units)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_run_chunk, units)


def _chunk_path(population: Path, setting: Setting, start: int, size: int, folder: Path) -> Path:
    name = f"n{setting.prompts}-K{setting.traces}-{start:06d}-{size}.npy"
    return folder / population.stem / method_fingerprint() / name


def _run_chunk(unit: Unit) -> None:
    path, setting, start, size, _ = unit
    population = _population(path)
    results = np.stack([replication(population, setting, index) for index in range(start, start + size)])
    target = _chunk_path(*unit)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        np.save(file, results, allow_pickle=False)
    part.replace(target)


@lru_cache(maxsize=len(REGIMES))
def _population(path: Path) -> FinitePopulation:
    return read_population(path)


def _truth(path: Path) -> Floats:
    moments = _population(path).truth
    found = (quantity.estimate(moments) for quantity in QUANTITIES)
    return np.array([np.nan if estimate is None else estimate.value for estimate in found])


def summarise(setting: Setting, results: Floats, truth: Floats) -> list[CoverageRow]:
    """One row per quantity that the setting identifies, from results [R, Q, 4] and true values [Q].

    Example:
        >>> import numpy as np
        >>> results = np.zeros((200, len(QUANTITIES), 4)); results[..., 3] = np.arange(200)[:, None]
        >>> row = summarise(Setting("style", 64, 4), results, np.full(len(QUANTITIES), 9.5))[0]
        >>> row.coverage, row.missed_low, row.width_median
        (0.95, 0.05, 99.5)
    """
    rows = []
    for quantity, found, true in zip(QUANTITIES, results.transpose(1, 0, 2), truth, strict=True):
        if quantity.split and setting.traces < 2:
            continue
        given = found[~np.isnan(found[:, 2])]
        low, high = given[:, 2], given[:, 3]
        values = found[~np.isnan(found[:, 0]), 0]
        covered = float(((low <= true) & (true <= high)).mean()) if len(given) else np.nan
        bounded = np.isfinite(low) & np.isfinite(high)
        widths = (high - low)[bounded]
        error = float(values.mean() - true) if len(values) else np.nan
        spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        rows.append(
            CoverageRow(
                regime=setting.regime,
                prompts=setting.prompts,
                traces=setting.traces,
                replications=len(found),
                quantity=quantity.name,
                group=quantity.group,
                unbiased=quantity.unbiased,
                truth=float(true),
                coverage=covered,
                coverage_se=float(np.sqrt(covered * (1 - covered) / max(len(given), 1))),
                missed_low=float((high < true).mean()) if len(given) else np.nan,
                missed_high=float((low > true).mean()) if len(given) else np.nan,
                mean_error=error,
                error_in_se=float(error / spread) if spread > 0 else np.nan,
                width_mean=float(widths.mean()) if len(widths) else np.nan,
                width_median=float(np.median(widths)) if len(widths) else np.nan,
                unbounded=float((~bounded).mean()) if len(given) else np.nan,
                withheld=1 - len(given) / len(found),
            )
        )
    return rows
