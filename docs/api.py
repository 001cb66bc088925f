"""The API reference: what ``import bvpo_analysis`` offers, in full, and an index of the packages below it.

Everything comes from signatures and docstrings.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pages import WIDTH, first_sentence

import bvpo_analysis

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "preferences",
    "scores",
    "estimators",
    "moments",
    "theory",
    "mixing",
    "combining",
    "figures",
    "evaluation",
    "training",
    "off_reference",
    "coverage",
    "claims",
)
"""Packages with an index of their own, in pipeline order."""
SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Example", "Examples", "Columns")

HEAD = """\
# API reference

Written by `make docs` from signatures and docstrings. First the names that `import bvpo_analysis` offers, in pipeline
order, then an index of the packages. Equations, shapes `[..]` and proofs stand in the docstrings, which `help` shows.

```python
import bvpo_analysis as ba

study = ba.Study.from_pairs("path/to/model", "pairs.jsonl")
study.optimal_alpha(batch_size=64)
```
"""


def public_names() -> Iterator[tuple[str, Any]]:
    """(full name, object) of everything that a package lists in ``__all__``, submodules left out."""
    for package in ("", *PACKAGES):
        module = importlib.import_module(f"bvpo_analysis.{package}".rstrip("."))
        for name in names_of(module):
            thing = getattr(module, name)
            if not inspect.ismodule(thing):
                yield f"{module.__name__}.{name}", thing


def names_of(module: Any) -> list[str]:
    """The public names of a module: its ``__all__``, or what is defined in it."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        n for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
    ]


def public_members(thing: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that a class defines itself, in order of definition."""
    for name, member in vars(thing).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(member, property)):
            yield name, plain


def signature(name: str, thing: Any) -> str:
    """``name(arguments) -> result`` without the paths of types; one argument per line where it is long.

    Example:
        >>> def f(x: Path, y: "float" = 0.1, z: str = "a") -> None:
        ...     pass
        >>> signature("f", f)
        'f(x: Path, y: float = 0.1, z: str = "a")'
    """
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return name
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(\w+)", r"\1", text)
    text = re.sub(r"<(?:class )?'?(\w+)'?[^>]*>", r"\1", text)
    text = re.sub(r"\((?:self|cls)(?:, |(?=\)))", "(", text, count=1)
    text = re.sub(r"(: |-> )'([^']+)'", r"\1\2", text).removesuffix(" -> None")
    for kind, short in (("float64", "Floats"), ("int64", "Ints")):  # as in records; NumPy writes them in several ways
        text = re.sub(rf"ndarray\[(?:tuple\[Any, \.\.\.\]|Any), dtype\[{kind}\]\]", short, text)
    text = text.replace("'", '"')
    if len(name + text) <= WIDTH - 10:
        return name + text
    arguments, _, result = text[1:].rpartition(")")
    lines = re.split(r", (?=[*\w]+(?::|,|$))(?![^\[]*\])", arguments)
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"


def markdown(doc: str) -> str:
    """A docstring as Markdown: sections become bold words with lists, examples become code.

    Example:
        >>> print(markdown("Does it.\\n\\nArgs:\\n    x: a number."))
        Does it.
        <BLANKLINE>
        **Args**
        <BLANKLINE>
        * `x`: a number.
    """
    blocks, section = [], ""
    for block in re.split(r"\n\n", doc.strip("\n")):
        heading = re.match(rf"({'|'.join(SECTIONS)}):\n", block)
        if heading:
            section, block = heading[1], block[heading.end() :]
            if not section.startswith("Example"):
                blocks.append(f"**{section}**")
        indented = all(line.startswith("    ") or not line for line in block.splitlines())
        if not indented:
            section = ""
        body = re.sub(r"^    ", "", block, flags=re.M) if indented else block
        if body.startswith(">>>"):
            blocks.append(f"```pycon\n{body}\n```")
        elif section in ("Args", "Raises", "Attributes"):
            blocks.append(_items(body))
        elif indented and not section:
            blocks.append(f"```text\n{body}\n```")
        else:
            blocks.append(_roles(body))
    return "\n\n".join(blocks)


def _items(body: str) -> str:
    items = re.split(r"\n(?=\S)", body)
    return "\n".join(
        re.sub(r"^([\w*, .]+?):\s", r"* `\1`: ", " ".join(_roles(item).split())) if ":" in item else f"* {item}"
        for item in items
    )


def _roles(text: str) -> str:
    """Cross-references and double backquotes as plain code."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`")


def _path(thing: Any) -> str:
    """Where in the repository something is defined; empty if elsewhere."""
    try:
        source = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "").resolve()
    except TypeError:
        return ""
    return source.relative_to(ROOT).as_posix() if source.is_relative_to(ROOT) else ""


@cache
def constants(package: str) -> dict[str, tuple[str, str]]:
    """(path, text below the assignment) of the constants of a package, by name."""
    found = {}
    home = Path(importlib.import_module(f"bvpo_analysis.{package}").__file__ or "")
    for path in sorted(home.parent.rglob("*.py")) if home.name == "__init__.py" else [home]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for statement, after in itertools.pairwise(body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            flat = [one for t in targets for one in (t.elts if isinstance(t, ast.Tuple) else [t])]
            for target in flat:
                if isinstance(target, ast.Name):
                    text = str(after.value.value) if said else ""
                    found[target.id] = (
                        path.resolve().relative_to(ROOT).as_posix(),
                        " ".join(text.split("\n\n")[0].split()),
                    )
    return found


def entry(name: str, thing: Any) -> str:
    """One name in full: signature, docstring, and the methods of a class."""
    if inspect.ismodule(thing):
        return f"## {name}\n\n{_roles(first_sentence(thing))}\n\nSee the [index](#bvpo_analysis{name})."
    if not callable(thing):
        home = bvpo_analysis._HOME.get(name, "")
        return f"## {name}\n\nA table of `bvpo_analysis.{home}`: {', '.join(f'`{key}`' for key in thing)}."
    shown = name if dataclasses.is_dataclass(thing) and _only_made_by_us(thing) else signature(name, thing)
    parts = [f"## {name}", f"```text\n{shown}\n```", markdown(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        for member, function in public_members(thing):
            target: Callable[..., Any] = function.fget if isinstance(function, property) else function
            line = f"{name}.{member}" if isinstance(function, property) else signature(f"{name}.{member}", target)
            parts += [f"### {name}.{member}", f"```text\n{line}\n```", markdown(inspect.getdoc(target) or "")]
    parts.append(f"*[source](../{_path(thing)})*")
    return "\n\n".join(parts)


def _only_made_by_us(thing: type) -> bool:
    """Whether a class is made by a method of its own, so that its fields are no arguments for a reader."""
    return any(isinstance(member, classmethod) for member in vars(thing).values())


def index(package: str) -> str:
    """A table of the names of a package."""
    module = importlib.import_module(f"bvpo_analysis.{package}")
    rows = []
    for name in names_of(module):
        thing = getattr(module, name)
        described = inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)
        path, what = (_path(thing), first_sentence(thing)) if described else constants(package).get(name, ("", ""))
        rows.append(f"| [`{name}`](../{path}) | {_roles(what).replace('|', chr(92) + '|')} |")
    return (
        f"### bvpo_analysis.{package}\n\n{_roles(first_sentence(module))}\n\n| name | what it is |\n|---|---|\n"
        + "\n".join(rows)
    )


def page() -> str:
    """The whole reference."""
    names = [entry(name, getattr(bvpo_analysis, name)) for name in bvpo_analysis.__all__]
    return (
        "\n\n".join([HEAD.rstrip(), *names, "## Index of the packages", *(index(package) for package in PACKAGES)])
        + "\n"
    )
