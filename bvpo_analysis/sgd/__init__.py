"""Biased SGD run against its bounds: which hold, how tight they are, and which mixing weight a run prefers.

Nothing is imported here, so that ``python -m bvpo_analysis.sgd --help`` is instant. The files, in the order of use:

``problems``, ``reasoning``   smooth losses with proved constants; a reasoning model whose marginal loss is convex
``oracles``, ``rules``        joint laws of (g_t, g_e) with exact moments; how they are mixed
``runs``                      simulated repetitions, and exact expectations on quadratics
``cases``, ``bounds``         what is run, and every bound as a row of a table
``verify``, ``adversary``     bounds against runs; a search for runs that break them
``regimes``, ``consequences`` measured moments put into quadratics; what a weight means for a run
``trajectories``              runs as curves beside their bounds, and under a schedule
``full_study``, ``printed``   all of it as tables and figures, and as text
``smoothness``, ``marginal_loss``, ``language_model``  the same questions on the model in the box

Example:
    >>> from bvpo_analysis.sgd.cases import standard_cases
    >>> from bvpo_analysis.sgd.rules import Fixed
    >>> from bvpo_analysis.sgd.verify import verify, violations
    >>> violations(verify(standard_cases()[:2], [Fixed(0.5)], kappas=[0.5], horizons=[20]))
    []
"""
