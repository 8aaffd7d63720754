"""The transform domain gives the correlation by its definition, to float32's own precision.

The reference is written out here in float64: every output is a sum over the pixels that the kernel
covers. `direct` has the same functions for accelerators and is held to the same reference.
"""

import functools

import jax
import numpy as np
import pytest

from sensojax.models import direct, fourier, spectral
from tests.goldens import assert_close
from tests.models.made_up import QUICKLY

CLOSE = 2e-6
# map, kernel, padding, channels in, features out
CASES = [
    ((7, 9), (3, 3), (1, 1), 2, 3),  # odd and even periods
    ((8, 11), (4, 3), (0, 0), 3, 2),
    ((6, 6), (3, 5), (2, 1), 2, 2),  # the result is larger than the map, and narrower
    ((5, 5), (5, 5), (4, 0), 1, 2),
    ((28, 56), (9, 9), (4, 4), 3, 4),  # the published recurrence
]


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def windows(x, kernel, padding):
    """What a kernel covers: [height' width' frame channel row column], float64."""
    spread = [(size, size) for size in padding]
    x = np.pad(np.asarray(x, np.float64).transpose(1, 0, 2, 3), (*spread, (0, 0), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(x, kernel, (0, 1))


def by_definition(plan, x, kernel, gradient):
    """The correlation and the gradients of kernel and x, maps as [width height frame channel]."""
    covered = windows(x, plan.kernel, plan.padding)
    out = np.einsum("hwncyx,yxcf->whnf", covered, kernel, dtype=np.float64)
    d_kernel = np.einsum("hwncyx,whnf->yxcf", covered, gradient, dtype=np.float64)
    # Each pixel is met by the turned kernel from where the gradient lies.
    around = tuple(k - 1 - p for k, p in zip(plan.kernel, plan.padding, strict=True))
    met = windows(gradient, plan.kernel, around)
    d_x = np.einsum("hwnfyx,yxcf->whnc", met, kernel[::-1, ::-1], dtype=np.float64)
    return out, d_kernel, d_x


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=QUICKLY)
def found(how, plan, x, kernel, gradient):
    """The same by one of our modules."""
    out = how.correlate(plan, x, how.spectrum(plan, kernel))
    reverse = how.spectrum(plan.reverse, fourier.reversed_kernel(kernel))
    nothing = how.no_gradient(plan, *kernel.shape[2:])
    d_kernel, d_x = how.gradients(plan, x, gradient, nothing, reverse)
    return out, how.kernel_of(plan, d_kernel), d_x


@pytest.mark.parametrize("how", [fourier, direct], ids=["fourier", "direct"])
@pytest.mark.parametrize(("size", "kernel", "padding", "channel", "feature"), CASES)
def test_correlation_and_its_gradients_are_those_of_the_definition(
    how, size, kernel, padding, channel, feature
):
    plan = fourier.Plan(size, kernel, padding)
    x = random(0, *size[::-1], 4, channel)
    weights, gradient = (
        random(1, *kernel, channel, feature),
        random(2, *plan.output[::-1], 4, feature),
    )
    expected = by_definition(plan, x, weights, gradient)
    names = ("output", "d kernel", "d x")
    for name, one, other in zip(
        names, found(how, plan, x, weights, gradient), expected, strict=True
    ):
        assert_close(one, other, CLOSE, name)


@pytest.mark.parametrize("how", [fourier, direct], ids=["fourier", "direct"])
def test_gradients_of_the_kernel_add_up_over_portions_of_frames(how):
    plan = fourier.Plan((6, 7), (3, 3), (1, 1))
    x, gradient = random(0, 7, 6, 5, 2), random(1, 7, 6, 5, 3)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(*parts):
        total = how.no_gradient(plan, 2, 3)
        for some, g in parts:
            total = how.kernel_gradient(plan, some, g, total)
        return how.kernel_of(plan, total)

    in_parts = run((x[:, :, :2], gradient[:, :, :2]), (x[:, :, 2:], gradient[:, :, 2:]))
    _, expected, _ = by_definition(plan, x, random(2, 3, 3, 2, 3), gradient)
    assert_close(in_parts, expected, CLOSE)


@pytest.mark.parametrize("most", [1, 3, 4, 64])
@pytest.mark.parametrize("frames", [1, 7, 12])
def test_portions_hold_every_frame(most, frames, monkeypatch):
    monkeypatch.setattr(fourier, "frames_at_once", lambda *_: most)
    size, starts = spectral._portions(frames, fourier.Plan((4, 4), (3, 3), (0, 0)), 1, 1)
    held = [frame for start in starts for frame in range(start, start + size)]
    assert set(held) == set(range(frames)) and size <= most
    assert len(starts) == -(-frames // most)


# shape of the video, kernel, padding, whether transforms are faster
PUBLISHED = [
    ((8, 80, 28, 56, 64), (9, 9, 64, 192), (4, 4), True),  # GRU, what frames contain
    ((8, 80, 28, 56, 64), (7, 7, 64, 64), (3, 3), True),  # its core
    ((8, 80, 28, 56, 64), (3, 3, 64, 64), (1, 1), False),
    ((8, 80, 28, 56, 64), (1, 1, 64, 64), (0, 0), False),
    ((1, 1, 28, 56, 64), (7, 7, 64, 64), (3, 3), False),  # one frame is not worth a spectrum
    ((8, 80, 28, 56, 64), (9, 9, 64, 64), (9, 9), False),  # zeros that no kernel reaches from
    ((1, 640, 144, 256, 64), (9, 9, 64, 192), (4, 4), False),  # spectra of 2 GB
]


@pytest.mark.parametrize(("shape", "kernel", "padding", "faster"), PUBLISHED)
def test_transforms_are_chosen_where_they_are_faster(shape, kernel, padding, faster):
    assert spectral.worthwhile(shape, kernel, padding) is faster
