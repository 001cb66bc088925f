"""The report: ``python -m bvpo_analysis.report`` scores a model on preference pairs and writes one run folder.

``results`` turns a study into numbers, ``render`` turns the numbers into HTML and Markdown and computes nothing.
"""
