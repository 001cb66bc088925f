"""Numbers as text: the one place where the report decides on digits.

Digits follow the interval: two significant digits of its width, ``0.34 [0.28, 0.41]``. Nothing is computed here.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

MISSING, UNBOUNDED = "n/a", "unbounded"
_WEIGHT_PLACES = 2
_WORD, _PHRASE = 24, 48
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None) -> str:
    """A number known without an interval, to three significant digits; whole numbers in full.

    Example:
        >>> number(0.5), number(12345), number(-0.012345), number(2979.3), number(2.1e-05), number(None)
        ('0.5', '12\\u2009345', '−0.0123', '2980', '2.1 × 10⁻⁵', 'n/a')
    """
    if value is None or math.isnan(value):
        return MISSING
    if float(value).is_integer() and abs(value) < 1e15:
        return _signed(f"{int(value):,}".replace(",", "\u2009") if abs(value) >= 10000 else str(int(value)))
    power = _power(abs(value))
    text = f"{value / 10.0**power:.3g}"
    return _signed(f"{float(text):.0f}" if "e" in text else text) + _times_ten(power)


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


def share_text(value: float | None) -> str:
    """A share known without an interval, to three decimal places.

    Example:
        >>> share_text(0.95)
        '0.950'
    """
    return MISSING if value is None else f"{value:.3f}"


def extent(text: Any) -> str:
    """How wide a cell of text should be at least: "words" for sentences, "brief" for phrases, "keep" for a word or two.

    Example:
        >>> extent("g_t"), extent("mean of several traces per answer"), extent(None)
        ('keep', 'brief', 'keep')
    """
    length = len(str(text or ""))
    return "words" if length > _PHRASE else "brief" if length > _WORD else "keep"


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


def size_text(count: int | float | None) -> str:
    if count is None:
        return MISSING
    unit = next((u for u in ("KiB", "MiB") if count / _BYTES[u] < 1024), "GiB")
    return f"{count / _BYTES[unit]:.3g} {unit}"


_BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def plain_text(value: Any) -> str:
    """Any value of config, model or data as text."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain_text(v) for v in value) or "none"
    return str(value)


def flat_facts(facts: Mapping[str, Any] | None, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in (facts or {}).items():
        if isinstance(value, Mapping):
            rows += flat_facts(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value) if key.endswith("seed") else plain_text(value)))
    return rows


_GREEK = {
    "Delta": "Δ",
    "alpha": "α",
    "beta": "β",
    "eta": "η",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "theta": "θ",
    "zeta": "ζ",
}
_INTERVAL = re.compile(r"\[[^\[\]]{1,40}, [^\[\]]{1,40}\]|\b[BKn] = [\d∞]")
_GREEK_NAME = re.compile(rf"(?<![A-Za-z])({'|'.join(_GREEK)})(?![A-Za-z])")


def greek(text: Any) -> str:
    """Names of Greek letters as letters, and comparisons as signs.

    Example:
        >>> greek("alpha_kappa <= 1 only if eta L = 1 (alphabet)")
        'α_κ ≤ 1 only if η L = 1 (alphabet)'
    """
    text = _GREEK_NAME.sub(lambda match: _GREEK[match[1]], str(text))
    return text.replace("<=", "≤").replace(">=", "≥").replace("!=", "≠")


def symbols_html(text: Any) -> Markup:
    """Text with g_t, b_e, ... set as symbols, alpha* as α*, and commands in fixed width.

    Example:
        >>> print(symbols_html("95 % of g_t: python -m bvpo_analysis.sgd"))
        95\u00a0% of <i class="sym">g</i><sub>t</sub>: <code>python -m bvpo_analysis.sgd</code>
    """
    safe = str(escape(text)).replace("alpha*", "α*").replace("^2", "²")
    safe = re.sub(r"(?<=\d) (?=%|× 10)", "\u00a0", safe).replace("× 10", "×\u00a010")
    safe = _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), safe)  # an interval is not broken
    safe = re.sub(r"(python -m [\w.]*\w)", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\b([gb])_([tec])\b", r'<i class="sym">\1</i><sub>\2</sub>', safe))


def symbols_markdown(text: Any) -> str:
    """Text with the characters escaped that Markdown would take as markup."""
    text = str(text).replace("alpha*", "α*").replace("^2", "²")
    return re.sub(r"([*|<>`\\])", r"\\\1", re.sub(r"\s*\n\s*", " ", text))


def grid_parts(row: Mapping[str, Any]) -> tuple[str, str]:
    """One cell of the table of batch sizes and kappas."""
    unknown = row["low"] is None and row["high"] is None
    estimate = {"value": row["alpha"], "se": 0.0, "ci_low": row["low"], "ci_high": row["high"]}
    return weight_parts({"estimate": estimate, "confidence_set": row["confidence_set"], "degenerate": unknown})


def grid_text(row: Mapping[str, Any]) -> str:
    return " ".join(part for part in grid_parts(row) if part)
