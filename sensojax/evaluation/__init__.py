"""What a trained model is worth: scores, what they mean, and the page that shows them.

In goes a trained model's answer to every trial of a tier; out come correlations per neuron that
carry their whole provenance (`results`), and a report that can be read without this package
(`report`, with its pictures in `figures` and `maps` and its text in `page`).
"""
