"""What a program has to do, counted before it runs: operations, bytes, and memory.

In: a jitted function and its arguments (shapes are enough); out: numbers that are the same on every
machine. `work` reads the traced program: operations of matrix products and convolutions (two for
each multiply-add that meets no padding), and the least traffic, the bytes that products,
convolutions, look-ups and sums read and write when everything elementwise is fused into them.
Loops count as often as they run (a `while`, of which nobody knows how often, once). XLA's own
`cost_analysis` counts the body of every loop once (10 products in a `lax.map` are one), so it is
good for guarding one program against its own past (`analysed`), and not for rates. `memory` is what
the compiler sets aside.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PLATFORM = "default"  # convolutions count as direct ones, whichever way a CPU does them
LOOK_UPS = ("gather", "dynamic_slice")
ADDING = ("scatter-add", "scatter_add", "scatter")
MOVING = ("fft", "sort", "cumsum", "argmax", "argmin")


@dataclass(frozen=True)
class Work:
    """operations: of products and convolutions. moved: bytes of the least traffic."""

    operations: float
    moved: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.moved + other.moved)

    def times(self, number: float) -> "Work":
        return Work(self.operations * number, self.moved * number)


@dataclass(frozen=True)
class Memory:
    """Bytes that a compiled program needs: arguments, results (those kept in the arguments' memory
    left out), and what it holds in between."""

    arguments: int
    results: int
    temporary: int

    @property
    def peak(self) -> int:
        return self.arguments + self.results + self.temporary


def work(function: Callable, *arguments: Any, platform: str = PLATFORM) -> Work:
    """What a jitted function does; arguments: arrays or `jax.ShapeDtypeStruct`s."""
    return _of_program(function.trace(*arguments).jaxpr.jaxpr, platform)


def analysed(stage: Any) -> Mapping[str, float] | None:
    """XLA's `flops` and `bytes accessed` of a lowered or compiled function; None if not known."""
    found = stage.cost_analysis()
    found = found[0] if isinstance(found, list | tuple) and found else found
    return found if found and "flops" in found and "bytes accessed" in found else None


def memory(compiled: Any) -> Memory | None:
    """Of a compiled function on one device; None where the backend does not say."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    kept = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(found.argument_size_in_bytes, kept, found.temp_size_in_bytes)


def gigabytes(compiled: Any) -> float | None:
    """All that a compiled function needs; None where the backend does not say."""
    found = memory(compiled)
    return None if found is None else found.peak / 1e9


# --- reading a traced program ---------------------------------------------------------------------


def _of_program(program, platform: str) -> Work:
    return sum((_of_equation(each, platform) for each in program.eqns), Work(0.0, 0.0))


def _of_equation(equation, platform: str) -> Work:
    name, settings = equation.primitive.name, equation.params
    if name == "cond":
        return _of_branches(settings, platform)
    inner = sum((_of_program(each, platform) for each in _inner(settings)), Work(0.0, 0.0))
    if name == "scan":
        return inner.times(settings["length"])
    if name == "shard_map":  # written for one device, done on all
        return inner.times(settings["mesh"].size)
    if name == "dot_general":
        return Work(_of_product(equation), _bytes(equation.invars + equation.outvars))
    if name == "conv_general_dilated":
        return Work(_of_convolution(equation), _bytes(equation.invars + equation.outvars))
    if name in LOOK_UPS:  # read only what they give
        return Work(0.0, _bytes(equation.outvars))
    if name in ADDING:  # read and write the places of what is added
        return Work(0.0, 2 * _bytes(equation.invars[2:]))
    if name in MOVING or name.startswith("reduce_"):
        return Work(0.0, _bytes(equation.invars + equation.outvars))
    return inner


def _of_branches(settings, platform: str) -> Work:
    """The branch that the platform takes, or of an ordinary condition the dearest one."""
    branches = [_of_program(each.jaxpr, platform) for each in settings["branches"]]
    platforms = settings.get("branches_platforms")
    if not platforms:
        return max(branches, key=lambda each: (each.operations, each.moved))
    matching = (i for i, each in enumerate(platforms) if each is None or platform in each)
    return branches[next(matching)]


def _inner(settings) -> Iterator:
    """The programs that an equation holds: of a call, a loop, a function with its own gradient."""
    for value in settings.values():
        for each in value if isinstance(value, list | tuple) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def _bytes(variables) -> float:
    return float(sum(each.aval.size * each.aval.dtype.itemsize for each in variables))


def _of_product(equation) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval
    depth = math.prod(left.shape[i] for i in contracted)
    return 2.0 * equation.outvars[0].aval.size * depth


def _of_convolution(equation) -> float:
    """Two for every kernel entry that meets a number of the input, padding and holes left out."""
    settings = equation.params
    layout = settings["dimension_numbers"]
    inputs, kernel = (each.aval.shape for each in equation.invars)
    outputs = equation.outvars[0].aval.shape
    met = 1.0
    for axis in range(len(inputs) - 2):
        met *= _meetings(
            inputs[layout.lhs_spec[2 + axis]],
            kernel[layout.rhs_spec[2 + axis]],
            outputs[layout.out_spec[2 + axis]],
            settings["window_strides"][axis],
            settings["padding"][axis][0],
            settings["lhs_dilation"][axis],
            settings["rhs_dilation"][axis],
        )
    clips = inputs[layout.lhs_spec[0]] / settings["batch_group_count"]
    return 2.0 * met * clips * kernel[layout.rhs_spec[0]] * kernel[layout.rhs_spec[1]]


def _meetings(size, kernel, outputs, stride, padding, hole, spread) -> int:
    """How many (output, kernel entry) pairs of one axis meet a number of the input."""
    place = np.arange(outputs)[:, None] * stride + np.arange(kernel) * spread - padding
    return int(np.sum((place >= 0) & (place % hole == 0) & (place // hole < size)))
