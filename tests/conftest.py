"""Shared by all tests: the CPU only, strict numerics, warnings are errors (setup.cfg)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
