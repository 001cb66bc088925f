"""Sections on how far g_e is from the marginal gradient, what an answer loses without its trace, and directions."""

from collections.abc import Mapping

from bvpo_analysis import mixing
from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.moments import Moments, jackknife_estimate, score_estimate
from bvpo_analysis.moments.bias_split import split_bias
from bvpo_analysis.records import SIDES, Alpha, Estimate
from bvpo_analysis.report.sections import Kind, Section, table


def closeness_section(
    moments: Moments, measures: Mapping[str, Estimate | None], compared: EstimatorComparison | None
) -> Section:
    """|b_e|^2 against |mu|^2, the cosine, and the two shifts that make the bias."""
    rows: list[tuple[str, Estimate | None, str]] = [
        ("|μ|²", jackknife_estimate(moments.target_sq), "squared length of the marginal gradient"),
        ("|E g_e|²", jackknife_estimate(moments.mean_e_sq), "squared length of the mean of g_e"),
        ("|b_e|²", score_estimate(moments.bias_e_sq, moments.bias_noise), "squared bias of g_e"),
        (
            "|b_e|² / |μ|²",
            measures.get("bias_share"),
            "the same in units of the target; one: as far off as no gradient",
        ),
        ("cos(μ, E g_e)", measures.get("cosine_e"), "the angle between the two means"),
    ]
    if compared is not None and {"empty", "empty_shared"} <= set(compared.joint.names):
        split = split_bias(compared.joint)
        rows += [
            ("data shift²", split.data_sq, "its answers are others than those of g_t"),
            ("trace shift²", split.trace_sq, "the same answers, without their trace"),
            ("⟨data shift, trace shift⟩", split.inner, "the two squares and twice this make |b_e|²"),
        ]
    columns: list[tuple[str, Kind]] = [
        ("Number", "symbol"),
        ("Estimate and interval", "estimate"),
        ("Meaning", "words"),
    ]
    counted = "" if compared is None else f" The shifts are from the {compared.joint.n} prompts of the comparison."
    return Section(
        anchor="closeness",
        title="Distance to the marginal gradient",
        short="Distance",
        text=(
            "The bias of g_e does not shrink with the batch. It has two parts: g_e is trained on answers of its own, "
            f"and it leaves the trace out.{counted}",
        ),
        tables=(table("distance to the marginal gradient", columns, rows),),
    )


def answers_section(measures: Mapping[str, Estimate | None]) -> Section | None:
    """How much log-probability an answer loses without its trace; None where this was not scored."""
    names = {side: measures.get(f"answer_gap_{side}") for side in SIDES}
    if any(value is None for value in names.values()):
        return None
    columns: list[tuple[str, Kind]] = [
        ("Answer", "words"),
        ("mean of log π(y | x, trace) − log π(y | x, empty), in nats", "estimate"),
    ]
    return Section(
        anchor="answers",
        title="What an answer loses without its trace",
        short="Answers",
        text=(
            "The same answer, once after the trace that it was sampled with and once after an empty one. Averaged over "
            "answers as the policy gives them this would be a divergence of the two policies; over the answers of the "
            "pairs it says how far apart they are where the loss looks.",
        ),
        tables=(table("log-probability with and without the trace", columns, list(names.items())),),
    )


def directions_section(
    moments: Moments, measures: Mapping[str, Estimate | None], batch_size: float, kappa: float
) -> Section | None:
    """Weights for other aims than the error: the direction alone, and smaller steps; None where g_t is biased."""
    cosine = measures.get("alpha_cos")
    if cosine is None:
        return None
    law = moments.population(batch_size)

    def weight(at: float) -> Estimate:
        alpha = mixing.optimal_alpha(law, at)
        return _clipped(alpha)

    rows: list[tuple[str, Estimate]] = [
        (f"least error at κ = {kappa:g} (the headline)", weight(kappa)),
        (f"least error at κ = {kappa / 10:g}", weight(kappa / 10)),
        ("largest cosine to μ, for optimisers that rescale every step", cosine),
    ]
    columns: list[tuple[str, Kind]] = [("Aim", "words"), ("Weight of g_t, in [0, 1]", "estimate")]
    return Section(
        anchor="directions",
        title="Other aims than the error",
        short="Direction",
        text=(
            f"Batches of {batch_size:g} prompts. An optimiser that sets the length of a step by itself, as Adam does "
            "per parameter, cares for the direction of the mix more than for its error.",
        ),
        tables=(table("weights by aim", columns, rows),),
        notes=("The metric is the Euclidean one.",),
    )


def _clipped(alpha: Alpha) -> Estimate:
    """The recommended weight with its ends, as an Estimate."""
    e = alpha.estimate
    return Estimate(alpha.recommended, e.se, alpha.recommended_low, alpha.recommended_high, e.n, e.method)
