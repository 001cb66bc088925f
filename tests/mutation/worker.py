"""Runs tests against a mutated module in a forked child; the working tree is never written.

The parent has NumPy, SciPy, Hypothesis, mpmath and pytest loaded, and no module of the package. A child puts the
mutated syntax tree in the way of the import system, runs the doctests of the module and then the tests, and reports
through a pipe. CPU time is limited, not wall time, so that a verdict does not depend on what else the machine does.
"""

import ast
import doctest
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis
import hypothesis.extra.numpy
import hypothesis.internal.conjecture.engine
import mpmath  # noqa: F401
import numpy  # noqa: F401
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats  # noqa: F401
from selection import PACKAGE, ROOT, dotted_name

# Few examples for a first look; as many as in the test run, but without a search for the smallest failure.
for _name, _examples in (("mutation", 25), ("unshrunk", 100)):
    hypothesis.settings.register_profile(
        _name,
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=_examples,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=tuple(hypothesis.HealthCheck),
    )

MEMORY = 8 << 30
"""Address space of a child in bytes: an edited array size must not take the machine down."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        status: "killed", "survived", or "timeout".
        by: the tests that failed, "doctest" or "import"; all of them where asked for, else the first.
        seconds: CPU time of the child.
    """

    status: str
    by: tuple[str, ...]
    seconds: float


class _Substitute(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module in a syntax tree instead of in its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


class _Failures:
    """pytest plugin: the names of failed tests."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.names.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.names.append(report.nodeid)


class Child:
    """A forked process that runs tests against one tree; poll ``done`` and then read ``verdict``."""

    def __init__(
        self,
        module: str,
        tree: ast.Module | None,
        tests: Sequence[str],
        *,
        root: Path = ROOT,
        profile: str = "mutation",
        limit: float = 20.0,
        every: bool = False,
    ) -> None:
        """Start it.

        Args:
            module: module the tree stands for, such as ``theory/mixing.py``.
            tree: its syntax tree; None leaves the module as it is.
            tests: test files or test names below ``root``.
            root: folder that holds the package and the tests.
            profile: Hypothesis profile.
            limit: seconds of CPU time.
            every: run all tests, skip doctests, and name every failure; else stop at the first failure.
        """
        loaded = [name for name in sys.modules if name == "torch" or name.split(".")[0] == PACKAGE]
        if loaded:
            raise RuntimeError(f"the parent must not have loaded {loaded[0]}")
        self._read, write = os.pipe()
        self._started, self._limit = time.monotonic(), limit
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            code = 1
            try:
                _limit(limit)
                by = _run(module, tree, tests, root, profile, every)
                os.write(write, json.dumps(by).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        self._verdict: Verdict | None = None

    @property
    def done(self) -> bool:
        """Whether the child has ended; one that only waits is ended after ten times its limit."""
        if self._verdict is not None:
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self._started < 10 * self._limit:
                return False
            os.kill(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
        with os.fdopen(self._read, "rb") as pipe:
            answer = pipe.read()
        seconds = round(usage.ru_utime + usage.ru_stime, 2)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            self._verdict = Verdict("timeout", (), seconds)
        elif not answer:
            self._verdict = Verdict("killed", ("crash",), seconds)
        else:
            by = tuple(json.loads(answer))
            self._verdict = Verdict("killed" if by else "survived", by, seconds)
        return True

    def verdict(self) -> Verdict:
        """Wait for the end."""
        while not self.done:
            time.sleep(0.02)
        if self._verdict is None:
            raise RuntimeError("ended without a verdict")
        return self._verdict


def _limit(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 3))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _run(
    module: str, tree: ast.Module | None, tests: Sequence[str], root: Path, profile: str, every: bool
) -> list[str]:
    """Names of failures: the body of a child."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.dont_write_bytecode = True
    os.environ["HYPOTHESIS_PROFILE"] = profile
    hypothesis.settings.load_profile(profile)
    sys.path.insert(0, str(root))
    os.chdir(root)
    name = dotted_name(module)
    if tree is not None:
        sys.meta_path.insert(0, _Substitute(name, root / PACKAGE / module, tree))
    try:
        target = importlib.import_module(name)
    except BaseException:
        return ["import"]
    if not every and doctest.testmod(target, optionflags=doctest.FAIL_FAST).failed:
        return ["doctest"]
    if not tests:
        return []
    plugin = _Failures()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:doctest"]
        arguments += ["-m", "not slow and not gpu and not chromium", f"--basetemp={scratch}/t", f"--rootdir={root}"]
        # The configuration asks for doctests, which are done already and are no option once the plugin is off.
        arguments += ["-o", "addopts=--strict-markers --import-mode=importlib"]
        code = pytest.main([*arguments, *([] if every else ["-x"]), *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not plugin.names:
        return [f"pytest exit {int(code)}"]
    return plugin.names
