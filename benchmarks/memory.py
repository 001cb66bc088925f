"""Peak memory of one way to score, in a fresh process: ``python benchmarks/memory.py METHOD MODEL N T``.

Prints the peak above what the loaded model and the libraries take, in bytes. METHOD is plain (one batch of all N
sequences), hooks (all N x P scores held) or study (products of pairs of 2M + 2 sequences, M = 8; nothing held).
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from models import make_model, make_sequences
from plain import plain

from bvpo_analysis.scores import HooksEngine


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_method(method: str, model_name: str, count: int, tokens: int) -> int:
    """Peak bytes above the loaded model."""
    torch.set_num_threads(1)
    model = make_model(model_name)
    sequences = make_sequences(model, count, tokens)
    plain(model, sequences[:1], tokens)  # libraries set themselves up on first use
    if method == "plain":
        before = peak_bytes()
        plain(model, sequences, count * tokens)
    elif method == "hooks":
        engine = HooksEngine(model)
        engine.fill(sequences[:1], engine.buffer(1))
        before = peak_bytes()
        engine.fill(sequences, engine.buffer(count))
    elif method == "study":
        from whole_study import products_of_pairs

        products_of_pairs(model, 1, 1, tokens)
        before = peak_bytes()
        products_of_pairs(model, max(count // 18, 1), 8, tokens)
    else:
        raise SystemExit(f"unknown method {method!r}: plain, hooks or study")
    return peak_bytes() - before


def memory_case(model_name: str, count: int, tokens: int) -> list[dict]:
    """One row per method, each measured in its own process."""
    rows = []
    for method in ("plain", "hooks", "study"):
        command = [sys.executable, str(Path(__file__)), method, model_name, str(count), str(tokens)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append({"model": model_name, "N": count, "T": tokens, "method": method, **json.loads(found)})
    for row in rows:
        row["ratio"] = row["bytes"] / max(rows[0]["bytes"], 1)
    return rows


if __name__ == "__main__":
    method, model_name, count, tokens = sys.argv[1:]
    used = run_method(method, model_name, int(count), int(tokens))
    print(json.dumps({"bytes": used, "base": peak_bytes() - used}))
