"""Complete results.json of small invented runs, with sets of every shape: what pages, schema and answers are fed."""

from bvpo_analysis.report.answers import Facts, question_rows
from bvpo_analysis.report.answers_in_use import ANSWERS
from bvpo_analysis.report.committed import committed_facts
from bvpo_analysis.tables import jsonable


def estimate(value, half=None, method="jackknife"):
    if half is None:
        return {"value": value, "se": 0.0, "ci_low": value, "ci_high": value, "n": 64, "method": method}
    return {"value": value, "se": half / 2, "ci_low": value - half, "ci_high": value + half, "n": 64, "method": method}


def alpha(name, value, low, high, confidence_set="interval", degenerate=False):
    bounded = confidence_set == "interval" and not degenerate
    return {
        "name": name,
        "estimate": {
            "value": value,
            "se": 0.03,
            "ci_low": low,
            "ci_high": high,
            "n": 64,
            "method": "fieller-jackknife",
        },
        "recommended": min(max(value, 0.0), 1.0),
        "recommended_low": max(low, 0.0) if bounded else 0.0,
        "recommended_high": min(high, 1.0) if bounded else 1.0,
        "degenerate": degenerate,
        "confidence_set": confidence_set,
    }


def claim(name, statement, kind, measured, predicted, se=0.0, only_if=""):
    return {
        "name": name,
        "statement": statement,
        "reference": "Bates & Granger 1969",
        "kind": kind,
        "measured": measured,
        "predicted": predicted,
        "se": se,
        "only_if": only_if,
    }


def measured_run(rule, weight, bounded, held):
    return {
        "regime": "correct",
        "rule": rule,
        "alpha": weight,
        "iterates": 16,
        "bounded": bounded,
        "held": held,
        "kappa_low": 0.1197,
        "kappa_high": 101.3,
        "first_loss": 0.6931,
        "last_loss": 0.5172,
        "bias_sq": 0.1234,
        "variance": 0.4567,
    }


NAME = "alpha_star.population.B16.K1.kappa1"
MEASURES = {
    "trace_share": (0.4321, 0.05),
    "empty_variance": (0.611, 0.043),
    "bias_share": (0.877, 0.11),
    "cosine_e": (0.317, 0.08),
    "estimation_loss": (0.0123, 0.01),
    "alpha_cos": (0.8765, 0.06),
    "empty_over_best": (1.583, 0.14),
    "trace_over_best": (2.137, 0.21),
    "merged_over_best": (0.917, 0.04),
    "overhead_tokens": (1.4613, 0.0071),
    "overhead_sequences": (2.0, None),
    "overhead_flops": (1.4527, 0.0072),
    "budget_mix": (0.6877, 0.051),
    "budget_equal_mix": (0.7022, 0.049),
    "budget_traces": (1.7733, 0.083),
    "answer_gap_chosen": (4.113, 0.27),
    "answer_gap_rejected": (3.227, 0.31),
}
"""Numbers of single questions, with half the width of their intervals."""


def sample():
    """Complete results as of a small run, with sets of every shape."""
    names = ["g_e alone", "equal mix", "g_t alone", "optimal mix"]
    weights = [0.0, 0.5, 1.0, 0.3217]
    relative = [estimate(0.513, 0.21), estimate(0.4071, 0.0437), estimate(1.0), estimate(0.3313, 0.0813)]
    errors = [
        {"name": n, "alpha": w, "mse": estimate(0.104 + 0.01 * i, 0.0093), "relative": relative[i]}
        for i, (n, w) in enumerate(zip(names, weights, strict=True))
    ]
    parts = {"bias_sq": estimate(-2.13e-05, 3.7e-05), "trace_var": estimate(0.056, 0.0064), "mse": estimate(0.1, 0.01)}
    estimators = [
        {"name": n, "alpha": a, "traces": k, "sequences": s, **parts, "data_var": estimate(0.048, 0.006), "relative": r}
        for n, a, k, s, r in [
            ("g_t, one trace", 1.0, 1, 2, relative[2]),
            ("g_e, empty trace", 0.0, 0, 2, relative[0]),
            ("g_c, optimal mix", 0.3217, 1, 4, relative[3]),
        ]
    ]
    shapes = [
        (0.32, 0.21, 0.44, "interval"),
        (-2.88, 0.53, 1.63, "complement"),
        (0.4, None, 0.9, "half-line"),
        (0.5, None, None, "line"),
    ]
    grid = [
        {"batch_size": b, "kappa": k, "alpha": v, "low": lo, "high": hi, "recommended": v, "confidence_set": shape}
        for (v, lo, hi, shape), b in zip(shapes, (1, 16, 64, 1024), strict=True)
        for k in (1.0, 0.01)
    ]
    group = {"bias_e_sq": estimate(0.2, 0.1), "var_t": estimate(1.5, 0.1), "trace_var": estimate(0.7, 0.1)}
    results = {
        "schema_version": 3,
        "config": {"model": None, "seed": 20251, "batch_size": 16, "params": "layers\\.0|norm", "quick": True},
        "model": {
            "name": "tiny <lrm>",
            "fingerprint": "3fa9",
            "parameters": 284000,
            "groups": ["embedding", "layer 0"],
        },
        "data": {
            "source": "correct.jsonl",
            "regime": "correct",
            "pairs": 64,
            "fingerprint": "b7c2",
            "traces_per_answer": 4,
            "empty_answers_own": 64,
            "tokens_trace_mean": 31.25,
            "tokens_answer_mean": 5.125,
            "provenance": {"kept": 512},
        },
        "headline": {
            "alpha": alpha(NAME, 0.3217, 0.2134, 0.4391),
            "verdict": {"finding": "mixing pays", "reason": "the interval excludes both ends"},
            "errors": errors,
            "half_regret": estimate(0.229, 0.117),
            "gain": estimate(0.35, 0.1),
            "traces_worth": estimate(0.5647, 0.134),
            "batch_equivalent": estimate(3.018, 0.77),
            "twice_the_prompts": estimate(1.713, 0.42),
        },
        "alerts": [
            {"level": "note", "text": "The interval of |b_e|^2 contains 0; alpha* is uncertain."},
            {"level": "warning", "text": "Only 64 prompts <so far>."},
        ],
        "moments": {
            "bias_e_sq": estimate(-0.0208, 0.032),
            "trace_var": estimate(0.9, 0.1),
            "unheard_of": estimate(7.5, 1),
        },
        "estimators": estimators,
        "targets": [
            {"name": NAME, "alpha": alpha(NAME, 0.3217, 0.2134, 0.4391), "enumerated": 0.31264, "exact": 0.30157},
            {
                "name": "alpha_star.per_prompt.K1.kappa0.1",
                "alpha": alpha("alpha_star.per_prompt.K1.kappa0.1", -0.44, 0.474, 3.046, "complement"),
                "enumerated": None,
                "exact": None,
            },
        ],
        "alpha_grid": grid,
        "curve": [
            {
                "alpha": a / 4,
                "bias_sq": 0.01 * (1 - a / 4) - 0.003,
                "trace_var": 0.003 * a,
                "data_var": 0.09,
                "mse": 0.097 + 0.0005 * a,
                "mse_low": 0.09,
                "mse_high": 0.12,
            }
            for a in range(5)
        ],
        "groups": [
            {"name": "embedding", "parameters": 3072, **group, "alpha": alpha(NAME, 0.24, -0.02, 0.39)},
            {"name": "all", "parameters": 284000, **group, "alpha": alpha(NAME, 0.3217, 0.2134, 0.4391)},
        ],
        "identified": [
            {"quantity": "Split", "identified": True, "needs": "two traces"},
            {"quantity": "alpha* off the reference", "identified": False, "needs": "enumeration (y' = y | else)"},
        ],
        "exact": {"prompts": 512, "checked": 32, "largest_deviation": 3.14e-08},
        "step_sizes": {
            "smoothness": {
                "SGD": {"regime": "correct", "optimiser": "SGD", "smoothness": 3.217, "prompts": 16},
                "Adam": {"regime": "correct", "optimiser": "Adam", "smoothness": 2979.3, "prompts": 16},
            },
            "rates": [
                {
                    "learning_rate": 1e-4,
                    "kappa_sgd": 3.217e-4,
                    "alpha": alpha(NAME, 0.9876, 0.9754, 0.9991),
                    "price": estimate(21.3, 2.1),
                    "kappa_adam": 0.29793,
                },
                {
                    "learning_rate": 1e-2,
                    "kappa_sgd": 3.217e-2,
                    "alpha": alpha(NAME, 0.8123, 0.7654, 0.8591),
                    "price": estimate(14.1, 1.3),
                    "kappa_adam": 29.793,
                },
            ],
            "runs": [
                measured_run("g_e alone", 0.0, bounded=8, held=8),
                measured_run("g_t alone", 1.0, bounded=16, held=15),
            ],
        },
        "claims": [
            claim("sound", "The mix has the error of alpha_kappa <= 1", "upper", 0.4123, 0.5017, se=0.0012),
            claim("bold", "Mixing always pays", "upper", 2.517, 1.013, only_if="costs < gains | & so on"),
        ],
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "cost": {"sequences": 640, "tokens": 31234, "seconds": 42.117, "peak_memory_bytes": 812345678},
        "measures": {name: estimate(value, half) for name, (value, half) in MEASURES.items()},
        "leader": {"label": "a pool of traces", "relative": estimate(0.2911, 0.0213)},
        "losses": [
            {
                "name": name,
                "target_sq": estimate(0.31, 0.02),
                "bias_t": estimate(bias, 0.0 if not bias else 0.0171),
                "bias_e": estimate(0.71, 0.05),
                "trace_var": estimate(2.2, 0.3),
                "alpha": alpha("alpha_star.per_prompt.K1.kappa1", weight, weight - 0.05, weight + 0.05),
                "worth": estimate(1.7, 0.1),
            }
            for name, bias, weight in (("dpo", 0.0, 0.6123), ("ipo", 0.0, 0.6123), ("simpo", 0.2417, 0.7717))
        ],
        "training_runs": [training_run("my-run", "auto"), training_run("other <run>", 0.5)],
        "sections": [],
    }
    return answered(results)


def training_run(name, weight):
    """An invented run of forty steps, with two evaluations and two probes."""

    def ends(name, value, half):
        return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}

    log = [{"step": s, "loss": 0.69 - 0.003 * s, "alpha": 0.5, "grad_norm": 1.4} for s in range(0, 40, 4)]
    log.append({"step": 40})
    for line, loss in ((log[0], 0.6931), (log[-1], 0.5817)):
        line |= {"eval/loss": loss, "eval/loss_se": 0.013, **ends("eval/accuracy", 0.6251, 0.1)}
        for key, value, half in (
            ("alpha", 0.4137, 0.1),
            ("var_t", 2.31, 0.2),
            ("var_e", 0.71, 0.1),
            ("var_c", 0.9, 0.1),
        ):
            line |= ends(f"probe/{key}", value, half)
        line |= {**ends("probe/bias_t_sq", 0.011, 0.02), **ends("probe/bias_e_sq", 0.21, 0.05), "probe/ess_share": 0.93}
    return {
        **{"name": name, "method": "bvpo", "alpha": weight, "loss": "dpo", "beta": 0.1, "optimiser": "adamw"},
        **{"lr": 3e-4, "batch_size": 16, "seed": 0, "data": "correct", "planned": 40, "steps": 40, "finished": True},
        **{"kept_step": 40, "held_out_pairs": 32, "alpha_low": 0.5, "alpha_high": 0.5, "log": log},
    }


def bare():
    """Results of an ordinary file: one trace per answer, nothing exact, nothing alarming."""
    results = sample()
    results["headline"]["traces_worth"] = None
    results |= {"alerts": [], "exact": None, "groups": [], "config": {}, "versions": {}}
    results["moments"]["trace_var"] = None
    for row in results["estimators"]:
        row |= {"trace_var": None, "data_var": None}
    for row in results["curve"]:
        row |= {"trace_var": None, "data_var": None}
    for row in results["targets"]:
        row |= {"enumerated": None, "exact": None}
    results |= {"leader": None, "losses": [], "step_sizes": None, "training_runs": []}
    results["measures"] = dict.fromkeys(MEASURES)
    return answered(results)


def degenerate():
    results = sample()
    results["headline"]["alpha"] = alpha(NAME, 0.5, None, None, "line", degenerate=True)
    results["headline"]["alpha"]["estimate"] |= {"se": None, "method": "degenerate"}
    results["headline"]["half_regret"] = {**estimate(0.0), "value": None, "ci_low": None, "ci_high": None, "se": None}
    return answered(results)


def exact():
    """Enumerated traces: every number exact."""

    def visit(value):
        if isinstance(value, dict) and "ci_low" in value:
            return {**value, "se": 0.0, "ci_low": value["value"], "ci_high": value["value"], "n": 0, "method": "exact"}
        if isinstance(value, dict):
            found = {key: visit(item) for key, item in value.items()}
            if "recommended" in found:
                found |= {f"recommended_{end}": found["recommended"] for end in ("low", "high")}
            return found
        return [visit(item) for item in value] if isinstance(value, list) else value

    results = visit(sample())
    results["data"]["traces_per_answer"] = "exact"
    for row in results["curve"]:
        row |= {"mse_low": row["mse"], "mse_high": row["mse"]}
    return answered(results)


def answered(results):
    """The same with its questions answered from its numbers."""
    batch_size = results["config"].get("batch_size", 16)
    facts = Facts(results, jsonable(committed_facts("correct")), batch_size, results["data"].get("regime"))
    return results | {"questions": question_rows(facts, ANSWERS)}


CASES = {"sample": sample, "bare": bare, "degenerate": degenerate, "exact": exact}
"""Results of every kind, by name."""
