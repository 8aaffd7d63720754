"""Where the published Sensorium 2023 loader ends a clip (baselines 1.3, golden README trap 4).

In go the per-frame statistics of a session and the frames of a trial; out comes how many of them
the published loader keeps. It normalizes first and then cuts at the first not-a-number, so a clip
also ends where the statistics turn a number into one: 0/0 where the standard deviation is 0.
"""

from collections.abc import Mapping

import numpy as np


class Cut:
    """The published rule for one session.

    statistics: as in `types.Recording`, axes [time ...], float64; a modality without them is only
    cut at its own NaNs.
    """

    def __init__(self, statistics: Mapping[str, Mapping[str, np.ndarray]]):
        self.scalings = _scalings(statistics)
        self._suspects = {key: _suspects(scaling) for key, scaling in self.scalings.items()}

    def frames(self, signals: Mapping[str, np.ndarray]) -> int:
        """How many leading frames the published loader keeps; signals: [time ...] without NaN.

        Computed in float64, and only in frames with unusual statistics: elsewhere a number stays
        a number.
        """
        end = min(len(signal) for signal in signals.values())
        for key, scaling in self.scalings.items():
            frames = self._suspects[key]
            frames = frames[frames < end]
            values = signals[key][frames].astype(np.float64, copy=False)
            with np.errstate(all="ignore"):
                if len(scaling) == 2:
                    mean, std = scaling
                    normal = (values - mean[frames]) / std[frames]
                else:
                    normal = values * scaling[0][frames]
            lost = frames[np.isnan(normal).any(axis=tuple(range(1, normal.ndim)))]
            end = min([end, *lost.tolist()])
        return end


def _scalings(statistics) -> dict[str, tuple[np.ndarray, ...]]:
    """(mean, std) to subtract and divide by, or (factor,) to multiply with, per modality."""
    scalings = {}
    with np.errstate(all="ignore"):
        for key in ("videos", "pupil_center"):
            if {"mean", "std"} <= statistics.get(key, {}).keys():
                scalings[key] = (statistics[key]["mean"], statistics[key]["std"])
        if "std" in statistics.get("responses", {}):
            std = statistics["responses"]["std"]
            known = std[~np.isnan(std)]
            threshold = np.float64(0.01) * known.mean() if known.size else np.float64(np.nan)
            scalings["responses"] = (np.where(std > threshold, 1 / std, 1 / threshold),)
        if "std" in statistics.get("behavior", {}):
            scalings["behavior"] = (1 / statistics["behavior"]["std"],)
    return scalings


def _suspects(scaling: tuple[np.ndarray, ...]) -> np.ndarray:
    """Frames whose statistics can turn a number into not-a-number."""
    fine = np.logical_and.reduce([np.isfinite(part) for part in scaling])
    if len(scaling) == 2:
        fine &= scaling[1] != 0
    return np.flatnonzero(~fine.reshape(len(fine), -1).all(axis=1))
