"""Preference pairs: native rows, readers of other formats, checks and commands, and the sets in the box."""

from bvpo_analysis.preferences.formats import FORMATS
from bvpo_analysis.preferences.native import pair_from_row, pair_to_row
from bvpo_analysis.preferences.rows import PairFile, read_file, read_pairs, write_pairs
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs

__all__ = [
    "FORMATS",
    "REGIMES",
    "PairFile",
    "pair_from_row",
    "pair_to_row",
    "read_file",
    "read_pairs",
    "shipped_pairs",
    "write_pairs",
]
