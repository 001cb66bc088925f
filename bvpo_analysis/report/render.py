"""results.json to pages, figures and a terminal table. Computes nothing: every number comes from the results.

:func:`estimate_parts` is the one place where numbers become text. Digits follow the interval: two significant digits of
its width, ``0.34 [0.28, 0.41]``.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from bvpo_analysis import figures

MISSING, UNBOUNDED = "n/a", "unbounded"
_WEIGHT_PLACES = 2
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# ---------------------------------------------------------------------------------------------- numbers to text


def number(value: float | None) -> str:
    """A number known without an interval, to three significant digits; whole numbers in full.

    Example:
        >>> number(0.5), number(12345), number(-0.012345), number(2.1e-05), number(None)
        ('0.5', '12\\u2009345', '−0.0123', '2.1 × 10⁻⁵', 'n/a')
    """
    if value is None or math.isnan(value):
        return MISSING
    if float(value).is_integer() and abs(value) < 1e15:
        return _signed(f"{int(value):,}".replace(",", "\u2009") if abs(value) >= 10000 else str(int(value)))
    power = _power(abs(value))
    return _signed(f"{value / 10.0**power:.3g}") + _times_ten(power)


def estimate_parts(estimate: Mapping[str, Any] | None, least: int = 0) -> tuple[str, str]:
    """An Estimate as value and interval; the interval is empty for an exact number.

    An end that is null is infinite, unless there is no standard error either: then there is no interval.

    Args:
        estimate: the estimate.
        least: decimal places to show even where the interval is too wide to warrant them.

    Example:
        >>> estimate_parts({"value": 0.343, "se": 0.03, "ci_low": 0.281, "ci_high": 0.4149})
        ('0.34', '[0.28, 0.41]')
    """
    if estimate is None or estimate.get("value") is None:
        return MISSING, ""
    value, low, high = estimate["value"], estimate.get("ci_low"), estimate.get("ci_high")
    if low is not None and low == high:
        return number(value), ""
    if low is None and high is None:
        return number(value), f"[{UNBOUNDED}]" if estimate.get("se") is not None else ""
    width = high - low if low is not None and high is not None else 2 * abs(value - (high if low is None else low))
    power = _power(max(abs(x) for x in (value, low, high) if x is not None))
    scale = 10.0**power
    places = max(least, 1 - math.floor(math.log10(width / scale))) if width > 0 else 2

    def text(x: float | None) -> str:
        return UNBOUNDED if x is None else _signed(f"{x / scale:.{places}f}")

    return text(value) + _times_ten(power), f"[{text(low)}, {text(high)}]" + _times_ten(power)


def weight_parts(alpha: Mapping[str, Any]) -> tuple[str, str]:
    """An unclipped optimal weight and its confidence set, which need not be an interval.

    Example:
        >>> estimate = {"value": -0.44, "se": 1.2, "ci_low": 0.474, "ci_high": 3.046}
        >>> weight_parts({"estimate": estimate, "confidence_set": "complement"})
        ('−0.44', 'outside (0.47, 3.05)')
    """
    if alpha.get("degenerate"):
        return "not determined", ""
    if alpha["confidence_set"] == "line":
        return number(alpha["estimate"]["value"]), f"[{UNBOUNDED}]"
    value, interval = estimate_parts(alpha["estimate"], least=_WEIGHT_PLACES)
    if alpha["confidence_set"] == "complement":
        interval = f"outside ({interval.strip('[]')})"
    return value, interval


def recommended_parts(alpha: Mapping[str, Any]) -> tuple[str, str]:
    """The recommended (clipped) weight and its clipped interval."""
    if alpha.get("degenerate"):
        return "not determined", ""
    ends = {"value": alpha["recommended"], "se": 0.0}
    ends |= {"ci_low": alpha["recommended_low"], "ci_high": alpha["recommended_high"]}
    return estimate_parts(ends, least=_WEIGHT_PLACES)


def weight_number(value: float) -> str:
    """A weight known without an interval."""
    return number(round(value, _WEIGHT_PLACES))


def percent_parts(estimate: Mapping[str, Any] | None) -> tuple[str, str]:
    """A fraction as a percentage, with its interval."""
    if estimate is None:
        return MISSING, ""
    keys = ("value", "ci_low", "ci_high")
    scaled = {**estimate, **{key: None if estimate[key] is None else 100.0 * estimate[key] for key in keys}}
    value, interval = estimate_parts(scaled)
    return (value if value == MISSING else f"{value} %"), interval


def estimate_text(estimate: Mapping[str, Any] | None) -> str:
    """An Estimate in one piece, such as ``0.34 [0.28, 0.41]``."""
    return " ".join(part for part in estimate_parts(estimate) if part)


def ascii_text(text: str) -> str:
    """The same in ASCII, for terminals of any encoding.

    Example:
        >>> ascii_text("−2.1 × 10⁻⁵")
        '-2.1e-5'
    """
    text = re.sub(r" × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "e" + m[1].translate(_FROM_SUPERSCRIPT), text)
    return text.replace("−", "-").replace("\u2009", "").replace("α", "alpha").replace("κ", "kappa")


_FROM_SUPERSCRIPT = {v: k for k, v in _SUPERSCRIPT.items()}


def _power(largest: float) -> int:
    """The power of ten to take out: none for sizes that read well in full."""
    return math.floor(math.log10(largest)) if largest > 0 and not 1e-3 <= largest < 1e5 else 0


def _times_ten(power: int) -> str:
    return f" × 10{str(power).translate(_SUPERSCRIPT)}" if power else ""


def _signed(text: str) -> str:
    zero = not any(c in "123456789" for c in text)
    return text.lstrip("-") if zero else text.replace("-", "−")


def _size(count: int | float | None) -> str:
    if count is None:
        return MISSING
    unit = next((u for u in ("KiB", "MiB") if count / _BYTES[u] < 1024), "GiB")
    return f"{count / _BYTES[unit]:.3g} {unit}"


_BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _plain(value: Any) -> str:
    """Any value of config, model or data as text."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(v) for v in value) or "none"
    return str(value)


def _flat(facts: Mapping[str, Any] | None, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in (facts or {}).items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value) if key.endswith("seed") else _plain(value)))
    return rows


def symbols_html(text: Any) -> Markup:
    """Text with g_t, b_e, ... set as symbols, and alpha* as α*."""
    safe = str(escape(text)).replace("alpha*", "α*").replace("^2", "²")
    return Markup(re.sub(r"\b([gb])_([tec])\b", r'<i class="sym">\1</i><sub>\2</sub>', safe))


def symbols_markdown(text: Any) -> str:
    """Text with the characters escaped that Markdown would take as markup."""
    text = str(text).replace("alpha*", "α*").replace("^2", "²")
    return re.sub(r"([*|<>`\\])", r"\\\1", re.sub(r"\s*\n\s*", " ", text))


# ------------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Drawing:
    """A figure with its words: ``name`` of its files, ``title``, ``caption``, and ``alt``, what a reader would see."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame


def drawings(results: Mapping[str, Any], width: float = figures.TEXT_WIDTH) -> dict[str, Drawing]:
    """Every figure the results have data for, by name, at this width in inches."""
    found = []
    with figures.paper_style():
        if results.get("curve"):
            found.append(_draw_curve(results, width))
        if results.get("estimators"):
            found.append(_draw_estimators(results["estimators"], width))
        if results.get("alpha_grid"):
            found.append(_draw_grid(results["alpha_grid"], width))
        if results.get("groups"):
            found.append(_draw_groups(results["groups"], width))
    return {drawing.name: drawing for drawing in found}


def _draw_curve(results: Mapping[str, Any], width: float) -> Drawing:
    head, curve = results["headline"], results["curve"]
    figure, ax = figures.new_figure(width, height=3.3)
    columns = 3 if width > figures.SCREEN_WIDTH else 2
    figures.plot_mse_alpha(curve, ax, errors=head["errors"], alpha=head["alpha"], legend_columns=columns)
    caption = (
        "MSE of the mix g_c = α g_t + (1 − α) g_e against α, stacked by origin, and its total with a 95 % interval. "
        "The bar below the curve is the interval of α*, clipped to weights that can be used."
    )
    if figures.stack_is_clipped(curve):
        caption += (
            " An unbiased estimate of a part is negative at some weights; its band is drawn as zero there, so the "
            "bands do not add up to the line, which is the true total."
        )
    marks = [f"{row['name']} {estimate_text(row['mse'])}" for row in head["errors"]]
    alt = "Mean squared error against the mixing weight. " + "; ".join(marks) + "."
    return Drawing("mse_alpha", "MSE against the mixing weight", caption, alt, figure, pd.DataFrame(curve))


def _draw_estimators(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=0.65 + 0.23 * len(rows))
    figures.plot_estimators(rows, ax)
    caption = (
        "MSE relative to g_t with one trace, with 95 % intervals. In brackets: sequences to score per preference pair."
    )
    alt = "; ".join(f"{row['name']} {estimate_text(row['relative'])}" for row in rows)
    data = [
        {"name": row["name"], "sequences": row["sequences"], **_ends("relative", row.get("relative"))} for row in rows
    ]
    return Drawing("estimators", "MSE of the estimators", caption, f"{alt}.", figure, pd.DataFrame(data))


def _draw_grid(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=3.2)
    figures.plot_alpha_grid(rows, ax)
    caption = (
        "Unclipped α* against batch size, one line per κ, with 95 % intervals. Filled markers have a bounded interval. "
        "Open markers with arrows have an unbounded one; triangles at the edge lie outside the figure; a cross below "
        "the axis marks a case where the data determine no value. Lines are shifted sideways a little to keep them "
        "apart."
    )
    parts = [f"batch size {number(r['batch_size'])}, κ = {number(r['kappa'])}: {_grid_text(r)}" for r in rows]
    alt = "Optimal weight by batch size and kappa. " + "; ".join(parts) + "."
    return Drawing("alpha_grid", "α* against batch size and κ", caption, alt, figure, pd.DataFrame(rows))


def _draw_groups(rows: Sequence[Mapping[str, Any]], width: float) -> Drawing:
    figure, ax = figures.new_figure(width, height=0.65 + 0.23 * len(rows))
    figures.plot_groups(rows, ax)
    caption = "Unclipped α* of every parameter group and of the whole gradient, with 95 % intervals."
    alt = "; ".join(f"{row['name']} {' '.join(weight_parts(row['alpha'])).strip()}" for row in rows)
    data = [
        {
            "name": row["name"],
            **_ends("alpha", row["alpha"]["estimate"]),
            "confidence_set": row["alpha"]["confidence_set"],
        }
        for row in rows
    ]
    return Drawing("groups", "α* per parameter group", caption, f"{alt}.", figure, pd.DataFrame(data))


def _ends(name: str, estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    e = estimate or {}
    return {name: e.get("value"), "low": e.get("ci_low"), "high": e.get("ci_high")}


def grid_parts(row: Mapping[str, Any]) -> tuple[str, str]:
    """One cell of the table of batch sizes and kappas."""
    unknown = row["low"] is None and row["high"] is None
    estimate = {"value": row["alpha"], "se": 0.0, "ci_low": row["low"], "ci_high": row["high"]}
    return weight_parts({"estimate": estimate, "confidence_set": row["confidence_set"], "degenerate": unknown})


def _grid_text(row: Mapping[str, Any]) -> str:
    return " ".join(part for part in grid_parts(row) if part)


def write_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every figure as PDF, PNG and CSV in ``folder``; returns the paths."""
    written: list[Path] = []
    for drawing in drawings(results).values():
        written += figures.save_figure(drawing.figure, Path(folder) / drawing.name, drawing.data)
    return written


# -------------------------------------------------------------------------------------------------------- pages

MOMENTS: dict[str, tuple[str, str]] = {
    "bias_t_sq": ("|b_t|²", "squared bias of g_t; zero by construction at the reference"),
    "bias_e_sq": ("|b_e|²", "squared bias of g_e"),
    "bias_inner": ("⟨b_t, b_e⟩", "inner product of the two biases"),
    "bias_diff_sq": ("|b_t − b_e|²", "squared distance of the two means"),
    "bias_t_diff": ("⟨b_t, b_t − b_e⟩", "bias of g_t along the difference"),
    "var_t": ("Tr Cov(g_t)", "variance of g_t, traces and prompts together"),
    "var_e": ("Tr Cov(g_e)", "variance of g_e; prompts only"),
    "cov_te": ("Tr Cov(g_t, g_e)", "covariance of the two, from the prompts they share"),
    "var_diff": ("Tr Cov(g_t − g_e)", "variance of the difference"),
    "cov_t_diff": ("Tr Cov(g_t, g_t − g_e)", "covariance of g_t with the difference"),
    "trace_var": ("τ", "trace variance: the part of Tr Cov(g_t) from sampling traces, given the data"),
    "data_var_t": ("Tr Cov(g_t) − τ", "data variance: the part of Tr Cov(g_t) from sampling prompts"),
    "prompt_bias_t_sq": ("E|b_t(x)|²", "squared bias of g_t against each prompt's own marginal gradient, averaged"),
    "prompt_bias_e_sq": ("E|b_e(x)|²", "the same for g_e"),
    "prompt_bias_inner": ("E⟨b_t(x), b_e(x)⟩", "inner product of the two, averaged"),
    "prompt_bias_diff_sq": ("E|b_t(x) − b_e(x)|²", "squared distance of the two, averaged"),
    "prompt_bias_t_diff": ("E⟨b_t(x), b_t(x) − b_e(x)⟩", "bias of g_t along the difference, averaged"),
    "target_sq": ("|μ|²", "squared length of the marginal gradient"),
    "target_dot_e": ("⟨μ, E g_e⟩", "inner product of the marginal and the mean empty-trace gradient"),
    "mean_e_sq": ("|E g_e|²", "squared length of the mean empty-trace gradient"),
    "cosine_e": ("cos(μ, E g_e)", "their cosine; a ratio of unbiased estimates, which can leave its range by noise"),
}
"""Symbol and meaning of every moment."""

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
        "has_split": all(row.get("trace_var") is not None for row in results.get("estimators") or []),
        "groups_split": all(row.get("trace_var") is not None for row in results.get("groups") or []),
        "any_exact": any(row.get("exact") is not None for row in results.get("targets") or []),
        "provenance": [
            ("Options", _labelled(results.get("config"))),
            ("Model", _labelled(model)),
            ("Data", _labelled(data)),
            ("Versions", _labelled(results.get("versions"))),
        ],
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
    return [(_LABELS.get(key, key.replace("_", " ")), value) for key, value in _flat(facts)]


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
        "size": _size,
        "parts": estimate_parts,
        "est": estimate_text,
        "weight": weight_parts,
        "recommended": recommended_parts,
        "percent": percent_parts,
        "cell": grid_parts,
        "sym": symbols_html if html else symbols_markdown,
        "together": lambda parts: " ".join(part for part in parts if part),
    }
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
    lines.append(("an empty trace is worth", f"{estimate_text(head.get('traces_worth'))}  extra traces per answer"))
    lines.append(("mixing is worth a batch", f"{estimate_text(head.get('batch_equivalent'))}  times as large"))
    width = max(len(label) for label, _ in lines)
    verdict = head["verdict"]
    words = f"{verdict['finding']}: {verdict['reason']}" if isinstance(verdict, Mapping) else str(verdict)
    wrapped = textwrap.wrap(words, 98 - width, max_lines=12 - len(lines) - 1, placeholder=" ...")
    lines += [("verdict" if i == 0 else "", part) for i, part in enumerate(wrapped)]
    lines.append(("alerts", f"{len(alerts)}, of which warnings: {warnings}"))
    return ascii_text("\n".join(f"{label:<{width}}  {text}".rstrip()[:100] for label, text in lines))
