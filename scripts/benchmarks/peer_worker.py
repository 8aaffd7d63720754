"""The published PyTorch code at work: runs in an interpreter that has torch, driven through a pipe.

In: the folder that holds the checkouts `neuralpredictors` and `sensorium_2023` (first argument),
then one JSON object per line on standard input, {"do": method of Worker, "with": arguments}. Out:
one JSON line for each, {"answer": ...} or {"error": "..."}. Between requests it sleeps in a read,
so that it never computes while the other side is being timed. Models, loader, loss and scores are
those of the checkouts; only what the trainer does between them, as one nested function that cannot
be imported, is said here in our words (baselines 6.1 and 7).
"""

import gc
import importlib
import json
import math
import os
import platform
import resource
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import peer_dwiseneuro
import peer_parts
import peer_viv1t
import torch
from peer_baseline import Batch, OneByOne, baseline, of_images
from peer_data import Data
from peer_device import DEVICE, NAME, now, there
from peer_imports import LIBRARY, published, stand_ins


class Worker(Data):
    """The requests, by name; each takes and returns what JSON can say, arrays go through files."""

    def __init__(self, folder: Path):
        sys.path[:0] = [str(folder / "neuralpredictors"), str(folder / "sensorium_2023")]
        self.folder, self.own = folder, None
        self.stand_ins = stand_ins()
        self.models = importlib.import_module("sensorium.models.make_model")
        self.loaders = importlib.import_module("sensorium.datasets.mouse_video_loaders")
        self.scores = importlib.import_module("sensorium.utility.scores")
        self.losses = importlib.import_module("neuralpredictors.measures.modules")

    def hello(self) -> dict:
        """Versions, device, number of threads, and which modules are empty stand-ins."""
        return dict(
            versions=dict(
                torch=torch.__version__, numpy=np.__version__, python=platform.python_version()
            ),
            device=NAME,
            threads=torch.get_num_threads(),
            stand_ins=self.stand_ins,
        )

    def reset_memory(self) -> None:
        """Drops what earlier requests left and starts the high-water mark of memory anew."""
        for name in ("net", "optimizer", "batches", "trials", "features", "loader", "pairs"):
            self.__dict__.pop(name, None)
        self.own = None
        gc.collect()
        if os.path.exists("/proc/self/clear_refs"):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark only

    def peak_memory(self) -> int:
        """Bytes, the largest resident size since `reset_memory`."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def matmul(self, size: int) -> float:
        """Seconds of one product of two square float32 matrices."""
        a, b = (torch.rand(size, size, device=DEVICE) for _ in range(2))
        began = now()
        a @ b  # only its time is wanted
        return now() - began

    # --- training and prediction ---

    def model(
        self,
        folder: str,
        core: dict,
        recurrent: dict,
        mice: list[str],
        num_files: int,
        rate: float,
    ) -> None:
        """Builds a published baseline, of images if our core is that, for a folder's contents.

        <mouse>-batch.npz holds the four arrays of a batch as the kit's loader gives them;
        <mouse>-trials.npz whole trials, to be predicted one by one; weights.npz a state dict.
        """
        folder, self.images = Path(folder), core["name"] == "stacked2d"
        if core["name"] == "dwiseneuro":
            checkout = self.folder / "dwiseneuro"
            self.own = peer_dwiseneuro.Published(checkout, folder, core, mice, rate)
            return
        if core["name"] == "viv1t":
            self.own = peer_viv1t.Published(self.folder / "viv1t", folder, core, mice)
            return
        weights = {name: torch.from_numpy(x) for name, x in np.load(folder / "weights.npz").items()}
        self.batches, self.trials = {}, {}
        for mouse in mice:
            coordinates = weights[f"readout.{mouse}.source_grid"].numpy()
            batch = _batch(folder / f"{mouse}-batch.npz")
            self.batches[mouse] = OneByOne([_still(batch) if self.images else batch], coordinates)
            if not self.images:
                trials = _batch(folder / f"{mouse}-trials.npz")
                each = [Batch(*(x[i : i + 1] for x in trials)) for i in range(len(trials.videos))]
                self.trials[mouse] = OneByOne(each, coordinates)
        if self.images:
            library = {name: published(name, where) for name, where in LIBRARY.items()}
            self.net = of_images(library, self.batches, core)
        else:
            self.net = baseline(self.models.make_video_model, self.batches, core, recurrent)
        found = self.net.load_state_dict(weights, strict=False)
        # Fixed filters of penalties and counters of batch norm come with the model itself.
        parameters = dict(self.net.named_parameters())
        lost = set(found.missing_keys) & parameters.keys()
        if self.images:  # biases that this library adds, which stay 0
            lost = {name for name in lost if not name.endswith("conv.bias")}
        if lost or found.unexpected_keys:
            raise ValueError(f"weights lacking {lost}, left over {found.unexpected_keys}")
        self.net.to(DEVICE)
        for each in (*self.batches.values(), *self.trials.values()):
            each.batches = [there(batch) for batch in each.batches]
        self.criterion = self.losses.PoissonLoss(avg=False)
        recipe = torch.optim.Adam if self.images else torch.optim.AdamW
        self.optimizer = recipe(self.net.parameters(), lr=rate)
        self.num_files = num_files

    def step(self) -> float:
        """Seconds of one published training step: gradients summed over mice, then AdamW."""
        if self.own:
            return self.own.step()
        self.net.train()
        began = now()
        self._update({mouse: batch for mouse, (batch,) in self.batches.items()})
        return now() - began

    def _update(self, batches):
        for mouse, batch in batches.items():
            self._objective(mouse, batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _objective(self, mouse, batch):
        predicted = self.net(batch.videos, data_key=mouse, **batch._asdict())
        if self.images:
            observed = batch.responses
        else:
            observed = batch.responses.transpose(2, 1)[:, -predicted.shape[1] :]
        of_core = self.net.core.regularizer()  # two numbers if the core is 3-D
        of_core = sum(of_core) if isinstance(of_core, tuple) else of_core
        penalties = of_core + self.net.readout.regularizer(mouse)
        scale = math.sqrt(self.num_files / len(batch.videos))
        return scale * self.criterion(predicted, observed) + penalties

    def objective(self) -> float:
        """The objective of all mice in training mode, but with every neuron read at its mean.

        Without the random displacements it can be compared with another implementation's.
        """
        if self.own:
            return self.own.objective()
        self.net.train()
        sigmas = [readout.sigma for readout in self.net.readout.values()]
        kept = [sigma.detach().clone() for sigma in sigmas]
        with torch.no_grad():
            for sigma in sigmas:
                sigma.zero_()
            total = sum(float(self._objective(m, batch)) for m, (batch,) in self.batches.items())
            for sigma, value in zip(sigmas, kept, strict=True):
                sigma.copy_(value)
        return total

    def predict(self, what: str, path: str = "") -> float:
        """Seconds to predict every mouse's "batch" or "trials" by the published function.

        path: a file to write the first mouse's predictions to, [batch neuron time].
        """
        if self.own:
            return self.own.predict(path)
        self.net.eval()
        loaders = {"batch": self.batches, "trials": self.trials}[what]
        began = now()
        if self.images:
            with torch.no_grad():
                found = {
                    m: self.net(each.batches[0].videos, data_key=m) for m, each in loaders.items()
                }
            seconds = now() - began
            found = {m: (None, x[..., None]) for m, x in found.items()}
        else:
            found = {
                m: self.scores.model_predictions(self.net, each, m, device=DEVICE)
                for m, each in loaders.items()
            }
            seconds = now() - began
        if path:
            np.save(path, np.stack([x.cpu().numpy() for x in next(iter(found.values()))[1]]))
        return seconds

    def core(self, backward: bool) -> float:
        """Seconds of the first mouse's batch through the core; backward: and of its gradient."""
        if self.own:
            return self.own.core(backward)
        ((batch,), *_) = self.batches.values()
        return peer_parts.seconds(self.net, lambda: peer_parts.features(self.net, batch), backward)

    def readout(self, backward: bool) -> float:
        """Seconds of the core's features through the readout; backward: sampled, and gradients."""
        if self.own:
            return self.own.readout(backward)
        mouse, (batch,) = next(iter(self.batches.items()))
        if "features" not in self.__dict__:
            with torch.no_grad():
                self.features = peer_parts.features(self.net.eval(), batch)
        known = self.features.detach().requires_grad_(backward)
        read = lambda: peer_parts.read(self.net, mouse, batch, known)  # noqa: E731
        return peer_parts.seconds(self.net, read, backward)

    def epoch(self) -> float:
        """Seconds of a pass over the train tier, with a training step for each batch."""
        self.net.train()
        (mouse,) = self.batches
        began = now()
        for batch in self.loader:
            self._update({mouse: batch})
        return now() - began


def _batch(path):
    arrays = np.load(path)
    return Batch(*(torch.from_numpy(arrays[name]) for name in Batch._fields))


def _still(batch):
    """Clips of one frame without their axis of time, as the kit of images has them."""
    videos, *others = batch
    return Batch(videos[:, :, 0], *(each[..., 0] for each in others))


def main() -> None:
    warnings.simplefilter("ignore")  # the published code's own
    # What the published code prints must not get between our lines.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        try:
            worker = worker or Worker(Path(sys.argv[1]))
            request = json.loads(line)
            reply = {"answer": getattr(worker, request["do"])(**request["with"])}
        except Exception as error:  # the other side says what it means for the run
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
