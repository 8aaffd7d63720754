"""Readouts: shared features in, responses of one mouse [batch time neuron] out."""
