"""Sensorium 2023: mice that watched videos, as published (baselines 1.1).

In goes a session folder, a folder of sessions, or a .zip of them (read in place); out comes a
`types.Recording`. On disk every trial has four float64 arrays with time last, padded with NaN, and
the meta folder holds tiers, neurons and statistics per frame. Here time comes first and the padding
is gone.
"""

from pathlib import Path

from sensojax.recordings import competition, files, trials
from sensojax.types import Recording

LAYOUT = trials.Layout(
    videos="videos",
    axes={
        "videos": "(height, width, time)",
        "responses": "(neuron, time)",
        "behavior": "(channel, time)",
        "pupil_center": "(2, time)",
    },
    still=False,
)
DEFAULT_FRAME_RATE_HZ = 30.0


def sessions(path: str | Path) -> list[str]:
    """Names of the sessions at a path: a session folder, a folder of sessions, or a .zip."""
    return [source.name for source in competition.find(path)]


def read(path: str | Path, mouse: str | None = None, *, holes: str = "refuse") -> Recording:
    """The recording of one mouse; meta data are read now, each trial when it is asked for.

    mouse: the session's name, needed when the path holds several. holes: what to do where a signal
    is NaN and later a number again: "refuse" (UserError) or "cut" (the trial ends at its first
    NaN).
    Raises UserError when the path, the meta data or (from Recording.read) a trial are not as
    published. Recording.read may be called from several threads.
    """
    return of(competition.choose(path, mouse), path, holes=holes)


def of(source: files.Folder | files.Zip, path: str | Path, *, holes: str = "refuse") -> Recording:
    """The recording in a session that was found at a path."""
    return competition.recording(
        source,
        path,
        LAYOUT,
        holes=holes,
        statistics="all",
        frame_rate_hz=DEFAULT_FRAME_RATE_HZ,
        # Videos are published without areas and layers; other tables would be other fingerprints.
        neuron_columns=False,
    )
