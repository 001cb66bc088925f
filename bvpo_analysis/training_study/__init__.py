"""Does training obey? Runs of every method, seed by seed, beside what was predicted before the first step.

arms           what is trained, and in which order
run, probe     one run: train, follow the held-out loss, look at the gradients, answer fresh prompts
work           runs as files, resumable, two at a time
predictions    alpha*, kappa and the ranking of weights, before training
summaries      means over seeds and prompts; differences seed by seed
gradients, curves, rankings   variances, losses and orders of weights, along training and at its end
rows, tables   small tables from finished runs
assemble       predictions, overhead and tables as files
measured       the committed tables, for reports
"""
