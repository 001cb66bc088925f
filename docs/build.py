"""Write the generated pages and refresh every quoted number: ``make docs``.

    python docs/build.py            # write
    python docs/build.py --check    # say what is out of date, write nothing; exit code 1 if anything is

Pages: api.md (from docstrings), glossary.md (from the code's own tables), what-we-found.md (from committed results),
and the quoted numbers of README.md and README.ja.md.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import api  # noqa: E402
import findings  # noqa: E402
import glossary  # noqa: E402
import quotes  # noqa: E402
from pages import wrapped  # noqa: E402


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    found = {
        FOLDER / "api.md": api.page(),
        FOLDER / "glossary.md": wrapped(glossary.page()),
        FOLDER / "what-we-found.md": wrapped(findings.page()),
    }
    return found | {path: quotes.refreshed(path.read_text(encoding="utf-8")) for path in quotes.READMES}


def outdated() -> dict[Path, str]:
    """The files whose text differs, with the text they should have."""
    return {
        path: text for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def main(arguments: list[str]) -> int:
    """Write what is out of date, or with ``--check`` only say so."""
    if arguments not in ([], ["--check"]):
        print("error: usage: python docs/build.py [--check]", file=sys.stderr)
        return 2
    late = outdated()
    for path, text in late.items():
        if not arguments:
            write(path, text)
        print(f"{path.relative_to(FOLDER.parent)}: {'out of date; run: make docs' if arguments else 'written'}")
    return 1 if late and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
