"""results.json to an HTML page, a Markdown page and a terminal table. Computes nothing, all numbers come from there."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from bvpo_analysis import figures
from bvpo_analysis.report.drawings import drawings
from bvpo_analysis.report.formatting import (
    ascii_text,
    estimate_parts,
    estimate_text,
    flat_facts,
    greek,
    grid_parts,
    number,
    percent_parts,
    recommended_parts,
    size_text,
    symbols_html,
    symbols_markdown,
    weight_number,
    weight_parts,
)
from bvpo_analysis.tables import MOMENTS

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("g_t", "trace-based gradient: the preference loss on answers with a sampled reasoning trace"),
    ("g_e", "empty-trace gradient: the same loss on answers given without thinking"),
    ("g_c", "their mixture, α g_t + (1 − α) g_e"),
    ("μ", "marginal gradient: of the loss in which traces are summed out; the target"),
    ("b_t, b_e", "biases, E g_t − μ and E g_e − μ"),
    ("α*", "weight of g_t with the smallest error"),
    ("B, K, κ", "prompts per batch, traces averaged per answer, step size times smoothness"),
)
"""Symbols of the report."""

RELATIONS = {"identity": "=", "tight": "=", "upper": "≤", "lower": "≥"}
"""What a claim says about its two numbers, by kind."""

_LABELS = {
    "regime": "preference regime",
    "source": "data",
    "pairs": "preference pairs",
    "traces_per_answer": "posterior traces per answer",
    "empty_answers_own": "pairs with empty-trace answers of their own",
    "tokens_trace_mean": "tokens per trace, mean",
    "tokens_answer_mean": "tokens per answer, mean",
    "ref_model": "reference model",
    "model": "model (not set: the model in the box)",
    "data": "data file (not set: the pairs in the box)",
    "params": "parameters (regular expression; not set: all)",
    "limit": "limit on pairs",
}

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
    grid = results.get("alpha_grid") or []
    model, data = results.get("model") or {}, results.get("data") or {}
    moments = results.get("moments") or {}
    return {
        "r": results,
        "head": head,
        "target": target_of(head["alpha"]["name"]),
        "verdict": head["verdict"] if isinstance(head["verdict"], Mapping) else {"finding": head["verdict"]},
        "half": next((row for row in head["errors"] if row["name"] == "equal mix"), None),
        "single": next((row for row in head["errors"] if row["name"] == "g_t alone"), None),
        "alerts": alerts,
        "warnings": sum(alert["level"] == "warning" for alert in alerts),
        "exact_law": head["alpha"]["estimate"].get("method") == "exact",
        "clusters": head["alpha"]["estimate"].get("n"),
        "moments": [(*MOMENTS.get(key, (key, "")), value) for key, value in moments.items() if _is_estimate(value)],
        "glossary": GLOSSARY,
        "kappas": list(dict.fromkeys(row["kappa"] for row in grid)),
        "grid": {size: [row for row in grid if row["batch_size"] == size] for size in _unique(grid, "batch_size")},
        "unbounded": any(row["confidence_set"] != "interval" for row in grid),
        "has_split": all(row.get("trace_var") is not None for row in results.get("estimators") or []),
        "groups_split": all(row.get("trace_var") is not None for row in results.get("groups") or []),
        "any_exact": any(row.get("exact") is not None for row in results.get("targets") or []),
        "provenance": [
            ("Options", _labelled(results.get("config"))),
            ("Model", _labelled(model)),
            ("Data", _labelled(data)),
            ("Versions", _labelled(results.get("versions"))),
        ],
        "too_strong": [row for row in results.get("claims") or [] if row["only_if"]],
        "sound": [row for row in results.get("claims") or [] if not row["only_if"]],
        "relations": RELATIONS,
        "sections": results.get("sections") or [],
        "cost": results.get("cost") or {},
        "model": model,
        "data": data,
        "title": f"Optimal mixing weight, {data['regime']} regime" if data.get("regime") else "Optimal mixing weight",
    }


def _is_estimate(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and "value" in value)


def _unique(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _labelled(facts: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(_LABELS.get(key, key.replace("_", " ")), value) for key, value in flat_facts(facts)]


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
        "size": size_text,
        "parts": estimate_parts,
        "est": estimate_text,
        "weight": weight_parts,
        "recommended": recommended_parts,
        "percent": percent_parts,
        "cell": grid_parts,
        "sym": symbols_html if html else symbols_markdown,
        "greek": greek,
        "together": lambda parts: " ".join(part for part in parts if part),
    }
    environment.tests["greater_than_one"] = lambda value: value > 1
    return environment


def render_html(results: Mapping[str, Any]) -> str:
    """One self-contained page: no network, no scripts, figures inline."""
    svg = {
        name: {
            "svg": Markup(figures.to_svg(drawing.figure, f"fig-{name}", drawing.title, drawing.alt)),
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
