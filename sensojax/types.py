"""The nouns of the project: what a recording is, what a trial is, what a model sees.

Every module speaks these types. Axes always come in one order, and are written as words in
brackets in docstrings (and as one letter each in einsum):

    batch (b)  time (t)  height (h)  width (w)  channel (c)  neuron (n)

Words: a *mouse* is one recording session of one animal; a *neuron* is one recorded unit;
*responses* are what was recorded (deconvolved calcium, as recorded); a *clip* is a distinct
stimulus video, a *trial* one presentation of it; a *tier* is the split a trial belongs to; a
*frame* is one time bin (an image is a video of one frame); *rates* are the noiseless expected
responses, known only for simulated mice; *predicted* and *observed* are the two sides of a score.
Units are in the name (`position_um`, `frame_rate_hz`) or "as recorded".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flax import struct

# Tiers of the published data: Sensorium 2023 (the first seven) and Sensorium 2022.
TIERS = (
    "train",
    "oracle",
    "live_test_main",
    "live_test_bonus",
    "final_test_main",
    "final_test_bonus",
    "none",
    "validation",
    "test",
    "final_test",
)

# Kinds of stimuli, in the order of the published stimulus numbers 0 to 5; all but the first are out
# of the domain of natural movies.
STIMULUS_KINDS = (
    "movie",
    "pink_noise",
    "gaussian_dots",
    "random_dots",
    "drifting_gabor",
    "flashed_images",
)

# The order in which the four recorded modalities are always listed.
MODALITIES = ("videos", "responses", "behavior", "pupil_center")


@dataclass(frozen=True)
class Neurons:
    """Who was recorded.

    ids: [neuron] int64, the laboratory's numbers.
    position_um: [neuron 3] float64, x and y along cortex and z in depth, NaN where unknown.
    columns: what else the source says of them (area, layer), by name, [neuron ...].
    """

    ids: np.ndarray
    position_um: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Trial:
    """One presentation of one clip, cut to the frames in which every modality was recorded.

    video: [time height width] gray levels 0..255, in the dtype of the source.
    responses: [time neuron], behavior: [time 2] (pupil dilation, running speed; 3 columns in
    2022), pupil_center: [time 2] (horizontal, vertical), all float64 and as recorded; of the last
    two, no column where nobody recorded them.
    official_frames: how many of these frames the published loader keeps; it also stops where its
    per-frame normalisation gives not-a-number (baselines 1.3).
    checksum: SHA-256 of the source files, in the order of MODALITIES.
    rates: [time neuron] noiseless expected responses of a simulated mouse, else None.
    """

    index: int
    tier: str
    video: np.ndarray
    responses: np.ndarray
    behavior: np.ndarray
    pupil_center: np.ndarray
    official_frames: int
    checksum: str
    rates: np.ndarray | None = None

    @property
    def num_frames(self) -> int:
        return len(self.responses)


@dataclass(frozen=True)
class Recording:
    """One mouse, one session, as a laboratory published it; trials are read when asked for.

    tiers: one name per trial, in file order. trial_columns: any other per-trial column of the
    source, by name, [trial ...]. statistics: the published ones, `statistics["videos"]["std"]`,
    axes in our order ([time height width], [time neuron], [time 2]), float64; empty when the
    source has none. read(i): the i-th trial. truth: what is known of a simulated mouse's neurons,
    by name, [neuron ...]. still: every trial is an image, a video of one frame.
    """

    mouse: str
    source: str
    frame_rate_hz: float
    neurons: Neurons
    tiers: tuple[str, ...]
    read: Callable[[int], Trial]
    trial_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    simulated: bool = False
    still: bool = False


@struct.dataclass
class Batch:
    """What a model sees of one mouse: raw numbers on the way in, normalised inside the step.

    video: [batch time height width] uint8 or float32 as stored; after normalisation
    [batch time height width channel] float32.
    responses: [batch time neuron]; behavior: [batch time 2]; pupil_center: [batch time 2].
    valid: [batch time] bool, the frames that count.
    start: [batch] int32, the trial's frame that the window starts with (per-frame statistics).
    """

    video: np.ndarray
    responses: np.ndarray
    behavior: np.ndarray
    pupil_center: np.ndarray
    valid: np.ndarray
    start: np.ndarray
