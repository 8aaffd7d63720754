"""Sensorium 2022: mice that looked at images, as published (baselines 2.1).

In goes a session folder, a folder of sessions, or a .zip of them (read in place); out comes a
`types.Recording` whose trials are videos of one frame. On disk a trial has an image (1, height,
width) and, without a time axis, one response of each neuron, three numbers of behavior (pupil
dilation, its derivative, running speed) and the pupil's center. Repeats have equal `frame_image_id`
among the trial columns; `trial_idx` is a text in the mice of the competition.
"""

from pathlib import Path

from sensojax.errors import check_name
from sensojax.recordings import competition, files, trials
from sensojax.types import Recording

LAYOUT = trials.Layout(
    videos="images",
    axes={
        "videos": "(1, height, width)",
        "responses": "(neuron)",
        "behavior": "(channel)",
        "pupil_center": "(2)",
    },
    still=True,
)
STATISTICS = ("all", "stimulus_frame")
FRAME_RATE_HZ = 2.0  # an image is shown for half a second, in which the response is summed


def sessions(path: str | Path) -> list[str]:
    """Names of the sessions at a path: a session folder, a folder of sessions, or a .zip."""
    return [source.name for source in competition.find(path)]


def read(
    path: str | Path, mouse: str | None = None, *, holes: str = "refuse", statistics: str = "all"
) -> Recording:
    """The recording of one mouse; meta data are read now, each trial when it is asked for.

    mouse: the session's name, needed when the path holds several. holes: what to do with a trial in
    which a number is NaN: "refuse" (UserError) or "cut" (the trial stays without a frame).
    statistics: the published ones over "all" of the recording, or over its "stimulus_frame"s.
    Raises UserError when the path, the meta data or (from Recording.read) a trial are not as
    published. Recording.read may be called from several threads.
    """
    return of(competition.choose(path, mouse), path, holes=holes, statistics=statistics)


def of(
    source: files.Folder | files.Zip,
    path: str | Path,
    *,
    holes: str = "refuse",
    statistics: str = "all",
) -> Recording:
    """The recording in a session that was found at a path."""
    check_name(statistics, STATISTICS, "statistics")
    return competition.recording(
        source,
        path,
        LAYOUT,
        holes=holes,
        statistics=statistics,
        frame_rate_hz=FRAME_RATE_HZ,
        neuron_columns=True,
    )
