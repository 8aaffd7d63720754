"""Whole experiments: one run, several side by side, transfer between runs, scoring of many runs.

In: configs and run folders; out: trained states, scores, predictions and comparisons. The commands
of the package (`main`, `evaluate`, `ensemble`, `ablate`, `submit`, `predict`) are thin around them.
"""
