"""``python -m bvpo_analysis.claims``: measure both sides of every theorem and print the table.

Exit code 0 when every measurement says what its claim says it does, 1 when one does not, 2 for wrong usage.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bvpo_analysis.errors import InputError, OneLineParser, exit_with

WIDEST = 110
"""Columns beyond which prose is not spread, however wide the terminal."""


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = OneLineParser(
        prog="python -m bvpo_analysis.claims",
        description="Every theorem of the paper, and of the theory around it, met by a measurement: measured value, "
        "predicted value, verdict. Statements that are too strong as worded come with a counterexample.",
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="only claims whose name contains one of these words")
    p.add_argument("--explain", action="store_true", help="below every row: statement, source, setting, note")
    p.add_argument("--format", choices=("text", "json", "csv"), default="text", help="form of the output")
    p.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        return _run(parser().parse_args(argv))
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except InputError as error:
        return exit_with(error)


def _run(options: argparse.Namespace) -> int:
    from bvpo_analysis.claims import families, measure
    from bvpo_analysis.claims.table import data_frame, summary, text_table, to_row

    if options.output is not None and not options.output.parent.is_dir():
        raise InputError(f"--output {options.output}: there is no folder {options.output.parent}; make it first")
    claims = measure(*options.names)
    if options.format == "json":
        text = json.dumps([to_row(claim) for claim in claims], indent=1) + "\n"
    elif options.format == "csv":
        text = data_frame(claims).to_csv(index=False)
    else:
        width = min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST)
        table = text_table(claims, families(), explain=options.explain, width=width)
        text = f"{table}\n\n{summary(claims)}\n"
    if options.output is None:
        print(text, end="")
    else:
        part = options.output.with_name(options.output.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(options.output)
        print(summary(claims))
    return 0 if all(claim.confirmed for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
