"""The published DwiseNeuro at work; runs beside torch, in the worker.

In: the checkout of its repository, a folder of weights and arrays, and the settings of our core;
out: a `Published` that takes training steps with its own loss and predicts trials with its own
loop over windows.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import peer_parts
import torch
from peer_device import DEVICE, now

POISSON = dict(log_input=False, full=False, eps=1e-8)


class Published:
    """The model of some mice; <mouse>-batch.npz holds what the network sees, -trials.npz raw."""

    def __init__(self, checkout: Path, folder: Path, core: dict, mice: list[str], rate: float):
        sys.path.insert(0, str(checkout))
        part = {name: importlib.import_module(f"src.{name}") for name in PARTS}
        self.clips = {mouse: _arrays(folder / f"{mouse}-batch.npz") for mouse in mice}
        self.trials = {mouse: _arrays(folder / f"{mouse}-trials.npz") for mouse in mice}
        neurons = [each["responses"].shape[1] for each in self.clips.values()]
        self.net = part["models.dwiseneuro"].DwiseNeuro(
            readout_outputs=tuple(neurons),
            in_channels=self.clips[mice[0]]["videos"].shape[1],
            core_features=tuple(core["features"]),
            spatial_strides=tuple(core["strides"]),
            spatial_kernel=core["spatial_kernel"],
            temporal_kernel=core["temporal_kernel"],
            expansion_ratio=core["expansion"],
            se_reduce_ratio=core["squeeze"],
            cortex_features=tuple(core["cortex"]),
            groups=core["groups"],
            drop_path_rate=core["drop_path"],
        )
        weights = np.load(folder / "weights.npz")
        given = {name: torch.from_numpy(weights[name]) for name in weights.files}
        found = self.net.load_state_dict(given, strict=False)
        lost = set(found.missing_keys) & dict(self.net.named_parameters()).keys()
        if lost or found.unexpected_keys:
            raise ValueError(f"weights lacking {lost}, left over {found.unexpected_keys}")
        self.net.to(DEVICE)
        self.loss = part["losses"].MicePoissonLoss(**POISSON)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=rate, weight_decay=0.05)
        self.features = None
        self.predictor = _predictor(part, self.net, neurons, self.clips[mice[0]]["videos"].shape)

    def step(self) -> float:
        """Seconds of one training step, all mice in one batch, every head on all of it."""
        self.net.train()
        began = now()
        clips = torch.cat([each["videos"] for each in self.clips.values()])
        self.optimizer.zero_grad()
        self.loss(self.net(clips), self._targets(len(clips))).backward()
        self.optimizer.step()
        return now() - began

    def core(self, backward: bool) -> float:
        """Seconds of all clips through core and cortex; backward: and of the gradient."""
        clips = torch.cat([each["videos"] for each in self.clips.values()])
        return peer_parts.seconds(self.net, lambda: self._features(clips), backward)

    def readout(self, backward: bool) -> float:
        """Seconds of the features of all clips through the first readout."""
        if self.features is None:
            clips = torch.cat([each["videos"] for each in self.clips.values()])
            with torch.no_grad():
                self.features = self._features(clips)
        known = self.features.detach().requires_grad_(backward)
        return peer_parts.seconds(self.net, lambda: self.net.readouts[0](known), backward)

    def _features(self, clips):
        seen = self.net.pool(self.net.core(clips))
        return self.net.cortex(seen.squeeze(-1).squeeze(-1))

    def _targets(self, count):
        """For every head a target, zeros but for its own clips, and which clips are whose."""
        targets, first = [], 0
        weights = torch.zeros(count, len(self.clips), device=DEVICE)
        for number, each in enumerate(self.clips.values()):
            own = slice(first, first + len(each["responses"]))
            target = torch.zeros(count, *each["responses"].shape[1:], device=DEVICE)
            target[own], weights[own, number], first = each["responses"], 1.0, own.stop
            targets.append(target)
        return targets, weights

    def predict(self, path: str = "") -> float:
        """Seconds to predict every mouse's trials; path: a file for those of the first mouse."""
        self.net.eval()
        began = now()
        found = [
            self.predictor.predict_trial(*(x.cpu().numpy() for x in arrays), mouse_index=number)
            for number, each in enumerate(self.trials.values())
            for arrays in zip(
                each["videos"][:, 0].permute(0, 2, 3, 1),
                each["behavior"],
                each["pupil_center"],
                strict=True,
            )
        ]
        seconds = now() - began
        if path:
            np.save(path, np.stack(found[: len(next(iter(self.trials.values()))["videos"])]))
        return seconds


PARTS = ("models.dwiseneuro", "losses", "inputs", "indexes", "constants", "predictors")


def _arrays(path):
    found = np.load(path)
    return {name: torch.from_numpy(found[name]).to(DEVICE) for name in found.files}


def _predictor(part, net, neurons, shape):
    """Their predictor of trials around this network, which it would have read from a file."""
    _, _, frames, height, width = shape
    part["constants"].num_neurons = neurons
    made = object.__new__(part["predictors"].Predictor)
    made.model = types.SimpleNamespace(device=DEVICE, predict=lambda x, mouse: net(x, mouse))
    made.inputs_processor = part["inputs"].get_inputs_processor(
        "stack_inputs", dict(size=(width, height), pad_fill_value=0.0)
    )
    made.indexes_generator = part["indexes"].IndexesGenerator(frames, 2)
    made.blend_weights = part["predictors"].get_blend_weights("ones", frames)
    return made
