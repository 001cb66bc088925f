"""Which tests look at a module: its own unit tests first, then every file that uses one of its names.

A test file uses a module if it imports it, imports one of its names from the package it belongs to, or reads such a
name as an attribute of the package (``theory.optimal_weight``). Where nothing uses a module directly, the tests of the
modules that import it stand in.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "bvpo_analysis"
FAMILIES = ("theory", "moments")
"""Subpackages whose modules are mutated."""

TEST_FOLDERS = ("theory", "moments", "properties")
"""Folders of ``tests`` that run without torch and without the model in the box."""


def modules(root: Path = ROOT) -> list[str]:
    """The modules that are mutated, such as ``theory/mixing.py``."""
    found = (path for family in FAMILIES for path in sorted((root / PACKAGE / family).glob("*.py")))
    return [path.relative_to(root / PACKAGE).as_posix() for path in found if path.name != "__init__.py"]


def files_testing(module: str, root: Path = ROOT) -> list[str]:
    """Test files of a module, the file named after it first, property tests last."""
    dotted = dotted_name(module)
    direct = [path for path in _test_files(root) if dotted in _used(path, root)]
    if not direct:
        dependents = {dotted_name(m) for m in modules(root) if dotted in _used(root / PACKAGE / m, root)}
        direct = [path for path in _test_files(root) if dependents & _used(path, root)]
    own = f"test_{Path(module).stem}.py"
    direct.sort(key=lambda path: (path.name != own, path.parent.name == "properties", path.name))
    return [path.relative_to(root).as_posix() for path in direct]


def dotted_name(module: str) -> str:
    """``theory/mixing.py`` as ``bvpo_analysis.theory.mixing``."""
    return ".".join((PACKAGE, *Path(module).with_suffix("").parts))


@cache
def _test_files(root: Path) -> list[Path]:
    return [path for folder in TEST_FOLDERS for path in sorted((root / "tests" / folder).glob("test_*.py"))]


@cache
def _used(path: Path, root: Path) -> frozenset[str]:
    """Dotted names of the package's modules that a file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                if alias.asname is not None:
                    bound[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {node.module, whole, _exports(node.module, root).get(alias.name, whole)}
                bound[alias.asname or alias.name] = whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            owner = bound[node.value.id]
            found.add(_exports(owner, root).get(node.attr, f"{owner}.{node.attr}"))
    return frozenset(found)


@cache
def _exports(package: str, root: Path) -> dict[str, str]:
    """Where a package takes the names from that it re-exports."""
    path = root.joinpath(*package.split("."), "__init__.py")
    if not package.startswith(PACKAGE + ".") or not path.exists():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module)
    return {alias.asname or alias.name: node.module for node in imports for alias in node.names if node.module}
