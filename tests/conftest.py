"""Shared by all tests: the CPU only, strict numerics, warnings are errors (setup.cfg)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder in which the first run makes the simulated mice that all others find."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Folder of compiled programs that runs of this session share."""
    return tmp_path_factory.mktemp("compiled")
