"""The published PyTorch code at work: runs in an interpreter that has torch, driven through a pipe.

In: the folder that holds the checkouts `neuralpredictors` and `sensorium_2023` (first argument),
then one JSON object per line on standard input, {"do": method of Worker, "with": arguments}. Out:
one JSON line for each, {"answer": ...} or {"error": "..."}. Between requests it sleeps in a read,
so that it never computes while the other side is being timed. Models, loader, loss and scores are
those of the checkouts; only what the trainer does between them, as one nested function that cannot
be imported, is said here in our words (baselines 6.1 and 7).
"""

import collections
import importlib
import json
import math
import os
import platform
import resource
import sys
import time
import traceback
import types
from pathlib import Path

import numpy as np
import torch

# Imported by the published modules but not by anything that runs here; empty modules stand in for
# those that are not installed. `set_random_seed` is called once, before weights that we replace.
OPTIONAL = ("nnfabrik.utility.nn_helpers", "torchvision", "matplotlib.pyplot", "wandb")

Batch = collections.namedtuple("Batch", ("videos", "responses", "behavior", "pupil_center"))


class OneByOne:
    """Stands for a loader of the kit: yields the given batches, and knows where neurons lie."""

    def __init__(self, batches: list[Batch], coordinates: np.ndarray):
        neurons = types.SimpleNamespace(cell_motor_coordinates=coordinates)
        self.batches, self.dataset = batches, types.SimpleNamespace(neurons=neurons)

    def __iter__(self):
        return iter(self.batches)


class Worker:
    """The requests, by name; each takes and returns what JSON can say, arrays go through files."""

    def __init__(self, folder: Path):
        sys.path[:0] = [str(folder / "neuralpredictors"), str(folder / "sensorium_2023")]
        self.stand_ins = _stand_ins()
        self.models = importlib.import_module("sensorium.models.make_model")
        self.loaders = importlib.import_module("sensorium.datasets.mouse_video_loaders")
        self.scores = importlib.import_module("sensorium.utility.scores")
        self.losses = importlib.import_module("neuralpredictors.measures.modules")

    def hello(self) -> dict:
        """Versions, number of threads, and which modules are empty stand-ins."""
        return dict(
            versions=dict(
                torch=torch.__version__, numpy=np.__version__, python=platform.python_version()
            ),
            threads=torch.get_num_threads(),
            stand_ins=self.stand_ins,
        )

    def reset_memory(self) -> None:
        """Starts the high-water mark of memory anew, where the system can."""
        _reset_memory()

    def peak_memory(self) -> int:
        """Bytes, the largest resident size since `reset_memory`."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def matmul(self, size: int) -> float:
        """Seconds of one product of two square float32 matrices."""
        a, b = torch.rand(size, size), torch.rand(size, size)
        return _timed(lambda: a @ b)

    # --- training and prediction ---

    def model(self, folder: str, core: dict, mice: list[str], num_files: int, rate: float) -> None:
        """Builds the published baseline for the batches, trials and weights in a folder.

        <mouse>-batch.npz holds the four arrays of a batch as the kit's loader gives them;
        <mouse>-trials.npz whole trials, to be predicted one by one; weights.npz a state dict.
        """
        folder = Path(folder)
        weights = {name: torch.from_numpy(x) for name, x in np.load(folder / "weights.npz").items()}
        self.batches, self.trials = {}, {}
        for mouse in mice:
            coordinates = weights[f"readout.{mouse}.source_grid"].numpy()
            batch = _batch(folder / f"{mouse}-batch.npz")
            trials = _batch(folder / f"{mouse}-trials.npz")
            singles = [Batch(*(x[i : i + 1] for x in trials)) for i in range(len(trials.videos))]
            self.batches[mouse] = OneByOne([batch], coordinates)
            self.trials[mouse] = OneByOne(singles, coordinates)
        self.net = _baseline(self.models.make_video_model, self.batches, core)
        known = self.net.state_dict()
        counters = {name: x for name, x in known.items() if name.endswith("num_batches_tracked")}
        self.net.load_state_dict(weights | counters, strict=True)
        self.criterion = self.losses.PoissonLoss(avg=False)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=rate)
        self.num_files = num_files

    def step(self) -> dict:
        """One step of the published trainer: a mouse at a time, gradients summed, then AdamW."""
        self.net.train()
        began = time.perf_counter()
        total = 0.0
        for mouse, loader in self.batches.items():
            (batch,) = loader
            predicted = self.net(batch.videos, data_key=mouse, **batch._asdict())
            observed = batch.responses.transpose(2, 1)[:, -predicted.shape[1] :]
            penalties = sum(self.net.core.regularizer()) + self.net.readout.regularizer(mouse)
            scale = math.sqrt(self.num_files / len(batch.videos))
            loss = scale * self.criterion(predicted, observed) + penalties
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return dict(seconds=time.perf_counter() - began, loss=float(total))

    def predict(self, what: str, path: str = "") -> float:
        """Seconds to predict every mouse's "batch" or "trials" by the published function.

        path: a file to write the first mouse's predictions to, [batch neuron time].
        """
        self.net.eval()
        loaders = {"batch": self.batches, "trials": self.trials}[what]
        began = time.perf_counter()
        found = {m: self.scores.model_predictions(self.net, each, m) for m, each in loaders.items()}
        seconds = time.perf_counter() - began
        if path:
            np.save(path, np.stack([x.numpy() for x in next(iter(found.values()))[1]]))
        return seconds

    # --- loader and score ---

    def open_loader(self, path: str, batch_size: int, frames: int, cached: bool) -> None:
        """Opens the published loader of one session and reads everything once."""
        loaders = self.loaders.mouse_video_loader(
            [f"{path}/"], batch_size, frames=frames, offset=-1, cuda=False
        )
        self.loader = loaders["train"][Path(path).name]
        self.loader.dataset.use_cache = cached
        self.load()

    def load(self) -> dict:
        """One pass over the train tier: seconds and samples."""
        began = time.perf_counter()
        samples = sum(len(batch.videos) for batch in self.loader)
        return dict(seconds=time.perf_counter() - began, samples=samples)

    def scored(self, predicted: str, observed: str) -> None:
        """Opens the responses of a tier, [trial neuron time], as a list of trials."""
        self.pairs = [list(torch.from_numpy(np.load(path))) for path in (observed, predicted)]

    def correlation(self, path: str = "") -> float:
        """Seconds of the published correlation over all trials, joined along time."""
        began = time.perf_counter()
        observed, predicted = (np.concatenate(each, axis=1).T for each in self.pairs)
        found = self.scores.corr(observed, predicted, axis=0)
        seconds = time.perf_counter() - began
        if path:
            np.save(path, found)
        return seconds


def _baseline(make, loaders, core):
    """The published factorised baseline (baselines 8.1), at the given widths and kernels."""
    shift = dict(
        gamma_shifter=0, shift_layers=3, input_channels_shifter=2, hidden_channels_shifter=5
    )
    network = dict(
        type="cortex", input_dimensions=2, hidden_layers=1, hidden_features=30, final_tanh=True
    )
    return make(
        loaders,
        seed=0,
        core_type="3D_factorised",
        core_dict=dict(
            input_channels=next(iter(loaders.values())).batches[0].videos.shape[1],
            hidden_channels=core["channels"],
            spatial_input_kernel=(core["spatial_kernels"][0],) * 2,
            temporal_input_kernel=core["temporal_kernels"][0],
            spatial_hidden_kernel=(core["spatial_kernels"][1],) * 2,
            temporal_hidden_kernel=core["temporal_kernels"][1],
            layers=len(core["channels"]),
            gamma_input_spatial=core["spatial_smoothness"],
            gamma_input_temporal=core["temporal_smoothness"],
            momentum=core["weight_of_new"],
            bias=True,
            batch_norm=True,
            hidden_nonlinearities="elu",
            x_shift=0,
            y_shift=0,
            laplace_padding=None,
            input_regularizer="LaplaceL2norm",
            padding=False,
            final_nonlin=True,
        ),
        readout_type="gaussian",
        readout_dict=dict(
            bias=True,
            init_mu_range=0.2,
            init_sigma=1.0,
            gamma_readout=0.0,
            gauss_type="full",
            grid_mean_predictor=network,
        ),
        use_gru=False,
        gru_dict=None,
        use_shifter=True,
        shifter_type="MLP",
        shifter_dict=shift,
    )


def _batch(path):
    arrays = np.load(path)
    return Batch(*(torch.from_numpy(arrays[name]) for name in Batch._fields))


def _timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _reset_memory():
    if os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark only


def _stand_ins() -> list[str]:
    """Puts empty modules where optional ones are missing; returns their names."""
    missing = []
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name.split(".")[0])
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                sys.modules[".".join(parts[:end])] = types.ModuleType(".".join(parts[:end]))
            sys.modules[name].set_random_seed = torch.manual_seed
    return missing


def main() -> None:
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
