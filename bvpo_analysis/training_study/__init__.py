"""Does training obey? Runs of every method, seed by seed, beside what was predicted before the first step.

arms           what is trained, and in which order
run, probe     one run: train, follow the held-out loss, look at the gradients, answer fresh prompts
work           runs as files, resumable, two at a time
predictions    alpha*, kappa and the ranking of weights, before training
tables         small tables from finished runs
measured       the committed tables, for reports
"""
