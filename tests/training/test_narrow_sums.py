"""In bfloat16 only what is multiplied is narrow: whatever adds up many numbers is float32.

A sum of bfloat16 loses what is smaller than 1/256 of it. Programs are traced, with what they do on
CPUs and on accelerators, whose matrix units add up in float32 and round once.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts.benchmarks import programs
from sensojax.models import convolution, depthwise, volume
from tests import runs

NARROW = jnp.bfloat16
MANY = 250  # more terms than that are float32; registers of a transformer are added up by frame
ADDING = ("reduce_sum", "cumsum", "scatter-add", "reduce_window_sum")
PAGES = ("dynamic", "dynamic_3d", "dynamic_gru", "dynamic_dwiseneuro", "dynamic_viv1t", "static")


def equations(program) -> Iterator:
    """All equations of a traced program, of every platform's formulations."""
    for each in program.eqns:
        below = [
            getattr(part, "jaxpr", part)
            for value in each.params.values()
            for part in (value if isinstance(value, tuple | list) else (value,))
            if hasattr(part, "jaxpr") or hasattr(part, "eqns")
        ]
        if not below:
            yield each
        for part in below:
            yield from equations(part)


def step_of(page: str):
    config = runs.preset("tiny", page)
    config["train"]["compute"] = "bfloat16"
    still = page == "static"
    size = {name: config["simulation"][name] for name in ("height", "width")}
    columns = dict(columns=3, trial_frames=1) if still else {}
    frames = config["data"]["window_frames"]
    sizes = programs.Sizes.of_mice(2, 12, clips=2, frames=frames, **size, **columns)
    made = programs.Programs(config, sizes)
    return made.step.trace(*made.step_arguments)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_long_sums_and_all_that_a_step_remembers_are_float32(page):
    traced, multiplied = step_of(page), 0
    for leaf in jax.tree.leaves(traced.out_info):
        assert leaf.dtype in (np.float32, np.int32)
    for each in equations(traced.jaxpr.jaxpr):
        name, types = each.primitive.name, [getattr(v.aval, "dtype", None) for v in each.invars]
        multiplied += name in ("dot_general", "conv_general_dilated") and NARROW in types
        if name in ADDING and NARROW in types:
            assert each.invars[0].aval.size // each.outvars[0].aval.size <= MANY, each
    assert multiplied


CONVOLUTIONS = {
    "spatial": lambda x, w: convolution.spatial(x, w[0], padding=(1, 1)),
    "temporal": lambda x, w: convolution.temporal(x, w[:, 0, 0]),
    "both": lambda x, w: volume.spatiotemporal(x, w, padding=(1, 1)),
    "depthwise in space": lambda x, w: depthwise.depthwise(x, w[0, :, :, 0], padding=(1, 1)),
    "depthwise in time": lambda x, w: depthwise.temporal(x, w[:, 0, 0, 0], padding=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_narrow_convolution_is_rounded_once(name):
    """Also its gradients: exact products, added up in float32, and then the nearest bfloat16."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(1 + rng.random((2, 9, 8, 7, 40)), NARROW)  # no sign, so that sums are long
    w = jnp.asarray(1 + rng.random((3, 3, 3, 40, 40)), NARROW)
    run = CONVOLUTIONS[name]

    @jax.jit
    def all_of_it(x, w):
        out, pull = jax.vjp(run, x, w)
        return out, *pull(jnp.ones_like(out))

    exact = all_of_it(x.astype(jnp.float32), w.astype(jnp.float32))
    for found, expected in zip(all_of_it(x, w), exact, strict=True):
        assert found.dtype == NARROW
        np.testing.assert_allclose(found.astype(np.float32), expected, rtol=2.0**-8)
