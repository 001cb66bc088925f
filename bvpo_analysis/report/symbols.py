"""Symbols of the report, and what a claim says about its two numbers."""

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
