"""What is special about measuring DwiseNeuro: short clips, long trials in windows, its operations.

In: the config of the published preset and `Sizes`; out: the config at these sizes, how many windows
a trial has, and floating-point operations of its core.
"""

from collections.abc import Mapping

NAME = "dwiseneuro"


def configured(config: Mapping, sizes) -> dict:
    """The config for one session, which has no folds, with clips of its own length."""
    data = dict(folds=0, fold=-1, tiers=("train",), batch_size=sizes.clips)
    evaluation = dict(windows_at_once=sizes.windows_at_once)
    return {
        **config,
        "data": config["data"] | data,
        "evaluation": config["evaluation"] | evaluation,
    }


def trial_frames(config: Mapping, sizes) -> int:
    """Frames of a trial with as many windows as are measured."""
    return config["data"]["window_frames"] + sizes.windows - 1


def flops(config: Mapping, frames: int, *, training: bool) -> float:
    """Operations of the core: on a clip of so many frames, or on all windows of a trial of so many.

    Training is three times predicting.
    """
    window, step = config["data"]["window_frames"], config["inputs"]["frame_step"]
    of_clip = _of_clip(config["core"], -(-window // step), *config["inputs"]["canvas"])
    return 3 * of_clip if training else (frames - window + 1) * of_clip


def _of_clip(core, frames, height, width) -> float:
    """Of all convolutions and of the cortex (sota 1.2)."""
    features, total = core["features"], 2.0 * frames * height * width * 5 * core["features"][0]
    for number, (inputs, stride) in enumerate(zip(features, core["strides"], strict=True)):
        outputs = features[min(number + 1, len(features) - 1)]
        hidden = inputs * core["expansion"]
        total += 2.0 * frames * height * width * inputs * hidden
        height, width = -(-height // stride), -(-width // stride)
        each_pixel = core["spatial_kernel"] ** 2 + core["temporal_kernel"] + outputs
        total += 2.0 * frames * height * width * hidden * each_pixel
    widths = (features[-1], *core["cortex"])
    for inputs, outputs in zip(widths, core["cortex"], strict=False):
        total += 2.0 * frames * inputs * outputs / core["groups"]
    return total
