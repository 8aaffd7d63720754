"""Cores: video [batch time height width channel] in, features of the last frames out."""
