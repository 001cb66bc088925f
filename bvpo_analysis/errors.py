"""Errors a user can cause and mend; the commands print them as one line and exit 2 (input) or 1 (failure).

Both carry the remedy in their text. Programming errors stay ordinary Python exceptions.
"""

import argparse
import re
import sys
from typing import NoReturn


class InputError(ValueError):
    """Wrong usage or wrong input; the message names the place, what was expected and the fix. Exit code 2."""


class StudyError(RuntimeError):
    """A computation that cannot give a true number (NaN log-probabilities, say), with the fix. Exit code 1."""


def one_line(error: BaseException) -> str:
    """The text of an error on a single line.

    Example:
        >>> one_line(ValueError("first\\n  second"))
        'first second'
    """
    return re.sub(r"\s+", " ", str(error)).strip()


def exit_with(error: InputError | StudyError) -> int:
    """Print the error on one line of stderr; returns the exit code, 2 for input and 1 for failure."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2 if isinstance(error, InputError) else 1


class OneLineParser(argparse.ArgumentParser):
    """Command-line options whose wrong usage is reported like any other wrong input: one line, exit code 2.

    Example:
        >>> OneLineParser().parse_args(["--colour"])
        Traceback (most recent call last):
        bvpo_analysis.errors.InputError: unrecognized arguments: --colour; see --help
    """

    def error(self, message: str) -> NoReturn:
        """Raise what the commands print."""
        raise InputError(f"{message}; see --help")
