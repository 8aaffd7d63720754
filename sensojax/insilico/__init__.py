"""Experiments on a trained model: what its neurons respond to, and where in the image they look."""
