"""The statistics files of a published session: over all trials, separately for every frame.

In go values with the trials on the first axis, NaN where a trial had ended; out come mean, standard
deviation, minimum, maximum and median, NaN where no trial is left. The per-frame scaling is an
export bug that the competition's server shares (baselines 1.2), so a simulated session has it too.
"""

import numpy as np


def summaries(values: np.ndarray) -> dict[str, np.ndarray]:
    """Over the trials of [trial ...], without the NaNs: name -> [...] float64."""
    ordered = np.sort(values, axis=0)  # NaN goes to the end
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    some = np.maximum(count, 1)
    mean = np.nansum(ordered, axis=0, dtype=np.float64) / some
    variance = np.nansum((ordered - mean) ** 2, axis=0) / some
    found = {
        "mean": mean,
        "std": np.sqrt(variance),
        "min": _pick(ordered, 0 * some),
        "max": _pick(ordered, some - 1),
        "median": (_pick(ordered, (some - 1) // 2) + _pick(ordered, some // 2)) / 2,
    }
    return {name: np.where(count > 0, value, np.nan) for name, value in found.items()}


def _pick(ordered: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(ordered, index[None], axis=0)[0].astype(np.float64)
