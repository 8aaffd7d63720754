"""Spike trains as data: events of thousands of sessions, counts, motifs, tokens, orders of neurons.

A session is kept as sorted spike events (`events`) and read as counts at any bin width (`sessions`,
`counts`). The commands are `scripts/pile_*.py`.
"""
