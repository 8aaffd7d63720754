"""What a trained model is worth: scores, what they mean, and the page that shows them.

In goes a trained model's answer to every trial of a tier; out come the scores of the field, per
neuron (`measures`), that carry their whole provenance (`results`), tables of them by kind of
stimulus, tier, depth and mouse (`tables`), and a report that can be read without this package
(`report`, with its pictures in `figures` and `maps` and its text in `page`).
"""
