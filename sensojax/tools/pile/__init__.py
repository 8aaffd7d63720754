"""Around `spikes`: which files an archive has, bringing them here, and building all their sessions.

The commands `scripts/pile_*.py` are thin around this and around `sensojax.spikes`.
"""
