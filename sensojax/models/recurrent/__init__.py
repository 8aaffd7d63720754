"""Recurrences: features of a core in, hidden states of the same frames out."""
