"""Preference pairs: the native JSONL rows, their reader and writer, and the sets shipped with the package."""

from bvpo_analysis.preferences.rows import pair_from_row, pair_to_row, read_pairs, write_pairs
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs

__all__ = ["REGIMES", "pair_from_row", "pair_to_row", "read_pairs", "shipped_pairs", "write_pairs"]
