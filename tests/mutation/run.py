"""Mutation testing of the closed forms and the moments: ``python tests/mutation/run.py``; see README.md beside it."""

import argparse
import os
import sys
import time
from pathlib import Path

# Before NumPy is loaded: children share two cores, and a BLAS with threads does not survive a fork.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parent))


def main() -> int:
    """Run a sample and print its summary; 1 only if the tests fail on the code as it is."""
    import runner

    parser = argparse.ArgumentParser(description="Mutation testing of theory/ and moments/.")
    parser.add_argument("--count", type=int, default=300, help="size of the sample (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", help="only modules whose path contains one of these, comma-separated")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--limit", type=float, default=20.0, help="CPU seconds per mutant (default 20)")
    parser.add_argument("--out", type=Path, default=runner.ROOT / "runs" / "mutation", help="folder of the results")
    parser.add_argument("--skip-baseline", action="store_true", help="trust that the tests pass on the code as it is")
    arguments = parser.parse_args()

    subjects = {name: runner.subject(name) for name in runner.chosen_modules(arguments.modules)}
    if not arguments.skip_baseline:
        broken = False
        for name, verdict in runner.baseline(subjects.values(), limit=arguments.limit):
            if verdict.status != "survived":
                print(f"without any mutant, {name}: {verdict.status} {' '.join(verdict.by)}", flush=True)
                broken = True
        if broken:
            return 1
        print(f"without any mutant: {len(subjects)} modules pass their tests", flush=True)
    mutants = runner.mutants_of(subjects.values())
    chosen = runner.sample(mutants, arguments.count, arguments.seed)
    print(f"{len(chosen)} of {sum(map(len, mutants.values()))} mutants, seed {arguments.seed}", flush=True)
    started, results = time.monotonic(), []
    path = arguments.out / "results.jsonl"
    for result in runner.run(subjects, chosen, path, jobs=arguments.jobs, limit=arguments.limit):
        results.append(result)
        if result.verdict.status != "killed":
            print(f"{len(results):>5}  {result.verdict.status:<9}{result.mutant.name}", flush=True)
    text = runner.summary(results, runner.read_equivalent())
    text += f"wall time of this call: {time.monotonic() - started:.0f} s\n"
    (arguments.out / "summary.txt").write_text(text, encoding="utf-8")
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
