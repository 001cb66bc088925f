"""Biased SGD run against its bounds: problems, gradient oracles, mixing rules, runs, and the comparison with theory."""
