"""Do the intervals hold what they promise? Replications from populations in which every number is known.

A population is the prompts of a shipped regime with all their traces. Samples of it are put through the same moments
and intervals as real data, thousands of times, and the share of intervals that hold the truth is the coverage.
"""

from bvpo_analysis.coverage.measured import (
    LIMITS,
    CoverageSummary,
    Limit,
    coverage_summaries,
    measured_coverage,
    text_table,
)
from bvpo_analysis.coverage.population import FinitePopulation
from bvpo_analysis.coverage.quantities import QUANTITIES, Quantity
from bvpo_analysis.coverage.replication import Sample, draw_sample, sample_moments
from bvpo_analysis.coverage.study import CoverageRow, Setting, run_study

__all__ = [
    "LIMITS",
    "QUANTITIES",
    "CoverageRow",
    "CoverageSummary",
    "FinitePopulation",
    "Limit",
    "Quantity",
    "Sample",
    "Setting",
    "coverage_summaries",
    "draw_sample",
    "measured_coverage",
    "run_study",
    "sample_moments",
    "text_table",
]
