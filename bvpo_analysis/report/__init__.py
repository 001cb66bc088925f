"""The report: ``python -m bvpo_analysis.report`` scores a model on preference pairs and writes one run folder.

``build`` turns a study into ``results.json``; ``render`` turns ``results.json`` into HTML and Markdown and computes nothing.
"""
