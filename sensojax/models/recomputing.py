"""Less memory for more arithmetic: what a layer computes is not kept for the backward pass.

Of a core in training, the results of its layers are kept, and what happens within each of them is
computed again when its gradient is due. Stacks of layers call them through `layer`; which stacks do
so is decided by `turn_on` (a core may also have it as a setting of its own, as `viv1t` has).

What it takes and gives, of whole training steps of published models, 2,000 neurons for each mouse:
GB that the compiler sets aside beside arguments (on a CPU), and 10^12 operations.

                                          all kept          again
    factorised, 4 mice x 2 clips of 80    1.96 GB   1.10    1.39 GB   1.49
    full 3-D, 2 clips of 80               1.81      3.13    1.80      4.29
    GRU, 4 clips of 40                    1.76      4.55    1.37      4.84
    DwiseNeuro, 4 clips of 16             4.68      0.17    1.47      0.23
    ViV1T of 2025, 1 clip of 80           8.66      2.01    1.23      2.50
    CNN of 128 images                     0.90      0.04    0.52      0.06

It is for cores of many layers: of few and large ones, what a single layer needs is the most.

`after` orders the work of a program: XLA saves memory only if it does not begin too early what will
be needed late. On accelerators its barriers see to that; on a CPU they are gone when it decides.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def turn_on(core: nnx.Module) -> None:
    """From now on, every stack of layers of a core computes them again."""
    for _, part in nnx.iter_modules(core):
        if hasattr(part, "recompute"):
            part.recompute = True


def layer(module: nnx.Module, recompute: bool, *arrays: jax.Array, **settings) -> jax.Array:
    """module(*arrays, **settings), its inside being computed again if `recompute` says so.

    What it changes in passing (the statistics of batch norm) is changed either way.
    """
    if not recompute:
        return module(*arrays, **settings)
    graph, trained, other = nnx.split(module, nnx.Param, ...)
    given = {name: each for name, each in settings.items() if isinstance(each, jax.Array)}

    def run(trained, other, arrays, given):
        # Variables of its own, since those of the module may not change within.
        made = nnx.merge(graph, trained, other)
        out = made(*arrays, **(settings | given))
        return out, nnx.to_pure_dict(nnx.state(made, nnx.BatchStat))

    run = _later_again(run) if jax.default_backend() == "cpu" else jax.checkpoint(run)
    pure = (nnx.to_pure_dict(trained), nnx.to_pure_dict(other))
    out, found = run(*pure, arrays, given)
    statistics = nnx.state(module, nnx.BatchStat)
    nnx.replace_by_pure_dict(statistics, found)
    nnx.update(module, statistics)
    return out


def _later_again(run: Callable) -> Callable:
    """What `jax.checkpoint` promises, kept on a CPU too."""
    again = jax.custom_vjp(run)

    def back(arguments, gradient):
        def pull(arguments, gradient):
            return jax.vjp(run, *arguments)[1](gradient)

        some = jax.tree.leaves(gradient)[0]
        return after(some[(0,) * some.ndim], pull, arguments, gradient)

    again.defvjp(lambda *arguments: (run(*arguments), arguments), back)
    return again


def after(number: jax.Array, function: Callable, *arguments: Any) -> Any:
    """function(*arguments), not begun before a number is there on which nothing depends.

    As a branch that is always taken, of which XLA cannot know that: 0 times no number is 1.
    """

    def nothing(*arguments):
        shapes = jax.eval_shape(function, *arguments)
        return jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), shapes)

    return lax.cond(0.0 * number != 1.0, function, nothing, *arguments)
