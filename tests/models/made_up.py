"""Small inputs for models, and one jitted way to run any of them."""

import os
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sensojax.models import behavior
from sensojax.models.cores import factorized3d
from sensojax.models.encoder import Encoder, assemble, separate
from sensojax.models.readouts import gaussian2d
from sensojax.types import Batch
from tests.goldens import REPOSITORY

# For programs that run once on tiny arrays, where compiling takes all the time.
QUICKLY = {"xla_backend_optimization_level": 0}


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def unfilled(build: Callable[[], nnx.Module]) -> nnx.Module:
    """What `build` makes, with zeros for all arrays, which are to be loaded from elsewhere.

    Drawing the first weights would compile a program for every shape.
    """
    graph, state = nnx.split(nnx.eval_shape(build))
    return nnx.merge(graph, jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), state))


class Running:
    """A model as a jitted function of its weights, which counts how often it is traced.

    call: (model, *arguments) -> output; whatever it changes in the model is dropped.
    """

    def __init__(self, model: nnx.Module, call):
        self.graph, self.weights = separate(model)
        self.traces = 0

        def run(weights, *arguments):
            self.traces += 1
            return call(assemble(self.graph, weights), *arguments)

        self.pure = run
        self.jitted = jax.jit(run, compiler_options=QUICKLY)

    def __call__(self, *arguments):
        return self.jitted(self.weights, *arguments)


def leaves(tree) -> dict[str, np.ndarray]:
    """The arrays of a tree by their paths."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


def batch(seed: int, neurons: int, *, size: int = 2, time: int = 8, channels: int = 3) -> Batch:
    """A normalised batch of one mouse with a video of 9 by 11 pixels."""
    return Batch(
        video=normal(seed, size, time, 9, 11, channels),
        responses=jnp.abs(normal(seed + 1, size, time, neurons)),
        behavior=normal(seed + 2, size, time, 2),
        pupil_center=normal(seed + 3, size, time, 2),
        valid=jnp.ones((size, time), bool),
        start=jnp.zeros(size, jnp.int32),
    )


def encoder(neurons: dict[str, int], *, seed: int = 0, **settings) -> Encoder:
    """An encoder of these mice that compiles quickly: one layer, readouts, pupil shifters."""
    rngs = nnx.Rngs(seed)
    core = factorized3d.Core(
        3, channels=(4,), spatial_kernels=(5,), temporal_kernels=(3,), rngs=rngs
    )
    readouts = {
        mouse: gaussian2d.Readout(
            core.num_features,
            np.random.default_rng(count).normal(size=(count, 3)),
            init_sigma=0.3,
            rngs=rngs,
        )
        for mouse, count in neurons.items()
    }
    shifters = {mouse: behavior.MLPShifter(rngs=rngs) for mouse in neurons}
    return Encoder(core, readouts, shifters, **settings)


def assert_equal_on_eight_devices(program: str) -> None:
    """Runs a program with eight simulated CPU devices; it ends by saying that all was equal."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.endswith("equal on eight devices\n"), done.stderr
