"""What is special about measuring ViV1T: clips as long as trials, one of each mouse, few blocks.

In: the config of the published preset and `Sizes`; out: the config at these sizes. All blocks are
alike, so a few of them are enough to compare two programs, in a sixth of the time.
"""

from collections.abc import Mapping

NAME, PRESET = "viv1t", "sensorium2025"


def configured(config: Mapping, sizes) -> dict:
    """The config for clips that are whole trials, with as many blocks as are measured."""
    data = dict(window_frames=sizes.trial_frames, batch_size=1)
    core = dict(
        max_frames=sizes.trial_frames, spatial_blocks=sizes.blocks, temporal_blocks=sizes.blocks
    )
    return {**config, "data": config["data"] | data, "core": config["core"] | core}
