"""Sections that are made from the numbers of results.json when a page is drawn; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

from bvpo_analysis.report.formatting import greek, number, size_text
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.report.symbols import GLOSSARY, RELATIONS
from bvpo_analysis.report.train_runs import train_runs_section
from bvpo_analysis.tables import MOMENTS

Rows = Sequence[Mapping[str, Any]]


def evidence(results: Mapping[str, Any]) -> dict[str, Section]:
    """Every section that these results have numbers for, by anchor."""
    found = [_curve()] if results.get("curve") else []
    makers = (
        ("estimators", _estimators),
        ("alpha_grid", _batch),
        ("targets", _targets),
        ("groups", _layers),
        ("identified", _allowed),
        ("claims", _claims),
        ("claims", _sound),
        ("training_runs", train_runs_section),
    )
    found += [make(results[key]) for key, make in makers if results.get(key)]
    found += [_moments(results.get("moments") or {}), _enumeration(results)]
    if results.get("step_sizes"):
        found += [_steps(results["step_sizes"]), _runs(results["step_sizes"]["runs"])]
    if results.get("cost"):
        found.append(_run_cost(results["cost"]))
    return {section.anchor: section for section in found}


def _curve() -> Section:
    return Section("curve", "MSE against the weight", "Curve", figures=("mse_alpha",))


def _estimators(rows: Rows) -> Section:
    split = all(row.get("trace_var") is not None for row in rows)
    columns: list[tuple[str, Kind]] = [
        ("Estimator", "words"),
        ("α", "number"),
        ("Sequences", "number"),
        ("Relative MSE", "estimate"),
        ("MSE", "estimate"),
        ("Squared bias", "estimate"),
    ]
    keys = ["name", "alpha", "sequences", "relative", "mse", "bias_sq"]
    if split:
        columns += [("Trace variance", "estimate"), ("Data variance", "estimate")]
        keys += ["trace_var", "data_var"]
    body = [[_weight(row["alpha"]) if key == "alpha" else row[key] for key in keys] for row in rows]
    no_split = (
        "One trace per answer: the variance is not split into trace and data parts, and averages of several traces "
        "cannot be predicted."
    )
    return Section(
        anchor="estimators",
        title="Estimators at equal batch size",
        short="Estimators",
        text=(
            "“Sequences” is what has to be scored per preference pair. The last row spends the sequences of a mix on "
            "twice the prompts instead.",
        ),
        tables=(table("estimators at equal batch size", columns, body),),
        notes=() if split else (no_split,),
        figures=("estimators",),
    )


def _batch(rows: Rows) -> Section:
    kappas = list(dict.fromkeys(row["kappa"] for row in rows))
    sizes = list(dict.fromkeys(row["batch_size"] for row in rows))
    cells = {(row["batch_size"], row["kappa"]): grid_weight(row) for row in rows}
    columns: list[tuple[str, Kind]] = [("B", "number"), *((f"κ = {number(kappa)}", "weight") for kappa in kappas)]
    body = [[size, *(cells[size, kappa] for kappa in kappas)] for size in sizes]
    unbounded = any(row["confidence_set"] != "interval" for row in rows)
    return Section(
        anchor="batch",
        title="α* against batch size and κ",
        short="Batch size and κ",
        text=(
            "Bias does not shrink with the batch, variance does: larger batches and smaller κ move weight to the "
            "gradient with less bias. κ is step size times smoothness.",
        ),
        tables=(table("optimal weight by batch size and kappa", columns, body),),
        notes=(
            "“Outside (a, b)” is a confidence set of all weights except those between a and b: these data do not bound "
            "α*. “Not determined” stands where the set is every number.",
        )
        if unbounded
        else (),
        figures=("alpha_grid",),
    )


def grid_weight(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the grid as a weight with its confidence set; without any end, it is not determined."""
    estimate = {"value": row["alpha"], "se": 0.0, "ci_low": row["low"], "ci_high": row["high"]}
    unknown = row["low"] is None and row["high"] is None
    return {"estimate": estimate, "confidence_set": row["confidence_set"], "degenerate": unknown}


def _targets(rows: Rows) -> Section:
    any_exact = any(row.get("exact") is not None for row in rows)
    columns: list[tuple[str, Kind]] = [
        ("Name", "code"),
        ("Estimate and interval, unclipped", "weight"),
        ("Without trace noise", "number"),
        ("Exact, these pairs only", "number"),
    ]
    note = (
        "Both exact columns enumerate all traces. Without trace noise, the prompts are still a sample of a larger "
        "population, as for the estimate and its interval. The last column answers another question, about these very "
        "prompts and no others: their mean bias exceeds that of the population by the sampling noise of the mean."
        if any_exact
        else "Exact values are known only for the model and the pairs in the box."
    )
    return Section(
        anchor="targets",
        title="Other targets",
        short="Other targets",
        tables=(table("targets", columns, [[r["name"], r["alpha"], r["enumerated"], r["exact"]] for r in rows]),),
        notes=(note,),
    )


def _layers(rows: Rows) -> Section:
    split = all(row.get("trace_var") is not None for row in rows)
    columns: list[tuple[str, Kind]] = [
        ("Group", "words"),
        ("Parameters", "number"),
        ("α*, unclipped", "weight"),
        ("|b_e|²", "estimate"),
        ("Tr Cov(g_t)", "estimate"),
    ]
    keys = ["name", "parameters", "alpha", "bias_e_sq", "var_t"]
    if split:
        columns.append(("of which traces", "estimate"))
        keys.append("trace_var")
    whole = next((i for i, row in enumerate(rows) if row["name"] == "all"), None)
    body = [["whole gradient" if key == "name" and row[key] == "all" else row[key] for key in keys] for row in rows]
    return Section(
        anchor="layers",
        title="Parameter groups",
        short="Parameter groups",
        tables=(table("parameter groups", columns, body, whole),),
        figures=("groups",),
    )


def _allowed(rows: Rows) -> Section:
    columns: list[tuple[str, Kind]] = [("Quantity", "words"), ("Identified", "yes"), ("Needs", "words")]
    body = [[row["quantity"], row["identified"], row["needs"]] for row in rows]
    return Section(
        anchor="allowed",
        title="What these data allow",
        short="What these data allow",
        tables=(table("what is identified", columns, body),),
    )


def _enumeration(results: Mapping[str, Any]) -> Section:
    exact, data = results.get("exact"), results.get("data") or {}
    carried = ((data.get("provenance") or {}).get("posterior_coverage") or {}).get("value")
    if not exact:
        text: tuple[str, ...] = (
            "Not available: the traces of this model and these data cannot be enumerated, or the options differ from "
            "those of the exact table.",
        )
    else:
        prompts, checked = number(exact["prompts"]), number(exact.get("checked", exact["prompts"]))
        done = (
            f"For {checked} prompts all traces were enumerated again. The largest relative deviation from the "
            f"committed table of {prompts} prompts is {number(exact['largest_deviation'])}."
        )
        kept = f"An exact table of {prompts} prompts was used; it was not recomputed in this run."
        share = (
            f"The enumerated traces carry a share of {number(carried)} of the posterior mass of these answers, as "
            "judged by the sampled traces. What the rare others add to the trace variance is in the estimates, not in "
            "the exact values."
        )
        text = (kept if exact["largest_deviation"] is None else done, *((share,) if carried is not None else ()))
    return Section("enumeration", "Check against enumeration", "Enumeration", text)


def _moments(moments: Mapping[str, Any]) -> Section:
    rows = [
        (*MOMENTS.get(key, (key, "")), value)
        for key, value in moments.items()
        if value is None or (isinstance(value, Mapping) and "value" in value)
    ]
    columns: list[tuple[str, Kind]] = [
        ("Symbol", "symbol"),
        ("Estimate and interval", "estimate"),
        ("Meaning", "words"),
    ]
    symbols: list[tuple[str, Kind]] = [("Symbol", "symbol"), ("Meaning", "words")]
    return Section(
        anchor="moments",
        title="All moments",
        short="Moments",
        folded=True,
        text=("Of one unit: one prompt, one trace per answer, against the population target unless said otherwise.",),
        tables=(
            table("symbols", symbols, GLOSSARY),
            table("moments", columns, [(symbol, value, meaning) for symbol, meaning, value in rows]),
        ),
    )


def _steps(steps: Mapping[str, Any]) -> Section:
    smooth = steps["smoothness"]
    columns: list[tuple[str, Kind]] = [
        ("Learning rate η", "number"),
        ("κ of SGD", "number"),
        ("α* at that κ", "weight"),
        ("error of the recommended weight over the least", "estimate"),
        ("κ of Adam", "number"),
        ("bound for Adam", "words"),
    ]
    rows = [
        (
            row["learning_rate"],
            row["kappa_sgd"],
            row["alpha"],
            row.get("price"),
            row["kappa_adam"],
            "none, κ > 1" if row["kappa_adam"] > 1 else "applies",
        )
        for row in steps["rates"]
    ]
    return Section(
        anchor="steps",
        title="Step size and smoothness",
        short="Step size",
        text=(
            "A descent bound weights variance against squared bias by κ, the step size η times the smoothness L of the "
            f"loss. On {number(smooth['SGD']['prompts'])} prompts of this regime, at the reference, L is "
            f"{number(smooth['SGD']['smoothness'])} (the largest curvature of the marginal loss, by Lanczos "
            f"iteration), and {number(smooth['Adam']['smoothness'])} in Adam's metric. Small steps want almost only "
            "g_t: at the reference it is unbiased, and its noise averages out over steps, while the bias of g_e does "
            "not.",
        ),
        tables=(table("learning rates", columns, rows),),
        notes=(
            "For Adam only κ is shown here: its weight needs bias and variance in its own metric. Where κ is above "
            "one, no bound of this kind applies.",
        ),
    )


def _runs(runs: Rows) -> Section:
    columns: list[tuple[str, Kind]] = [
        ("SGD on the exact marginal loss", "words"),
        ("α", "number"),
        ("Loss, first", "number"),
        ("last", "number"),
        ("Squared bias", "number"),
        ("Variance", "number"),
        ("One-step bound held", "words"),
    ]
    rows = [
        (
            run["rule"],
            _weight(run["alpha"]),
            run["first_loss"],
            run["last_loss"],
            run["bias_sq"],
            run["variance"],
            _held(run),
        )
        for run in runs
    ]
    return Section(
        anchor="runs",
        title="Short runs of SGD with each weight",
        short="Runs of SGD",
        text=(
            "On a few prompts of the model in the box, with bias and variance of the batch gradient enumerated at "
            "every iterate, and L the largest curvature met along the run with a margin. Where a run leads into a "
            "region so curved that κ exceeds one, no bound applies.",
        ),
        tables=(table("runs of SGD", columns, rows),),
        notes=("The command python -m bvpo_analysis.sgd runs biased SGD against all of its bounds.",),
    )


def _held(run: Mapping[str, Any]) -> str:
    text = f"{number(run['held'])} of {number(run['bounded'])}"
    if run["bounded"] < run["iterates"]:
        text += f" (κ up to {number(run['kappa_high'])}, none at the others)"
    return text


def _claims(rows: Rows) -> Section:
    strong = [row for row in rows if row["only_if"]]
    columns: list[tuple[str, Kind]] = [
        ("Statement", "words"),
        ("Holds only if", "words"),
        ("Stated", "words"),
        ("Measured", "number"),
    ]
    body = [(greek(row["statement"]), greek(row["only_if"]), _stated(row), row["measured"]) for row in strong]
    return Section(
        anchor="claims",
        title="Statements that need a condition",
        short="Statements",
        text=(
            f"Every theorem of the paper and of the theory around it was measured: {len(rows)} statements, of which "
            f"{len(rows) - len(strong)} hold as worded. The others, below, are read more strongly than they hold; each "
            "comes with a counterexample, on which the measured number breaks the statement. These measurements do not "
            "depend on the model or the data of this report; repeat them with: python -m bvpo_analysis.claims",
        ),
        tables=(table("statements that need a condition", columns, body),),
    )


def _sound(rows: Rows) -> Section:
    sound = [row for row in rows if not row["only_if"]]
    columns: list[tuple[str, Kind]] = [
        ("Statement", "words"),
        ("Stated", "words"),
        ("Measured", "words"),
        ("Source", "words"),
    ]
    body = [(greek(row["statement"]), _stated(row), _measured(row), greek(row["reference"])) for row in sound]
    return Section(
        anchor="sound",
        title=f"The {len(sound)} statements that hold as worded",
        short="Statements that hold",
        tables=(table("statements that hold as worded", columns, body),),
        folded=True,
    )


def _stated(row: Mapping[str, Any]) -> str:
    return f"{RELATIONS[row['kind']]} {number(row['predicted'])}"


def _measured(row: Mapping[str, Any]) -> str:
    return number(row["measured"]) + (f" ± {number(row['se'])}" if row["se"] else "")


def _run_cost(cost: Mapping[str, Any]) -> Section:
    columns: list[tuple[str, Kind]] = [
        ("Sequences scored", "number"),
        ("Tokens", "number"),
        ("Seconds", "number"),
        ("Peak memory", "words"),
    ]
    row = [cost.get("sequences"), cost.get("tokens"), cost.get("seconds"), size_text(cost.get("peak_memory_bytes"))]
    return Section(
        anchor="run-cost",
        title="What this report took",
        short="This run",
        tables=(table("cost of this report", columns, [row]),),
    )


def _weight(value: float) -> float:
    return round(value, 2)
