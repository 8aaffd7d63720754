"""Tokens: a small vocabulary of frequent motifs, and spike counts written in it and read back.

The vocabulary (`vocabulary`) is taken from a table of motifs; a motif that is not in it is replaced
by the nearest one (`nearest`, exact arithmetic). `coding` turns counts into tokens and back,
`fidelity` adds up what was kept and what was changed, `files` keeps encoded sessions.
"""
