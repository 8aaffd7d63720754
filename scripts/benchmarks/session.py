"""The sizes of a benchmark, and one simulated session of them, as published and as stores.

In: `Sizes` and a folder (kept, when the user names one); out: a `Session` on disk. A simulated
session, because the real ones cannot be had without asking for them; times do not depend on what
the numbers say, sizes on disk a little.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from sensojax import conversion
from sensojax.recordings import formats, simulated
from sensojax.store import TrialStore


@dataclass(frozen=True)
class Sizes:
    """Of session, batch and tier. loader_steps: batches in one repeat of the loader's row; images:
    in a batch of them; clips, windows: in a batch and in a trial of DwiseNeuro; window_step: of
    these windows, every so many (and the next one, since it sees every second frame) are enough for
    us; blocks: of ViV1T, in space and in time."""

    neurons: int = 7863
    trials: int = 60
    trial_frames: int = 300
    height: int = 36
    width: int = 64
    window_frames: int = 80
    batch: int = 8
    images: int = 128
    image_height: int = 144
    image_width: int = 256
    clips: int = 4
    windows: int = 16
    window_step: int = 1
    windows_at_once: int = 1  # on a CPU one after another is fastest: 5.1 against 6.0 CPU s of 4
    blocks: int = 2
    tier_trials: int = 60
    scored_frames: int = 250
    loader_steps: int = 100
    changes: Mapping = field(default_factory=dict)  # by model, sections: what is not as published


TINY = Sizes(
    neurons=20,
    trials=16,
    trial_frames=70,
    height=16,
    width=20,
    window_frames=54,
    batch=2,
    images=4,
    image_height=64,
    image_width=80,
    clips=2,
    windows=3,
    windows_at_once=2,
    blocks=1,
    tier_trials=5,
    scored_frames=20,
    loader_steps=3,
    changes=dict(
        factorised=dict(
            core=dict(
                channels=(4, 6), spatial_kernels=(5, 3), temporal_kernels=(5, 3), strides=(1, 1)
            )
        ),
        gru=dict(
            core=dict(
                channels=(2, 2),
                kernels=(5, 3),
                strides=(1, 1),
                paddings=("valid", "same"),
                rotations=4,
            ),
            recurrent=dict(channels=8, input_kernel=3, recurrent_kernel=3),
        ),
        images=dict(core=dict(channels=(4, 4, 4, 4), kernels=(5, 3, 3, 3))),
        viv1t=dict(
            core=dict(features=8, heads=2, head_width=4, hidden=8, registers=2, patch_frames=3)
        ),
        dwiseneuro=dict(
            core=dict(features=(4, 6), strides=(2, 1), expansion=2, squeeze=4, cortex=(8, 16))
        ),
    ),
)


class Session:
    """A simulated session in `folder` as published and as stores; made when they are not there.

    path, store: with small random numbers in place of the responses' exact zeros, which no packing
    makes smaller; everything is measured on these, since how many zeros recordings hold differs.
    sparse_path, sparse_store: as simulated. zeros: share of these responses that are zero.
    image_store: of a mouse that looked at images, made when it is asked for.
    """

    def __init__(self, folder: Path, sizes: Sizes):
        settings = simulated.Settings(
            mice=1,
            neurons=sizes.neurons,
            trials=sizes.trials,
            frames=sizes.trial_frames,
            height=sizes.height,
            width=sizes.width,
            noise=simulated.REALISTIC_NOISE,
        )
        (source,) = simulated.write(folder / "simulated", settings)
        # Without what only simulations know, so that bytes compare as for a recorded mouse.
        self.sparse_path = folder / "sparse" / source.name
        _link(source, self.sparse_path, ("data", "meta", "config.json"))
        self.path = folder / "published" / source.name
        if not self.path.exists():
            _write_without_zeros(source, self.path)
        self.store = _converted(self.path, folder / "stores")
        self.sparse_store = _converted(self.sparse_path, folder / "sparse_stores")
        responses = np.load(source / "data/responses/0.npy")
        self.zeros = float(np.mean(responses[np.isfinite(responses)] == 0))
        self.folder, self.sizes = folder, sizes

    def store_of(self, model: str) -> TrialStore:
        """What a model of MODELS is measured on."""
        return self.image_store if model == "images" else self.store

    @cached_property
    def image_store(self) -> TrialStore:
        settings = simulated.Settings(
            kind="static",
            mice=1,
            neurons=self.sizes.neurons,
            trials=max(2 * self.sizes.images, 60),
            train_share=0.75,
            height=self.sizes.image_height,
            width=self.sizes.image_width,
        )
        (source,) = simulated.write(self.folder / "images", settings)
        return _converted(source, self.folder / "image_stores")


def _converted(path, folder):
    return TrialStore.open(conversion.write(folder, formats.read(path)))


def _write_without_zeros(source, path):
    """A copy of a session, links but for the responses; under another name until it is whole."""
    partial = path.with_name(path.name + ".partial")
    _link(source, partial, ("meta", "config.json"))
    _link(source / "data", partial / "data", ("videos", "behavior", "pupil_center"))
    (partial / "data/responses").mkdir(exist_ok=True)
    for file in (source / "data/responses").iterdir():
        responses = np.load(file)
        small = np.random.default_rng(int(file.stem)).exponential(1e-3, responses.shape)
        np.save(partial / "data/responses" / file.name, np.where(responses == 0, small, responses))
    os.replace(partial, path)


def _link(source, to, names):
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (to / name).exists():
            os.symlink((source / name).absolute(), to / name)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below, links followed."""
    walked = os.walk(folder, followlinks=True)
    return sum(os.path.getsize(Path(at) / name) for at, _, names in walked for name in names)
