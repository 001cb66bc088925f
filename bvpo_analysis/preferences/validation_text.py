"""The findings of :func:`bvpo_analysis.preferences.validate.validate` as a table for the terminal."""

from bvpo_analysis.preferences.native import REASONS
from bvpo_analysis.preferences.validate import Quantiles, Validation


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _quantiles(found: Quantiles | None) -> str:
    if found is None:
        return "none"
    names = (("min", found.minimum), ("25 %", found.q25), ("median", found.median), ("75 %", found.q75))
    rest = (("95 %", found.q95), ("max", found.maximum))
    return "  ".join(f"{name} {value:.4g}" for name, value in (*names, *rest))


def validation_text(found: Validation) -> str:
    """Label and value per line, then problems, alerts and the verdict.

    Example:
        >>> from bvpo_analysis.preferences.shipped import pairs_path
        >>> from bvpo_analysis.preferences.validate import validate
        >>> validation_text(validate(pairs_path("style"))).splitlines()[-1]
        'usable: 256 pairs'
    """
    rows: list[tuple[str, str]] = [
        ("file", found.source),
        ("format", found.format),
        ("rows", str(found.rows)),
        ("usable pairs", str(found.pairs)),
    ]
    rows += [(f"  to mend: {reason}", f"{count}  ({REASONS[reason]})") for reason, count in found.mistakes.items()]
    rows += [(f"  left out: {reason}", f"{count}  ({REASONS[reason]})") for reason, count in found.dropped.items()]
    rows += [(f"  {name}", str(count)) for name, count in found.counts.items()]
    if found.ignored:
        rows.append(("columns not used", ", ".join(found.ignored)))
    rows += [
        (f"trace, {found.unit}", _quantiles(found.trace_lengths)),
        (f"answer, {found.unit}", _quantiles(found.answer_lengths)),
    ]
    if found.over_limit is not None:
        rows.append(("beyond the limit", f"{found.over_limit:.1%} longer than {found.limit} {found.unit}"))
    rows += [
        ("never closed", f"{found.unclosed:.1%}"),
        ("traces per answer", f"at least {found.posterior_traces}; prior traces: at least {found.prior_traces}"),
        ("empty-trace answers", f"{found.empty_own} own, {found.pairs - found.empty_own} copied"),
        ("prompts repeated", str(found.duplicate_prompts)),
        ("score margin", f"{_quantiles(found.margins)}" if found.margins else "no scores"),
    ]
    if found.margins:
        rows.append(("  of which reversed", f"{found.reversed_scores} of {_count(found.margins.n, 'pair')}"))
    own = found.pairs - found.other_law - found.unknown_law
    rows.append(
        ("sampled from", f"the policy itself: {own}, another law: {found.other_law}, not said: {found.unknown_law}")
    )
    if found.round_trips is not None:
        trips = found.round_trips
        rows.append(
            (
                "template round trip",
                f"{trips.failed} of {_count(trips.turns, 'turn')} failed ({trips.too_long} too long); "
                f"white space changed in {trips.trimmed}, trace deleted in {trips.cut}",
            )
        )
        recorded = found.recorded
        rows.append(
            (
                "recorded log-probs",
                "none recorded"
                if recorded is None
                else f"{_count(recorded.sequences, 'sequence')}, off by {recorded.mean:.3g} nats on average, "
                f"{recorded.largest:.3g} at most; {recorded.share_notable:.1%} by more than 0.1",
            )
        )
    width = max(len(label) for label, _ in rows) + 2
    lines = [f"{label:<{width}}{value}" for label, value in rows]
    failures = found.round_trips.failures if found.round_trips is not None else ()
    if found.problems or failures:
        lines += ["", "first problems"]
        lines += [f"  {line}" for line in (*found.problems, *failures)]
    if found.alerts:
        lines += ["", "alerts", *(f"  {alert}" for alert in found.alerts)]
    lines += ["", f"usable: {_count(found.pairs, 'pair')}" if found.usable else "not usable as it is"]
    return "\n".join(lines)
