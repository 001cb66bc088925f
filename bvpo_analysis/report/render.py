"""results.json to an HTML page, a Markdown page and a terminal table. Computes nothing, all numbers come from there."""

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from bvpo_analysis import figures
from bvpo_analysis.report.drawings import drawings
from bvpo_analysis.report.formatting import (
    ascii_text,
    estimate_parts,
    estimate_text,
    extent,
    number,
    percent_parts,
    recommended_parts,
    share_text,
    symbols_html,
    symbols_markdown,
    weight_number,
    weight_parts,
)
from bvpo_analysis.report.page import page_of

_NAME = re.compile(r"^alpha_star\.(?P<target>[a-z_]+)(\.B(?P<batch_size>.+?))?\.K(?P<traces>\d+)\.kappa(?P<kappa>.+)$")


def target_of(name: str) -> dict[str, str]:
    """What the full name of an alpha refers to.

    Example:
        >>> target_of("alpha_star.population.B16.K1.kappa0.1")["kappa"]
        '0.1'
    """
    match = _NAME.match(name)
    return {key: value or "" for key, value in match.groupdict().items()} if match else {"target": name}


def _context(results: Mapping[str, Any]) -> dict[str, Any]:
    head = results["headline"]
    alerts = sorted(results.get("alerts") or [], key=lambda alert: alert["level"] != "warning")
    model, data = results.get("model") or {}, results.get("data") or {}
    return {
        "head": head,
        "target": target_of(head["alpha"]["name"]),
        "verdict": head["verdict"] if isinstance(head["verdict"], Mapping) else {"finding": head["verdict"]},
        "half": next((row for row in head["errors"] if row["name"] == "equal mix"), None),
        "alerts": alerts,
        "exact_law": head["alpha"]["estimate"].get("method") == "exact",
        "page": page_of(results),
        "model": model,
        "data": data,
        "title": f"Optimal mixing weight, {data['regime']} regime" if data.get("regime") else "Optimal mixing weight",
    }


def _environment(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bvpo_analysis.report"),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "num": number,
        "weight_num": weight_number,
        "parts": estimate_parts,
        "est": estimate_text,
        "share": share_text,
        "extent": extent,
        "weight": weight_parts,
        "recommended": recommended_parts,
        "percent": percent_parts,
        "sym": symbols_html if html else symbols_markdown,
        "together": lambda parts: " ".join(part for part in parts if part),
    }
    return environment


def render_html(results: Mapping[str, Any]) -> str:
    """One self-contained page: no network, no scripts, figures inline."""
    svg = {
        name: {
            "svg": Markup(figures.to_svg(drawing.figure, f"fig-{name}", drawing.title, drawing.alt)),
            "title": drawing.title,
            "caption": drawing.caption,
        }
        for name, drawing in drawings(results, figures.SCREEN_WIDTH).items()
    }
    template = _environment(html=True).get_template("report.html.j2")
    return template.render(**_context(results), figures=svg)


def render_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown, with the figures of :func:`write_figures` beside it."""
    template = _environment(html=False).get_template("report.md.j2")
    text = template.render(**_context(results), figures=drawings(results))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def summary_table(results: Mapping[str, Any]) -> str:
    """The table printed at the end of a run: at most twelve lines of at most a hundred columns, in ASCII."""
    head = results["headline"]
    alerts = results.get("alerts") or []
    warnings = sum(alert["level"] == "warning" for alert in alerts)
    lines = [("recommended alpha", f"{' '.join(recommended_parts(head['alpha'])).strip()}  {head['alpha']['name']}")]
    for row in head["errors"]:
        label = f"MSE / MSE of g_t, alpha = {weight_number(row['alpha'])}"
        lines.append((label, f"{estimate_text(row['relative'])}  {row['name']}"))
    lines.append(
        (
            "an empty trace is worth",
            f"{estimate_text(head.get('traces_worth'))}  extra traces per answer (target M1)",
        )
    )
    instead = head.get("twice_the_prompts")
    words = f"{estimate_text(instead)}  times the MSE of the optimal mix" if instead else "not determined"
    lines.append(("twice the prompts instead", words))
    width = max(len(label) for label, _ in lines)
    verdict = head["verdict"]
    words = f"{verdict['finding']}: {verdict['reason']}" if isinstance(verdict, Mapping) else str(verdict)
    wrapped = textwrap.wrap(words, 98 - width, max_lines=12 - len(lines) - 1, placeholder=" ...")
    lines += [("verdict" if i == 0 else "", part) for i, part in enumerate(wrapped)]
    lines.append(("alerts", f"{len(alerts)}, of which warnings: {warnings}"))
    return ascii_text("\n".join(f"{label:<{width}}  {text}".rstrip()[:100] for label, text in lines))
