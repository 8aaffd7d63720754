"""The published ViV1T of 2025 at work; runs beside torch, in the worker.

In: the checkout of its repository, a folder of weights and arrays, and the settings of our core;
out: a `Published` that takes training steps with its own loss, clipping and optimizer (`train.py`
of that repository, whose few lines around them are said here), and predicts whole trials.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import peer_parts
import torch
from peer_device import DEVICE, now

# Of the published training command and its defaults (sota 3.1).
DEFAULTS = dict(
    core="vivit",
    core_behavior_mode=2,
    core_patch_mode=0,
    core_pos_encoding=5,
    core_temporal_patch_stride=1,
    core_norm="layernorm",
    core_activation="none",
    core_flash_attention=1,
    core_norm_qk=0,
    core_lr=0.0126,
    core_weight_decay=0.0783,
    readout="gaussian",
    readout_grid_mode=1,
    readout_bias_mode=2,
    shifter_mode=1,
    shifter_layers=3,
    shifter_size=5,
    output_mode=1,
    transform_output=1,
    grad_checkpointing=0,
    clip_grad=-1,
    ds_scale=1,
    criterion="poisson",
    schedule_free=True,
    lr=0.0073,
    weight_decay=0.6893,
    adam_beta1=0.9,
    adam_beta2=0.999,
    adam_eps=1e-8,
    adam_warmup_steps=400,
    adam_r=0.0,
    adam_weight_lr_power=2.0,
    verbose=0,
)
# Their names of our settings of the core.
NAMES = dict(
    core_emb_dim="features",
    core_num_heads="heads",
    core_head_dim="head_width",
    core_ff_dim="hidden",
    core_ff_activation="activation",
    core_spatial_depth="spatial_blocks",
    core_temporal_depth="temporal_blocks",
    core_spatial_patch_size="patch",
    core_spatial_patch_stride="stride",
    core_temporal_patch_size="patch_frames",
    core_pad_frame="padded",
    core_reg_tokens="registers",
    core_use_causal_attention="causal",
    core_p_dropout="patch_dropout",
    core_mha_dropout="attention_dropout",
    core_ff_dropout="hidden_dropout",
    core_drop_path="drop_path",
    max_frame="max_frames",
)
# Packages of which only the modules are imported that a model needs; the others read data sets.
PACKAGES = ("", ".model", ".model.core", ".model.readout", ".utils")


class Published:
    """The model of some mice; <mouse>-batch.npz and -trials.npz hold what the network sees."""

    def __init__(self, checkout: Path, folder: Path, core: dict, mice: list[str]):
        part = _imported(checkout)
        self.clips = {mouse: _arrays(folder / f"{mouse}-batch.npz") for mouse in mice}
        self.trials = {mouse: _arrays(folder / f"{mouse}-trials.npz") for mouse in mice}
        weights = np.load(folder / "weights.npz")
        coordinates = {m: weights[f"readouts.{m}.source_grid"] for m in mice}
        _, _, frames, height, width = self.clips[mice[0]]["videos"].shape
        settings = {theirs: core[ours] for theirs, ours in NAMES.items()}
        args = types.SimpleNamespace(**DEFAULTS, **settings, device=torch.device(DEVICE))
        args.input_shapes = dict(
            video=(1, frames, height, width), behavior=(2, frames), pupil_center=(2, frames)
        )
        args.output_shapes = {m: (len(each), frames) for m, each in coordinates.items()}
        rates = {m: torch.ones(len(each)) for m, each in coordinates.items()}
        self.net = part["model.model"].Model(
            args,
            neuron_coordinates={m: torch.from_numpy(x) for m, x in coordinates.items()},
            mean_responses=rates,
        )
        given = {name: torch.from_numpy(weights[name]) for name in weights.files}
        found = self.net.load_state_dict(given, strict=False)
        lost = set(found.missing_keys) & dict(self.net.named_parameters()).keys()
        if lost or found.unexpected_keys:
            raise ValueError(f"weights lacking {lost}, left over {found.unexpected_keys}")
        self.net.to(DEVICE)
        loaders = dict.fromkeys(mice, types.SimpleNamespace(dataset=[None]))  # all as large
        self.loss = part["criterions"].PoissonLoss(args, loaders).to(DEVICE)
        self.optimizer, _ = part["optimizer"].get_optimizer(args, self.net)
        self.features = None

    def step(self) -> float:
        """Seconds of one training step: gradients summed over mice, clipped, schedule-free."""
        self.net.train()
        self.optimizer.train()
        began = now()
        for mouse in self.clips:
            self._objective(mouse).backward()
        self.net.clip_grad_norm()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return now() - began

    def objective(self) -> float:
        """The objective of all mice with nothing left out, every neuron read at its mean."""
        self.net.eval()
        with torch.no_grad():
            return sum(float(self._objective(mouse)) for mouse in self.clips)

    def _objective(self, mouse):
        clips = self.clips[mouse]
        predicted = self._predicted(mouse, clips)
        count = len(self.clips) * len(clips["videos"])
        return self.loss(y_true=clips["responses"], y_pred=predicted, mouse_id=mouse) / count

    def _predicted(self, mouse, clips, which=slice(None)):
        given = dict(behaviors=clips["behavior"][which], pupil_centers=clips["pupil_center"][which])
        return self.net(clips["videos"][which, :1], mouse_id=mouse, **given)[0]

    def predict(self, path: str = "") -> float:
        """Seconds to predict every mouse's trials; path: a file for those of the first mouse."""
        self.net.eval()
        self.optimizer.eval()
        began, found = now(), {}
        with torch.no_grad():
            for mouse, trials in self.trials.items():  # one at a time, as published
                places = (slice(i, i + 1) for i in range(len(trials["videos"])))
                found[mouse] = [self._predicted(mouse, trials, place) for place in places]
        seconds = now() - began
        if path:
            np.save(path, torch.cat(next(iter(found.values()))).cpu().numpy())
        return seconds

    def core(self, backward: bool) -> float:
        """Seconds of the first mouse's clips through the core; backward: and of its gradient."""
        mouse = next(iter(self.clips))
        return peer_parts.seconds(self.net, lambda: self._features(mouse), backward)

    def readout(self, backward: bool) -> float:
        """Seconds of the core's features through the first readout; backward: and gradients."""
        mouse, clips = next(iter(self.clips.items()))
        if self.features is None:
            with torch.no_grad():
                self.features = self._features(mouse)
        known = self.features.detach().requires_grad_(backward)
        shifts = self.net.shifters(clips["behavior"], clips["pupil_center"], mouse).detach()

        def read():
            logits = self.net.readouts(known, mouse_id=mouse, shifts=shifts)
            return self.net.output_activation(logits, mouse_id=mouse)

        return peer_parts.seconds(self.net, read, backward)

    def _features(self, mouse):
        clips = self.clips[mouse]
        return self.net.core(
            clips["videos"][:, :1], mouse, clips["behavior"], clips["pupil_center"]
        )


def _imported(checkout):
    """The published modules, with empty ones for what they import and nothing here calls."""
    sys.path.insert(0, str(checkout))
    for name in PACKAGES:
        package = types.ModuleType(f"viv1t{name}")
        package.__path__ = [str(checkout / "viv1t" / name[1:].replace(".", "/"))]
        sys.modules[package.__name__] = package
    utils = types.ModuleType("viv1t.utils.utils")
    utils.support_bf16 = lambda device: False
    data = types.ModuleType("viv1t.data")
    data.estimate_mean_response = None
    for module in (utils, data, types.ModuleType("viv1t.utils.yaml")):
        sys.modules[module.__name__] = module
        setattr(sys.modules[module.__name__.rpartition(".")[0]], module.__name__[-5:], module)
    vision, operations = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    vision.ops, operations.stochastic_depth = operations, _stochastic_depth
    for module in (types.ModuleType("torchinfo"), vision, operations):
        sys.modules.setdefault(module.__name__, module)
    sys.modules["viv1t.utils"].utils = utils
    sys.modules["viv1t.utils"].yaml = sys.modules["viv1t.utils.yaml"]
    core = importlib.import_module("viv1t.model.core.core")
    readout = importlib.import_module("viv1t.model.readout.readout")
    importlib.import_module("viv1t.model.core.vivit")
    importlib.import_module("viv1t.model.readout.gaussian")
    sys.modules["viv1t.model.core"].get_core = core.get_core
    sys.modules["viv1t.model.readout"].get_readouts = readout.get_readouts
    parts = ("model.model", "criterions", "optimizer")
    return {name: importlib.import_module(f"viv1t.{name}") for name in parts}


def _stochastic_depth(x, p, mode, training=True):
    """What torchvision has under this name, for whole rows: x without some of them."""
    if not training or not p:
        return x
    kept = torch.empty([len(x), *[1] * (x.ndim - 1)], dtype=x.dtype, device=x.device)
    return x * kept.bernoulli_(1 - p).div_(1 - p)


def _arrays(path):
    found = np.load(path)
    return {name: torch.from_numpy(found[name]).to(DEVICE) for name in found.files}
