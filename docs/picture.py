"""The picture of a report in the README: the first screen of a report.html in a headless Chromium.

    python docs/picture.py                          # of the newest run, runs/latest
    python docs/picture.py runs/NAME/report.html

Writes docs/report.png, in 64 colours so that it stays small. Needs Chromium. The file carries the terminal table of the
same results, by which a test sees whether it is out of date.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bvpo_analysis.report.render import summary_table

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1000, 985
"""Of the window."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def screenshot(page: Path, target: Path, browser: str) -> None:
    """Open a page and write what its first screen shows."""
    subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={target}",
            page.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


def main(arguments: list[str]) -> int:
    """Write docs/report.png from the named page, or from the newest run."""
    page = Path(arguments[0]) if arguments else ROOT / "runs" / "latest" / "report.html"
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print("error: no Chromium on PATH; install chromium", file=sys.stderr)
        return 2
    results = page.with_name("results.json")
    if not page.is_file() or not results.is_file():
        print(f"error: {page} is missing; make a report first, with: make report", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        taken, part = Path(folder) / "page.png", OUTPUT.with_name(OUTPUT.name + ".part")
        screenshot(page, taken, browser)
        shown = PngInfo()
        shown.add_text("Description", summary_table(json.loads(results.read_text(encoding="utf-8"))))
        Image.open(taken).convert("RGB").quantize(64).save(part, format="PNG", optimize=True, pnginfo=shown)
    part.replace(OUTPUT)
    print(f"{OUTPUT.relative_to(ROOT)}: {OUTPUT.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
