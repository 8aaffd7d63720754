"""Spikes for tests: trains of known times, and the files that laboratories would publish."""

from pathlib import Path

import h5py
import numpy as np

from sensojax.spikes import event_writing, trains
from sensojax.spikes.events import EventStore

AREAS = ("VISp", "CA1", "LGd")


def units(seed: int = 0, neurons: int = 7, seconds: float = 40.0, rate_hz: float = 6.0) -> list:
    """Times on the grid of 30 kHz samples, one array per neuron; the third neuron is silent."""
    rng = np.random.default_rng(seed)
    found = []
    for neuron in range(neurons):
        spikes = rng.poisson(rate_hz * seconds * rng.uniform(0.2, 2.0)) * (neuron != 2)
        samples = np.sort(rng.integers(0, int(seconds * 30_000), spikes))
        found.append(samples / 30_000)
    return found


def columns(neurons: int) -> dict[str, np.ndarray]:
    number = np.arange(neurons)
    return {
        "id": number + 100,
        "probe": np.where(number < neurons // 2, "probeA", "probeB"),
        "brain_area": np.array(AREAS)[number % len(AREAS)],
        "quality": np.where(number % 2, "good", "noise"),
        "snr": number / 2.0,
    }


def session(seed: int = 0, neurons: int = 7, **about) -> trains.Trains:
    """A session of `units`; about: of `trains.of_units`, and of `units` seconds and rate_hz."""
    how = {name: about.pop(name) for name in ("seconds", "rate_hz") if name in about}
    about = {
        "component": "made",
        "subject": f"sub-{seed % 3}",
        "session": f"ses-{seed}",
        "columns": columns(neurons),
        **about,
    }
    return trains.of_units(units(seed, neurons, **how), "made-up trains", **about)


def store(folder: Path, *args, **about) -> EventStore:
    return EventStore.open(event_writing.write(folder, session(*args, **about)))


def dense(times: list, bin_s: float, num_bins: int) -> np.ndarray:
    """Counts of trains by NumPy's histogram, [neuron bin], over the published edges."""
    edges = np.arange(num_bins + 1) * bin_s
    return np.array([np.histogram(each, edges)[0] for each in times]).reshape(-1, num_bins)


def write_nwb(path: Path, times: list, subject: str = "", **table: np.ndarray) -> Path:
    """An NWB file with a units table of these times; table: its other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if subject:
            file["general/subject/subject_id"] = subject
        group = file.create_group("units")
        group["id"] = np.arange(len(times))
        group["spike_times"] = np.concatenate([np.zeros(0), *times])
        group["spike_times_index"] = np.cumsum([len(each) for each in times]).astype(np.uint32)
        for name, values in table.items():
            group[name] = values.astype("S") if values.dtype.kind == "U" else values
    return path
