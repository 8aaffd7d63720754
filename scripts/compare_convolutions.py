"""Every formulation of the published convolutions, forward and with both gradients: one table.

    python scripts/compare_convolutions.py --out docs/convolutions.md

Rates are those of direct convolutions, whatever a formulation really does, beside the rate of a
square matrix product, which is measured in turn with them. On an accelerator only XLA's own
convolution is compared. So that other work on the machine counts little, a CPU's rates are per
second of processor time of one core.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from scripts.benchmarks import machine
from sensojax.errors import command_line
from sensojax.models import convolution, depthwise, slabs, spectral
from sensojax.writing import write_atomically


@dataclass(frozen=True)
class Layer:
    """kind: space, time, or channel by channel in space or time; kernel: side or frames; size: of
    the map that comes in, pixels; padding: on both sides in space."""

    of: str
    kind: str
    channels: int
    features: int
    kernel: int
    size: tuple[int, int]
    frames: int = 80
    padding: int = 0

    def operations(self) -> float:
        """Of one clip, forward; both gradients take as many again, each."""
        height, width = self.size
        if self.kind.endswith("time"):
            padding = self.kernel // 2 if self.kind.startswith("each") else 0
            frames = self.frames + 2 * padding - self.kernel + 1
            met = frames * height * width * self.kernel
        else:
            rows, columns = (n + 2 * self.padding - self.kernel + 1 for n in self.size)
            met = self.frames * rows * columns * self.kernel**2
        pairs = self.channels * (1 if self.kind.startswith("each") else self.features)
        return 2.0 * met * pairs


LAYERS = (
    Layer("factorised, layer 1", "space", 3, 32, 11, (36, 64)),
    Layer("factorised, layer 1", "time", 32, 32, 11, (26, 54)),
    Layer("factorised, layer 2", "space", 32, 64, 5, (26, 54), 70),
    Layer("factorised, layer 2", "time", 64, 64, 5, (22, 50), 70),
    Layer("factorised, layer 3", "space", 64, 128, 5, (22, 50), 66),
    Layer("factorised, layer 3", "time", 128, 128, 5, (18, 46), 66),
    Layer("GRU's core, layer 1", "space", 3, 64, 9, (36, 64)),
    Layer("GRU's core, layers 2 to 4", "space", 64, 64, 7, (28, 56), 80, 3),
    Layer("GRU, gates of all frames", "space", 64, 192, 9, (28, 56), 80, 4),
    Layer("images, layer 1", "space", 1, 64, 9, (36, 64), 128),
    Layer("images, layers 2 to 4", "each channel, space", 64, 64, 7, (28, 56), 128, 3),
    Layer("images, between them", "space", 64, 64, 1, (28, 56), 128),
    Layer("DwiseNeuro, block 2", "space", 64, 448, 1, (32, 32), 16),
    Layer("DwiseNeuro, block 2", "each channel, space", 448, 448, 3, (32, 32), 16, 1),
    Layer("DwiseNeuro, block 2", "each channel, time", 448, 448, 5, (32, 32), 16),
)
TINY = (Layer("tiny", "space", 2, 3, 3, (8, 9), 4), Layer("tiny", "time", 2, 3, 3, (8, 9), 4))
MATMUL = 1024


def formulations(layer: Layer) -> dict[str, Callable]:
    """What computes a layer, by name: x [1 time height width channel] and its kernel."""
    one, padding = (1, 1), (layer.padding,) * 2
    if layer.kind == "space":
        found = {
            "XLA": functools.partial(convolution._spatial_direct, one, padding, one),
            "rows": functools.partial(slabs.spatial, one, padding, one),
            "transforms": functools.partial(spectral.spatial, padding),
            "sensojax": functools.partial(convolution.spatial, padding=padding),
        }
        return found if layer.kernel > 1 else {n: found[n] for n in ("XLA", "rows", "sensojax")}
    if layer.kind == "time":
        return {
            "XLA": functools.partial(convolution._temporal_direct, 1),
            "sensojax": convolution.temporal,
        }
    if layer.kind == "each channel, space":
        return {
            "XLA": functools.partial(depthwise._space_direct, one, padding, one),
            "sensojax": functools.partial(depthwise.depthwise, padding=padding),
        }
    around = layer.kernel // 2
    return {
        "XLA": functools.partial(depthwise._time_direct, around),
        "sensojax": functools.partial(depthwise.temporal, padding=around),
    }


def measured(layer: Layer, repeats: int) -> dict[str, tuple[float, float]]:
    """{formulation: (forward, with both gradients)} in GFLOP/s, and that of "a product"."""
    x, kernel = _arrays(layer)
    square = jnp.ones((MATMUL, MATMUL))
    product = jax.jit(jnp.dot)
    sides = {"a product": (lambda: product(square, square),) * 2}
    for name, run in formulations(layer).items():
        forward = jax.jit(run)
        both = jax.jit(lambda x, k, run=run: jax.vjp(run, x, k)[1](run(x, k)))
        sides[name] = tuple(functools.partial(each, x, kernel) for each in (forward, both))
    seconds = {name: ([], []) for name in sides}
    for turn in range(repeats + 1):
        for name, pair in sides.items():
            for taken, work in zip(seconds[name], pair, strict=True):
                spent = _seconds(work)
                if turn:
                    taken.append(spent)
    operations = {name: layer.operations() for name in sides} | {"a product": 2.0 * MATMUL**3}
    return {
        name: tuple(
            operations[name] * times / statistics.median(taken) / 1e9
            for times, taken in zip((1, 1 if name == "a product" else 3), each, strict=True)
        )
        for name, each in seconds.items()
    }


def _arrays(layer):
    draw = np.random.default_rng(0).standard_normal
    shape = (1, layer.frames, *layer.size, layer.channels)
    sides = (layer.kernel,) * (1 if layer.kind.endswith("time") else 2)
    if layer.kind.startswith("each"):
        kernel = draw((*sides, layer.channels), np.float32)
    else:
        kernel = draw((*sides, layer.channels, layer.features), np.float32)
    return jnp.asarray(draw(shape, np.float32)), jnp.asarray(kernel)


def _seconds(work) -> float:
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    began = clock()
    jax.block_until_ready(work())
    return clock() - began


@command_line
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of each formulation")
    parser.add_argument("--tiny", action="store_true", help="meaningless sizes, to try it out")
    args = parser.parse_args(arguments)
    lines = []
    for layer in TINY if args.tiny else LAYERS:
        lines.append(_line(layer, measured(layer, args.repeats)))
        print(lines[-1], file=sys.stderr, flush=True)
    page = _page(lines)
    print(page)
    if args.out:
        write_atomically(args.out, page)


NAMES = ("XLA", "rows", "transforms", "sensojax")


def _line(layer: Layer, rates) -> str:
    kernel = layer.kernel if layer.kind.endswith("time") else f"{layer.kernel} x {layer.kernel}"
    each = layer.kind.startswith("each")
    channels = layer.channels if each else f"{layer.channels} to {layer.features}"
    size = f"{layer.size[0]} x {layer.size[1]}"
    cells = [layer.of, layer.kind, channels, kernel, f"{layer.frames} of {size}"]
    for name in NAMES:
        cells.append(" / ".join(f"{rate:.0f}" for rate in rates[name]) if name in rates else "")
    shares = zip(rates["sensojax"], rates["a product"], strict=True)
    cells.append(" / ".join(f"{ours / full:.0%}" for ours, full in shares))
    return "| " + " | ".join(map(str, cells)) + " |"


def _page(lines: list[str]) -> str:
    about = machine.described(None)
    head = ["layer", "over", "channels", "kernel", "frames", *NAMES, "of a product"]
    return "\n".join(
        [
            "# Formulations of the published convolutions",
            "",
            "GFLOP/s of direct convolutions, forward / forward with both gradients; the last column"
            " is what sensojax takes beside the rate of a square float32 matrix product. On a CPU"
            " per second of processor time of one core. Above 100 % transforms save arithmetic.",
            "",
            "| " + " | ".join(head) + " |",
            "| --- | --- | --- | --- | --- |" + " ---: |" * (len(NAMES) + 1),
            *lines,
            "",
            "`rows`: a frame's columns stacked on channels, one product per kernel row"
            " (`models/slabs.py`); `transforms`: products in the transform domain"
            " (`models/fourier.py`); channel by channel: sums of shifted products"
            " (`models/depthwise.py`), which are bound by memory and not by arithmetic, so that no"
            " share of a product's rate can be expected.",
            "",
            f"{about['date']}; {about['cpu']}, {about['cores']} cores; on {about['device']}; jax"
            f" {about['ours']['jax']}. Made by",
            "",
            "    python scripts/compare_convolutions.py --out docs/convolutions.md",
            "",
        ]
    )


if __name__ == "__main__":
    main()
