"""What is special about measuring DwiseNeuro: short clips, long trials in windows.

In: the config of the published preset and `Sizes`; out: the config at these sizes, and how long
trials are.
"""

from collections.abc import Mapping

NAME = "dwiseneuro"


def configured(config: Mapping, sizes) -> dict:
    """The config for one session, which has no folds, with clips of its own length."""
    data = dict(folds=0, fold=-1, tiers=("train",), batch_size=sizes.clips)
    evaluation = dict(windows_at_once=sizes.windows_at_once, window_step=sizes.window_step)
    return {
        **config,
        "data": config["data"] | data,
        "evaluation": config["evaluation"] | evaluation,
    }


def trial_frames(config: Mapping, sizes) -> int:
    """Frames of a trial with as many windows as are measured."""
    return config["data"]["window_frames"] + sizes.windows - 1
