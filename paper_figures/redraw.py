"""Redraw every figure of this folder from the committed results: what ``make figures`` runs."""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of the fast halves."""
    return sorted(script.stem for script in FOLDER.glob("fig_*.py"))


def draw(name: str) -> int:
    """Run one fast half; returns its exit code."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return int(importlib.import_module(name).main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run every fast half, whatever becomes of the others; returns 2 if the results of one are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="how many processes draw at a time (default 2)")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    with ProcessPoolExecutor(max(options.jobs, 1), mp_context=get_context("spawn")) as pool:
        codes = list(pool.map(draw, names()))
    print(f"{codes.count(0)} of {len(codes)} figures drawn in {time.perf_counter() - start:.0f} s")
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
