"""Shared by all tests: the CPU only, strict numerics, warnings are errors (setup.cfg)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Fast tests run tiny programs once: compiling them is most of the time, so it is done with few
    optimisations (a third less). The slow ones, and all users, have every optimisation."""
    if config.option.markexpr == "not slow":
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for commands, too
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder in which the first run makes the simulated mice that all others find."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Folder of compiled programs that runs of this session share."""
    return tmp_path_factory.mktemp("compiled")
