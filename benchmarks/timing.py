"""CPU seconds of functions run in turns, so that a slow moment of the machine hits all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Process CPU seconds of each function in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            gc.collect()
            start = time.process_time()
            function()
            if index:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio_to(seconds: Mapping[str, list[float]], name: str, floor: str) -> dict[str, float]:
    """Median, least and largest ratio to the floor of the same round."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[floor], strict=True)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
