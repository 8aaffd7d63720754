"""The published loader and the published correlation at work; runs beside torch, in the worker.

In: requests of the other side, which are methods of `Data`; out: seconds, and arrays through files.
"""

import collections
from pathlib import Path

import numpy as np
import torch
from peer_device import DEVICE, now


class Data:
    """Requests for loader and score; `loaders` and `scores` are the kit's modules."""

    def open_loader(self, path: str, batch_size: int, frames: int, cached: bool) -> int:
        """Opens the published loader of one session, reads all of it once; samples in a pass."""
        loaders = self.loaders.mouse_video_loader(
            [f"{path}/"], batch_size, frames=frames, offset=-1, cuda=DEVICE == "cuda"
        )
        self.loader = loaders["train"][Path(path).name]
        self.loader.dataset.use_cache = cached
        return sum(len(batch.videos) for batch in self.loader)

    def load(self) -> float:
        """Seconds of one pass over the train tier."""
        began = now()
        collections.deque(self.loader, maxlen=0)
        return now() - began

    def scored(self, predicted: str, observed: str) -> None:
        """Opens the responses of a tier, [trial neuron time], as a list of trials."""
        self.pairs = [list(torch.from_numpy(np.load(path))) for path in (observed, predicted)]

    def correlation(self, path: str = "") -> float:
        """Seconds of the published correlation over all trials, joined along time."""
        began = now()
        observed, predicted = (np.concatenate(each, axis=1).T for each in self.pairs)
        found = self.scores.corr(observed, predicted, axis=0)
        seconds = now() - began
        if path:
            np.save(path, found)
        return seconds
