"""Imports point one way, heavy libraries stay where they belong, and files stay readable."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import bvpo_analysis

PACKAGE = Path(bvpo_analysis.__file__).parent
ORDER = (
    "errors",
    "run_folder",
    "records",
    "objectives",
    "testing",
    "log_linear",
    "lrm",
    "preferences",
    "scores",
    "estimators",
    "moments",
    "theory",
    "cost",
    "mixing",
    "combining",
    "equal_budget",
    "planner",
    "sampled_target",
    "figures",
    "tables",
    "display",
    "study",
    "comparison",
    "exact",
    "doctor",
    "off_reference",
    "evaluation",
    "training",
    "train",
    "coverage",
    "sgd",
    "training_study",
    "claims",
    "report",
)
LARGEST_MODULE = 450


def modules():
    """Every module of the package: (dotted name, path)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(name):
    """Dotted names that a module imports anywhere, also inside functions; names of the own package resolved."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            # A literal argument is an import like any other; the package's own lazy loader has none.
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def layer(name):
    return name.split(".")[1] if "." in name else None


def own_layers(name):
    return {layer(target) for target in imported(name) if target.split(".")[0] == "bvpo_analysis" and layer(target)}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)


def test_every_module_has_a_place_in_the_order():
    assert {layer(name) for name in MODULES} - {None} == set(ORDER)


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name)])
def test_a_module_imports_only_from_those_above_it(name):
    allowed = set(ORDER[: ORDER.index(layer(name)) + 1])
    assert own_layers(name) <= allowed, f"{name} imports from below: {own_layers(name) - allowed}"


@pytest.mark.parametrize(
    ("upper", "forbidden"),
    [
        # Estimators and moments read log-probabilities and inner products; figures read rows.
        ("estimators", {"lrm", "preferences", "scores"}),
        ("moments", {"lrm", "preferences", "scores"}),
        ("theory", set(ORDER) - {"theory", "records", "errors"}),
        ("mixing", {"lrm", "preferences", "scores"}),
        ("figures", set(ORDER) - {"figures"}),
    ],
)
def test_computations_know_no_language_model(upper, forbidden):
    for name in MODULES:
        if layer(name) == upper:
            assert not own_layers(name) & forbidden, f"{name} imports {own_layers(name) & forbidden}"


def test_transformers_is_imported_by_the_lrm_package_only():
    users = {name for name in MODULES if any(t.split(".")[0] == "transformers" for t in imported(name))}
    assert users
    assert {layer(name) for name in users} == {"lrm"}


@pytest.mark.parametrize(
    "module",
    [
        "bvpo_analysis",
        "bvpo_analysis.theory",
        "bvpo_analysis.moments",
        "bvpo_analysis.log_linear",
        "bvpo_analysis.lrm.shipped.task",
    ],
)
def test_light_modules_import_no_torch(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_help_of_the_report_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bvpo_analysis.report", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0
    assert "--resume" in done.stdout
    seen = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in seen
    assert not {"torch", "transformers", "matplotlib", "pandas"} & seen


def test_the_lazy_table_of_contents_resolves_every_name():
    assert len(set(bvpo_analysis.__all__)) == len(bvpo_analysis.__all__)
    for name in bvpo_analysis.__all__:
        assert getattr(bvpo_analysis, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = bvpo_analysis.no_such_name


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_read_at_a_sitting(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= LARGEST_MODULE


@pytest.mark.parametrize("name", [n for n, p in MODULES.items() if p.name == "__init__.py"])
def test_no_exported_name_hides_a_submodule(name):
    package = importlib.import_module(name)
    submodules = {n.rpartition(".")[2] for n in MODULES if n.rpartition(".")[0] == name}
    for exported in set(getattr(package, "__all__", ())) & submodules:
        assert getattr(package, exported) is importlib.import_module(f"{name}.{exported}"), exported
