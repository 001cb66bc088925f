"""A fingerprint of the code between a sample and its intervals, so that results of two methods are never mixed."""

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

import bvpo_analysis

SOURCES: tuple[str, ...] = (
    "coverage/quantities.py",
    "coverage/replication.py",
    "mixing.py",
    "moments/intervals.py",
    "moments/law.py",
    "moments/population.py",
    "moments/ustatistics.py",
    "theory/mixing.py",
)
"""The modules that a replication runs through."""


@lru_cache(maxsize=1)
def method_fingerprint() -> str:
    """Hash of what these modules do; texts and layout do not count.

    Example:
        >>> len(method_fingerprint())
        16
    """
    digest = hashlib.blake2b(digest_size=8)
    for source in SOURCES:
        text = (Path(bvpo_analysis.__file__).parent / source).read_text(encoding="utf-8")
        digest.update(code_only(text).encode())
    return digest.hexdigest()


def code_only(text: str) -> str:
    """The syntax tree of a module without docstrings, comments and layout.

    Example:
        >>> code_only("x = 1  # one") == code_only("'''A number.'''\\nx=1")
        True
        >>> code_only("x = 1") == code_only("x = 2")
        False
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
