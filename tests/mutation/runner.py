"""A seeded sample of mutants, run one by one against the tests of their module, and a summary of what survived."""

import hashlib
import json
import random
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from operators import Mutant, enumerate_mutants, mutated_tree
from scipy.stats import binomtest
from selection import PACKAGE, ROOT, files_testing, modules
from worker import Child, Verdict

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
SECOND_LOOK = 90.0
"""CPU seconds for a mutant that survived the quick profile and is tried again with all examples."""


@dataclass(frozen=True)
class Subject:
    """A module under mutation: its source, its tests, and a digest of both."""

    module: str
    source: str
    tests: tuple[str, ...]
    digest: str

    def key(self, mutant: Mutant) -> str:
        """Names the mutant together with everything its verdict depends on."""
        text = f"{self.digest} {mutant.operator} {mutant.node} {mutant.rank} {mutant.after}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """A mutant with its verdict."""

    key: str
    mutant: Mutant
    verdict: Verdict


def subject(module: str, root: Path = ROOT) -> Subject:
    """The module as it is now."""
    source = (root / PACKAGE / module).read_text(encoding="utf-8")
    tests = tuple(files_testing(module, root))
    digest = hashlib.sha256(source.encode())
    for test in tests:
        digest.update((root / test).read_bytes())
    return Subject(module, source, tests, digest.hexdigest())


def sample(mutants: dict[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants without repetition, each module in proportion to its mutants and with one at least.

    The order within a module is fixed by the seed and the module alone, so a larger sample contains a smaller one.
    """
    total = sum(map(len, mutants.values()))
    chosen = []
    for module, all_of_it in sorted(mutants.items()):
        order = random.Random(f"{seed} {module}").sample(all_of_it, len(all_of_it))
        share = count * len(all_of_it) / total
        chosen += order[: max(1, round(share))]
    return chosen


def read_results(path: Path) -> dict[str, Result]:
    """Results of earlier calls by key; a line cut off by a kill is left out."""
    found = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            row["verdict"]["by"] = tuple(row["verdict"]["by"])
            found[row["key"]] = Result(row["key"], Mutant(**row["mutant"]), Verdict(**row["verdict"]))
    return found


def baseline(subjects: Iterable[Subject], *, root: Path = ROOT, limit: float) -> Iterator[tuple[str, Verdict]]:
    """The code as it is: the doctests of each module, then all test files at once, with all examples.

    Anything but "survived" makes the results meaningless.
    """
    subjects = list(subjects)
    for each in subjects:
        yield f"doctests of {each.module}", Child(each.module, None, (), root=root, limit=limit).verdict()
    files = sorted({test for each in subjects for test in each.tests})
    child = Child(subjects[0].module, None, files, root=root, profile="unshrunk", limit=len(files) * limit)
    yield f"{len(files)} test files", child.verdict()


def run(
    subjects: dict[str, Subject],
    mutants: Sequence[Mutant],
    path: Path,
    *,
    root: Path = ROOT,
    jobs: int = 1,
    limit: float = 20.0,
) -> Iterator[Result]:
    """Results of the mutants, in the order they end; those in ``path`` are not run again, new ones are appended.

    A mutant that survives the quick profile is tried once more with all examples.
    """
    known = read_results(path)
    waiting = []
    for mutant in mutants:
        key = subjects[mutant.module].key(mutant)
        if key in known:
            yield known[key]
        else:
            waiting.append((key, mutant))
    path.parent.mkdir(parents=True, exist_ok=True)
    running: list[tuple[str, Mutant, Child, float]] = []
    with path.open("a", encoding="utf-8") as out:
        while waiting or running:
            while waiting and len(running) < jobs:
                key, mutant = waiting.pop(0)
                running.append((key, mutant, _child(subjects, mutant, root, "mutation", limit), 0.0))
            for item in [item for item in running if item[2].done]:
                running.remove(item)
                key, mutant, child, spent = item
                verdict = child.verdict()
                if verdict.status == "survived" and spent == 0.0:
                    again = _child(subjects, mutant, root, "unshrunk", max(limit, SECOND_LOOK))
                    running.append((key, mutant, again, verdict.seconds))
                    continue
                result = Result(key, mutant, Verdict(verdict.status, verdict.by, round(verdict.seconds + spent, 2)))
                out.write(json.dumps(asdict(result)) + "\n")
                out.flush()
                yield result
            time.sleep(0.01)


def _child(subjects: dict[str, Subject], mutant: Mutant, root: Path, profile: str, limit: float) -> Child:
    of = subjects[mutant.module]
    return Child(mutant.module, mutated_tree(of.source, mutant), of.tests, root=root, profile=profile, limit=limit)


# --- survivors argued ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equivalent:
    """A mutant that no test can or should tell from the original, and why."""

    module: str
    before: str
    after: str
    reason: str


def read_equivalent(path: Path = EQUIVALENT) -> list[Equivalent]:
    """The argued mutants."""
    return [Equivalent(**row) for row in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])]


def is_argued(mutant: Mutant, argued: Sequence[Equivalent]) -> bool:
    """Whether the list of equivalent mutants has this one."""
    return any((e.module, e.before, e.after) == (mutant.module, mutant.before, mutant.after) for e in argued)


# --- summary ---------------------------------------------------------------------------------------------


def rate(killed: int, total: int) -> str:
    """A share with its 95 % Wilson interval."""
    if total == 0:
        return "none"
    interval = binomtest(killed, total).proportion_ci(method="wilson")
    return f"{killed}/{total} = {killed / total:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def summary(results: Sequence[Result], argued: Sequence[Equivalent]) -> str:
    """Killed, survived and timed out by module, kill rates with intervals, and the survivors."""
    lines = [f"{'module':<34}{'killed':>8}{'timeout':>9}{'argued':>8}{'survived':>10}"]
    for module in sorted({r.mutant.module for r in results}):
        of = [r for r in results if r.mutant.module == module]
        lines.append(
            f"{module:<34}" + "".join(f"{n:>{w}}" for n, w in zip(_counts(of, argued), (8, 9, 8, 10), strict=True))
        )
    killed, timeout, equivalent, survived = _counts(results, argued)
    lines.append(f"{'all':<34}{killed:>8}{timeout:>9}{equivalent:>8}{survived:>10}")
    dead = killed + timeout
    lines += [
        "",
        f"killed or timed out, of all:                    {rate(dead, len(results))}",
        f"killed or timed out, argued equivalents apart:  {rate(dead, len(results) - equivalent)}",
        f"CPU seconds per mutant: {sum(r.verdict.seconds for r in results) / max(len(results), 1):.2f}",
        "",
    ]
    left = [r for r in results if r.verdict.status == "survived"]
    for title, wanted in (("survivors", False), ("argued equivalent", True)):
        these = sorted(
            (r.mutant for r in left if is_argued(r.mutant, argued) == wanted), key=lambda m: (m.module, m.line)
        )
        lines += [f"{title}: {len(these)}", *(f"  {m.name}" for m in these)]
    return "\n".join(lines) + "\n"


def _counts(results: Sequence[Result], argued: Sequence[Equivalent]) -> tuple[int, int, int, int]:
    status = [r.verdict.status for r in results]
    equivalent = sum(r.verdict.status == "survived" and is_argued(r.mutant, argued) for r in results)
    return status.count("killed"), status.count("timeout"), equivalent, status.count("survived") - equivalent


def mutants_of(subjects: Iterable[Subject]) -> dict[str, list[Mutant]]:
    """All mutants by module."""
    found = {s.module: enumerate_mutants(s.module, s.source) for s in subjects}
    return {module: mutants for module, mutants in found.items() if mutants}


def chosen_modules(pattern: str | None, root: Path = ROOT) -> list[str]:
    """Modules whose path contains the pattern."""
    return [m for m in modules(root) if pattern is None or any(part in m for part in pattern.split(","))]
