"""The benchmarks: ``python benchmarks/run.py`` or ``make bench``. Writes CSV files and the table of the README.

CPU time of the process, one torch thread, all methods of a case in turns; the median over rounds of the ratio to the
plain forward and backward pass of the same sequences in the same round, with the least and the largest ratio.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
import transformers
from growth import draw, growth_rows
from memory import memory_case
from prefix import prefix_case
from scoring import scoring_case
from whole_study import study_case

RESULTS = Path(__file__).parent / "results"

# Model, N, T, whether the slow methods run too. 512 sequences of the 5 M model are 10 GB of scores: left out.
SCORING = (
    ("0.8M", 128, 64, True),
    ("0.8M", 128, 256, True),
    ("box", 128, 64, True),
    ("0.8M", 512, 64, False),
    ("box", 512, 64, False),
    ("5M", 128, 64, True),
    ("0.8M", 512, 256, False),
    ("5M", 128, 256, False),
)
STUDIES = (("0.8M", 64, 8, 64), ("box", 64, 8, 64))
MEMORY = (("0.8M", 128, 64), ("box", 128, 64), ("0.8M", 128, 256), ("5M", 128, 64))
PREFIX = (("box", 16, 8, 64), ("0.8M", 8, 8, 64))
GATES = {
    ("0.8M", 128, 64, "hooks"): 1.35,
    ("0.8M", 128, 256, "hooks"): 1.2,
    ("0.8M", 128, 64, "hooks + full Gram"): 1.25 + 1.2 * 128 / (6 * 64),
    ("0.8M", 128, 256, "hooks + full Gram"): 1.25 + 1.2 * 128 / (6 * 256),
}
STUDY_GATE = 1.5
MEMORY_GATE = 1.25
SETTINGS_GATE = 50.0


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")), cpu)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def verdict(value: float, gate: float, *, at_least: bool = False) -> str:
    """A gate and whether it holds."""
    holds = value >= gate if at_least else value <= gate
    return f"{'≥' if at_least else '≤'} {gate:.2f}: {'holds' if holds else 'missed'}"


def table(results: dict[str, pd.DataFrame], about: dict[str, object]) -> str:
    """The results as Markdown."""
    lines = [
        f"Measured on {about['date']}: {about['cpu']} ({about['cores']} cores, one thread used), "
        f"torch {about['torch']}, transformers {about['transformers']}. Ratios of CPU time to the plain forward and "
        "backward pass of the same sequences: median, and range over the rounds.",
        "",
        "| what | model | N | T | ratio | range | gate |",
        "|---|---|---|---|---|---|---|",
    ]
    if "scoring" in results:
        for row in results["scoring"].itertuples():
            gate = GATES.get((row.model, row.N, row.T, row.method))
            told = verdict(row.ratio, gate) if gate else ""
            if row.method == "plain":
                continue
            lines.append(
                f"| scores, {row.method} | {row.model} | {row.N} | {row.T} | {row.ratio:.2f} "
                f"| {row.low:.2f}–{row.high:.2f} | {told} |"
            )
    if "study" in results:
        for row in results["study"].itertuples():
            if row.quantity.startswith("study"):
                told = verdict(row.ratio, STUDY_GATE) if row.quantity == "study" else ""
                lines.append(
                    f"| {row.quantity}, {row.pairs} pairs, M = {row.M} | {row.model} | {row.pairs * (2 * row.M + 2)} "
                    f"| {row.T} | {row.ratio:.2f} | {row.low:.2f}–{row.high:.2f} | {told} |"
                )
            elif "multiplied" in row.quantity:
                lines.append(
                    f"| {row.quantity}, over the study | {row.model} | {row.pairs * (2 * row.M + 2)} | {row.T} "
                    f"| {row.ratio:.0f} | | {verdict(row.ratio, SETTINGS_GATE, at_least=True)} |"
                )
    if "memory" in results:
        for row in results["memory"].itertuples():
            if row.method != "plain":
                what = "all scores held" if row.method == "hooks" else "study"
                lines.append(
                    f"| peak memory, {what}, over plain in one batch | {row.model} | {row.N} | {row.T} "
                    f"| {row.ratio:.2f} | | {verdict(row.ratio, MEMORY_GATE)} |"
                )
    if "growth" in results:
        fits = results["growth"].groupby("axis", sort=False).exponent.first()
        told = ", ".join(f"{axis} {value:.2f}" for axis, value in fits.items())
        lines += ["", f"Growth of CPU time, fitted exponents: {told} (K: in the 2K + 2 sequences of a pair)."]
    if "prefix" in results:
        lines += [
            "",
            "Computing the prompt once per pair would save at most "
            + ", ".join(
                f"{row.bound_on_saving:.0%} ({row.model}, prompts are {row.prompt_share_of_tokens:.0%} of the tokens)"
                for row in results["prefix"].itertuples()
            )
            + ".",
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the sections asked for; the others keep their results."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ("scoring", "study", "memory", "growth", "prefix")
    p.add_argument("--only", choices=sections, action="append", help="section to run (all by default; may be repeated)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tiny", action="store_true", help="a tiny model, to see that the scripts run")
    p.add_argument("--output", type=Path, default=RESULTS)
    options = p.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    rounds = options.rounds
    scoring = (("tiny", 6, 8, True),) if options.tiny else SCORING
    studies = (("tiny", 4, 2, 8),) if options.tiny else STUDIES
    memory = (("tiny", 36, 8),) if options.tiny else MEMORY
    prefix = (("tiny", 3, 2, 8),) if options.tiny else PREFIX

    def keep(section: str, rows: list[dict]) -> None:
        pd.DataFrame(rows).to_csv(options.output / f"{section}.csv", index=False, float_format="%.5g")

    for section in options.only or sections:
        rows: list[dict] = []
        if section == "growth":
            rows = growth_rows(rounds, tiny=options.tiny)
            draw(rows, str(options.output / "growth.png"))
        for case in {"scoring": scoring, "study": studies, "memory": memory, "prefix": prefix}.get(section, ()):
            print(section, *case, flush=True)
            if section == "scoring":
                model, count, tokens, slow = case
                rows += scoring_case(model, count, tokens, rounds, slow=slow)
            elif section == "study":
                rows += study_case(*case, rounds)
            elif section == "memory":
                rows += memory_case(*case)
            else:
                rows.append(prefix_case(*case, rounds))
            keep(section, rows)
        keep(section, rows)
    (options.output / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n")
    found = {s: pd.read_csv(path) for s in sections if (path := options.output / f"{s}.csv").exists()}
    text = table(found, machine())
    (options.output / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
