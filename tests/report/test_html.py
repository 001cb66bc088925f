"""The page in a real browser: it fits a phone and a desk, says nothing on the console, and asks for nothing."""

import json
import re
import shutil
import subprocess

import pytest
from report_samples import CASES

from bvpo_analysis.report.render import render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1280)
FRAME = 1400
"""Width of the window around the frame that has the width of the page."""
TIMEOUT = 60
PROBE = """
<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll") && !e.closest("svg")
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className);
  const small = [...document.querySelectorAll("p, td, th, li, figcaption")].filter(
    e => parseFloat(getComputedStyle(e).fontSize) < 11.5).length;
  const unnamed = [...document.querySelectorAll("svg")].filter(e => !e.getAttribute("aria-labelledby")).length;
  const boxes = [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1);
  const stuck = boxes.filter(e => !["auto", "scroll"].includes(getComputedStyle(e).overflowX)).length;
  document.title = JSON.stringify({
    inner: innerWidth, page: document.documentElement.scrollWidth, wide: wide.slice(0, 5), small, unnamed, stuck,
    requests: performance.getEntriesByType("resource").length, questions: document.querySelectorAll(".question").length,
    answered: [...document.querySelectorAll(".question .answer")].filter(e => e.textContent.trim().length > 20).length,
    links: [...document.querySelectorAll("a[href]")].filter(
      e => !document.getElementById(e.getAttribute("href").slice(1))).length,
  });
});
</script>
"""
"""Measures the page and writes what it finds into its title; added to a copy of it."""

pytestmark = [pytest.mark.chromium, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")]


def browse(path, width, tmp_path, *more):
    """Chromium on a file at a window width; returns what it printed."""
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"),
            *("--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}", "--no-first-run"),
            *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", *more, path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done


def framed(page, width):
    """A page with the other one in a frame of this width: headless windows have a least width that phones have not."""
    escaped = page.replace("&", "&amp;").replace('"', "&quot;")
    listen = 'onload="document.title = this.contentDocument.title"'
    frame = f'<iframe {listen} style="border:0;width:{width}px;height:900px" srcdoc="{escaped}"></iframe>'
    return f'<!DOCTYPE html><body style="margin:0">{frame}'


def measured(page, width, tmp_path):
    """What the probe finds on a page at a width."""
    path = tmp_path / "page.html"
    path.write_text(framed(page.replace("</body>", PROBE + "</body>"), width), encoding="utf-8")
    done = browse(path, FRAME, tmp_path, "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout[:300]
    return json.loads(title[1].replace("&quot;", '"').replace("&amp;", "&"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_the_page_fits_its_window(case, width, tmp_path):
    """Catches a table or a figure wider than the screen, a missing question, an external request, a dead link."""
    found = measured(render_html(CASES[case]()), width, tmp_path)
    assert found["inner"] == width
    assert found["page"] <= width, found
    assert found["wide"] == []
    assert found["stuck"] == found["unnamed"] == found["small"] == found["links"] == 0, found
    assert found["requests"] == 0
    assert found["questions"] == found["answered"] == 16


def test_a_page_that_does_not_fit_is_noticed(tmp_path):
    """Catches a probe that sees nothing."""
    page = render_html(CASES["bare"]()).replace("<header>", '<div style="width:600px">wide</div><header>')
    page = page.replace("</header>", '<a href="#nowhere">lost</a></header>')
    found = measured(page, WIDTHS[0], tmp_path)
    assert found["wide"] == ["DIV."]
    assert found["page"] >= 600
    assert found["links"] == 1


@pytest.mark.parametrize("case", CASES)
def test_the_console_is_silent(case, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render_html(CASES[case]()), encoding="utf-8")
    done = browse(path, WIDTHS[1], tmp_path, "--dump-dom")
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_the_console_is_heard(tmp_path):
    """Catches a test of the console that would pass whatever the page says."""
    path = tmp_path / "page.html"
    path.write_text("<!DOCTYPE html><script>console.error('heard')</script>", encoding="utf-8")
    assert "heard" in browse(path, WIDTHS[1], tmp_path, "--dump-dom").stderr


def test_it_prints(tmp_path):
    """Catches a print style under which nothing is left, or closed tables stay closed."""
    path, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(render_html(CASES["sample"]()), encoding="utf-8")
    browse(path, WIDTHS[1], tmp_path, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    pages = printed.read_bytes().count(b"/Type /Page\n") or len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 4 <= pages <= 40
